"""Envoy proxy before the local servers: its configuration files, changed by rename, and what it counts.

The listeners never change; clusters and routes come from watched files. So the address stays while models come and go,
and a change takes effect between two requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.serving.client import SHADOW_HEADER, Client
from kfp_lifecycle.serving.ports import LOOPBACK
from kfp_lifecycle.serving.release.traffic import Counts

PROTOCOLS = ("rest", "grpc")

# A request with this header is answered by that version whatever the split; every answer says who gave it.
VERSION_HEADER = "x-model-version"

# KServe closes an idle connection after 65 s; Envoy has to be first, or a request meets a closing connection.
IDLE_SECONDS = 30
APPLIED_WITHIN_SECONDS = 20.0

_TYPE = "type.googleapis.com/envoy"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# KServe's servers load and unload models for anyone who asks; through the endpoint nobody may.
_FORBIDDEN = {"rest": "/v2/repository/", "grpc": "/inference.GRPCInferenceService/Repository"}


@dataclass(frozen=True)
class Server:
    """One version of the model and where it listens on this machine."""

    version: str
    http_port: int
    grpc_port: int

    def port(self, protocol: str) -> int:
        """The port for `rest` or `grpc`."""
        return self.http_port if protocol == "rest" else self.grpc_port


@dataclass(frozen=True)
class Split:
    """Who answers: percentages by version that sum to 100, and who sees a copy of every request."""

    percentages: Mapping[str, int]
    mirror: str | None = None


@dataclass(frozen=True)
class Listener:
    """The address people use, and Envoy's own for its statistics."""

    http_port: int
    grpc_port: int
    admin_port: int


@dataclass(frozen=True)
class Envoy:
    """The configuration of one model's Envoy, in a folder."""

    folder: Path
    model: str
    listener: Listener

    @property
    def bootstrap_file(self) -> Path:
        """What Envoy is started with."""
        return self.folder / "bootstrap.json"

    def write_bootstrap(self) -> None:
        """Write what stays as long as the address does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.bootstrap_file, json.dumps(self.bootstrap(), indent=1))

    def bootstrap(self) -> dict[str, Any]:
        """Envoy's static configuration: the two listeners, the watched files, the statistics."""
        statistics = [{"exact": "/ready"}, {"prefix": "/stats?"}]
        return {
            "node": {"id": self.model, "cluster": "kfp-lifecycle"},
            "admin": {"address": address(self.listener.admin_port), "allow_paths": statistics},
            "dynamic_resources": {"cds_config": self._watched("clusters")},
            "static_resources": {"listeners": [self._listener(protocol) for protocol in PROTOCOLS]},
        }

    def _watched(self, name: str) -> dict[str, Any]:
        return {
            "resource_api_version": "V3",
            "path_config_source": {
                "path": str(self.folder / f"{name}.json"),
                "watched_directory": {"path": str(self.folder)},
            },
        }

    def _listener(self, protocol: str) -> dict[str, Any]:
        port = self.listener.http_port if protocol == "rest" else self.listener.grpc_port
        router = {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
        }
        manager = {
            "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": protocol,
            "codec_type": "AUTO" if protocol == "rest" else "HTTP2",
            "rds": {"route_config_name": protocol, "config_source": self._watched(protocol)},
            "http_filters": [router],
        }
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        return {"name": protocol, "address": address(port), "filter_chains": [chain]}

    def publish(self, servers: Sequence[Server], split: Split) -> str:
        """Write clusters and routes; Envoy picks them up by itself.

        New clusters are written before the routes that name them, so no route ever leads nowhere. Servers that are no
        longer named are forgotten at once: call `publish` with them still in `servers` first, and stop them after.

        Returns:
            The name of this state, which `wait_until_applied` waits for.
        """
        name = str(time.time_ns())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("clusters", name, [cluster for server in servers for cluster in clusters(server)])
        for protocol in PROTOCOLS:
            self._write(protocol, name, [routes(protocol, servers, split)])
        return name

    def _write(self, file: str, name: str, resources: Sequence[Mapping[str, Any]]) -> None:
        # By rename, which is what Envoy watches for.
        content = {"version_info": name, "resources": resources}
        write_whole(self.folder / f"{file}.json", json.dumps(content, indent=1))

    def wait_until_applied(self, name: str) -> None:
        """Wait until Envoy works by the state that `publish` wrote.

        Raises:
            ContractViolation: it does not within APPLIED_WITHIN_SECONDS.
        """
        wanted = [f"http.{protocol}.rds.{protocol}.version_text" for protocol in PROTOCOLS]
        wanted.append("cluster_manager.cds.version_text")
        deadline = time.monotonic() + APPLIED_WITHIN_SECONDS
        found: dict[str, str] = {}
        while time.monotonic() < deadline:
            found = self._statistics("version_text|update_rejected")
            if all(found.get(statistic, "").strip('"') == name for statistic in wanted):
                return
            time.sleep(0.05)
        raise ContractViolation(
            f"Envoy of model {self.model} did not take the new routes within {APPLIED_WITHIN_SECONDS:.0f} s "
            f"({found or 'it does not answer'}). Its log is supervisor/logs/envoy-{self.model}.log in the serving "
            "folder; `lifecycle down` and `lifecycle serve` start it anew."
        )

    def counts(self, version: str) -> Counts:
        """Requests and errors of a version since Envoy started, mirrored requests included."""
        statistics = self._statistics(r"upstream_rq_(5xx|total)$")
        names = [cluster_name(protocol, version) for protocol in PROTOCOLS]
        return Counts(
            requests=sum(int(statistics.get(f"cluster.{name}.upstream_rq_total", 0)) for name in names),
            errors=sum(int(statistics.get(f"cluster.{name}.upstream_rq_5xx", 0)) for name in names),
        )

    def wait_until_drained(self, version: str, seconds: float) -> None:
        """Wait until a version, which gets no new requests any more, has answered its last, or the time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            active = self._statistics(r"upstream_rq_active$")
            if not any(int(active.get(f"cluster.{cluster_name(p, version)}.upstream_rq_active", 0)) for p in PROTOCOLS):
                return
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether Envoy is up and has read its files."""
        with Client(self.listener.admin_port, timeout=2) as client:
            return client.get("/ready").status == 200

    def _statistics(self, pattern: str) -> dict[str, str]:
        with Client(self.listener.admin_port, timeout=5) as client:
            answer = client.get(f"/stats?filter={quote(pattern)}")
        return dict(line.split(": ", 1) for line in answer.body.splitlines() if answer.status == 200 and ": " in line)


def cluster_name(protocol: str, version: str) -> str:
    """Envoy's name for a version's servers of one protocol; dots would divide the names of its statistics."""
    return f"{protocol}-{version.replace('.', '_')}"


def clusters(server: Server) -> list[dict[str, Any]]:
    """A version's two clusters."""
    found = []
    for protocol in PROTOCOLS:
        endpoint = {"endpoint": {"address": address(server.port(protocol))}}
        http: dict[str, Any] = {"http2_protocol_options": {}} if protocol == "grpc" else {}
        found.append(
            {
                "@type": f"{_TYPE}.config.cluster.v3.Cluster",
                "name": cluster_name(protocol, server.version),
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": cluster_name(protocol, server.version),
                    "endpoints": [{"lb_endpoints": [endpoint]}],
                },
                "typed_extension_protocol_options": {
                    _HTTP_OPTIONS: {
                        "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                        "explicit_http_config": http or {"http_protocol_options": {}},
                        "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
                    }
                },
            }
        )
    return found


def routes(protocol: str, servers: Sequence[Server], split: Split) -> dict[str, Any]:
    """The routes of one listener: nobody manages models through it, a named version answers, else the split."""
    forbidden = {"match": {"prefix": _FORBIDDEN[protocol]}, "direct_response": {"status": 403}}
    named = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": VERSION_HEADER, "string_match": {"exact": server.version}}],
            },
            "route": {"cluster": cluster_name(protocol, server.version), "retry_policy": retries()},
            "response_headers_to_add": [answered_by(server.version)],
        }
        for server in servers
    ]
    weights = [
        {
            "name": cluster_name(protocol, version),
            "weight": percent,
            "response_headers_to_add": [answered_by(version)],
        }
        for version, percent in split.percentages.items()
    ]
    action: dict[str, Any] = {"weighted_clusters": {"clusters": weights}, "retry_policy": retries()}
    if split.mirror is not None:
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(protocol, split.mirror),
                "request_headers_mutations": [
                    {
                        "append": {
                            "header": {"key": SHADOW_HEADER, "value": "true"},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    }
                ],
            }
        ]
    everyone = {"match": {"prefix": "/"}, "route": action}
    host = {"name": protocol, "domains": ["*"], "routes": [forbidden, *named, everyone]}
    return {
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": protocol,
        "virtual_hosts": [host],
    }


def retries() -> dict[str, Any]:
    """Only what never reached the model is sent again: a connection refused, or closed before the request."""
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
    }


def answered_by(version: str) -> dict[str, Any]:
    """The header that names who answered."""
    return {"header": {"key": VERSION_HEADER, "value": version}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def address(port: int) -> dict[str, Any]:
    """A port on this machine alone."""
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
