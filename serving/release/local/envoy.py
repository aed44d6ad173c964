"""Envoy proxy before the local servers: its configuration files, changed by rename, and what it counts.

The listeners never change; clusters and routes come from watched files. So the address stays while models come and go,
and a change takes effect between two requests. Two processes listen at each address (SO_REUSEPORT), by the same files:
where one is killed, the other answers until it is back.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kfp_lifecycle.config.model_server import Tls
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.runtime.outputs import write_whole
from kfp_lifecycle.serving.client import Client, unverified
from kfp_lifecycle.serving.ports import CANDIDATES, free_ports, is_free
from kfp_lifecycle.serving.release.local.routing import (
    ENVOY_TYPE,
    PROTOCOLS,
    Server,
    Split,
    address,
    cluster_name,
    clusters,
    routes,
    server_is_ready,
    shared_name,
)
from kfp_lifecycle.serving.release.local.shadow import shadow_token
from kfp_lifecycle.serving.release.traffic import Counts

FRONTS = 2
APPLIED_WITHIN_SECONDS = 60.0
# Within these a client must have sent its headers, and all of its request: one that dawdles holds no connection.
HEADERS_SECONDS, REQUEST_SECONDS = 10, 60
KNOWN_WITHIN_SECONDS = 3.0
# A tenth apart, up to 12 s: so fine can two versions' latencies be compared.
LATENCY_BOUNDS_MS = tuple(round(1.1**step, 3) for step in range(100))
# What Prometheus reads: fine enough around what alerts tell of.
ANSWERED_BOUNDS_MS = (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 750,
                      1000, 1500, 2000, 3000, 5000, 10_000, 20_000, 30_000, 60_000)  # fmt: skip
# Where Prometheus reads them: so far beyond the endpoint's port, one for each process; another where it is not free.
STATISTICS_PORTS_BEYOND = 1000
_ERROR_FORMAT = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}
_CERTIFICATE = "certificate"
_TLS_TYPE = f"{ENVOY_TYPE}.extensions.transport_sockets.tls.v3"
# `B5(interval,cumulative)`
_BUCKET = re.compile(r"B([\d.e+]+)\(\d+,(\d+)\)")


@dataclass(frozen=True)
class Certificate:
    """Files, in PEM, of what the endpoint shows of itself."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Listener:
    """The address people use, and each process's own for its statistics."""

    http_port: int
    grpc_port: int
    admin_ports: tuple[int, ...]
    tls: Certificate | None = None
    """None: people ask in the clear."""

    def client(self, timeout: float = 10.0) -> Client:
        """A connection to it. Whose name the certificate bears matters to nobody on the same machine."""
        return Client(self.http_port, timeout=timeout, tls=None if self.tls is None else unverified())


def certificate_of(setting: Tls | None) -> Certificate | None:
    """What the endpoint is to show of itself.

    Raises:
        ContractViolation: it cannot be read, or certificate and key do not belong together.
    """
    if setting is None:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(setting.certificate, setting.key, lambda: "")
    except (OSError, ValueError) as error:
        raise ContractViolation(
            f"deployment.server.tls names {setting.certificate} and {setting.key}, which cannot be used: {error}. Give "
            "both as PEM, the key without a password"
        ) from error
    return Certificate(setting.certificate, setting.key)


def statistics_ports(http_port: int) -> tuple[int, ...]:
    """The ports for the statistics of a new endpoint, which stay while it does."""
    wanted = [http_port + STATISTICS_PORTS_BEYOND + front for front in range(FRONTS)]
    others = iter(free_ports(FRONTS))
    # Beyond the candidates a system takes ports for connections, and what is free now need not be when Envoy starts.
    return tuple(port if port < CANDIDATES.stop and is_free(port) else next(others) for port in wanted)


@dataclass(frozen=True)
class Envoy:
    """The configuration of one model's Envoys, in a folder."""

    folder: Path
    model: str
    listener: Listener

    def bootstrap_file(self, front: int) -> Path:
        """What one of the processes is started with."""
        return self.folder / f"bootstrap-{front}.json"

    def write_bootstrap(self) -> None:
        """Write what stays as long as the address does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for front, admin_port in enumerate(self.listener.admin_ports, start=1):
            write_whole(self.bootstrap_file(front), json.dumps(self.bootstrap(admin_port), indent=1))
        if self.listener.tls is not None:
            write_whole(self.folder / "secrets.json", json.dumps({"resources": [_secret(self.listener.tls)]}, indent=1))

    def bootstrap(self, admin_port: int) -> dict[str, Any]:
        """Envoy's static configuration: the two listeners, the watched files, the statistics."""
        statistics = [{"exact": "/ready"}, {"prefix": "/stats?"}]
        return {
            "node": {"id": self.model, "cluster": "kfp-lifecycle"},
            "admin": {"address": address(admin_port), "allow_paths": statistics},
            # How long ago the newest request is that histograms know of; counters know of all.
            "stats_flush_interval": "1s",
            "stats_config": {
                "histogram_bucket_settings": [
                    {"match": {"suffix": "upstream_rq_time"}, "buckets": list(LATENCY_BOUNDS_MS)},
                    {"match": {"suffix": "downstream_rq_time"}, "buckets": list(ANSWERED_BOUNDS_MS)},
                ]
            },
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
            "typed_config": {"@type": f"{ENVOY_TYPE}.extensions.filters.http.router.v3.Router"},
        }
        manager = {
            "@type": f"{ENVOY_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": protocol,
            "codec_type": "AUTO" if protocol == "rest" else "HTTP2",
            "rds": {"route_config_name": protocol, "config_source": self._watched(protocol)},
            "http_filters": [router],
            "request_headers_timeout": f"{HEADERS_SECONDS}s",
            "request_timeout": f"{REQUEST_SECONDS}s",
            # What Envoy itself answers has the shape of all errors; over gRPC it is the status's words.
            **({"local_reply_config": {"body_format": _ERROR_FORMAT}} if protocol == "rest" else {}),
        }
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        chain: dict[str, Any] = {"filters": filters}
        if self.listener.tls is not None:
            chain["transport_socket"] = self._tls(["h2", "http/1.1"] if protocol == "rest" else ["h2"])
        return {"name": protocol, "address": address(port), "filter_chains": [chain], "enable_reuse_port": True}

    def _tls(self, protocols: Sequence[str]) -> dict[str, Any]:
        """TLS for people, by the certificate that `secrets.json` names."""
        common = {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": list(protocols),
            "tls_certificate_sds_secret_configs": [{"name": _CERTIFICATE, "sds_config": self._watched("secrets")}],
        }
        context = {"@type": f"{_TLS_TYPE}.DownstreamTlsContext", "common_tls_context": common}
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}

    def write(self, servers: Sequence[Server], split: Split) -> str:
        """Write clusters and routes, for an Envoy that is yet to start.

        Returns:
            The name of this state.
        """
        name = str(time.time_ns())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("clusters", name, self._clusters(servers, split))
        self._write_routes(name, servers, split)
        return name

    def publish(self, servers: Sequence[Server], split: Split) -> None:
        """Change clusters and routes of running Envoys, and wait until they work by them.

        One that is down reads the files when it starts.

        A new cluster is unknown to routes until its servers were checked, so the routes that name it are written after
        that. Servers that are no longer named are forgotten at once: call `publish` with them still in `servers` first,
        and stop them after.

        Raises:
            ContractViolation: Envoy does not take it within APPLIED_WITHIN_SECONDS.
        """
        name = str(time.time_ns())
        self._write("clusters", name, self._clusters(servers, split))
        self._wait_until_applied(name, ["cluster_manager.cds.version_text"])
        self._wait_until_known(servers, split)
        self._write_routes(name, servers, split)
        self._wait_until_applied(name, [f"http.{protocol}.rds.{protocol}.version_text" for protocol in PROTOCOLS])

    def _clusters(self, servers: Sequence[Server], split: Split) -> list[dict[str, Any]]:
        return [cluster for server in servers for cluster in clusters(self.model, server, servers, split)]

    def _write_routes(self, name: str, servers: Sequence[Server], split: Split) -> None:
        token = shadow_token(self.folder.parent.parent)
        for protocol in PROTOCOLS:
            self._write(protocol, name, [routes(protocol, servers, split, token)])

    def _write(self, file: str, name: str, resources: Sequence[Mapping[str, Any]]) -> None:
        # By rename, which is what Envoy watches for.
        content = {"version_info": name, "resources": resources}
        write_whole(self.folder / f"{file}.json", json.dumps(content, indent=1))

    def _wait_until_applied(self, name: str, wanted: Sequence[str]) -> None:
        def applied(found: Mapping[str, str]) -> bool:
            warm = found.get("cluster_manager.warming_clusters") == "0"
            return warm and all(found.get(statistic, "").strip('"') == name for statistic in wanted)

        deadline = time.monotonic() + APPLIED_WITHIN_SECONDS
        found: dict[int, dict[str, str]] = {}
        while time.monotonic() < deadline:
            found = self._statistics("version_text|update_rejected|warming_clusters")
            if found and all(applied(statistics) for statistics in found.values()):
                return
            time.sleep(0.02)
        raise ContractViolation(
            f"Envoy of model {self.model} did not take the new routes within {APPLIED_WITHIN_SECONDS:.0f} s "
            f"({found or 'it does not answer'}). Its logs are supervisor/logs/envoy-{self.model}-*.log in the serving "
            "folder; `lifecycle down` and `lifecycle serve` start it anew."
        )

    def _wait_until_known(self, servers: Sequence[Server], split: Split) -> None:
        """Wait until Envoy, too, has found healthy what answers that it is ready; not for long, and for nothing else.

        Else the first requests to a new version would be answered by the one that takes over for it.
        """
        ready = {server.version: server_is_ready(self.model, server) for server in servers}
        wanted: dict[str, int] = {}
        for version in split.percentages:
            members = (version, split.fallback(version))
            healthy = sum(ready.get(member, False) for member in members if member is not None)
            wanted |= {
                f"cluster.{shared_name(protocol, version)}.membership_healthy": healthy for protocol in PROTOCOLS
            }
        deadline = time.monotonic() + KNOWN_WITHIN_SECONDS
        while time.monotonic() < deadline:
            found = self._statistics("membership_healthy").values()
            if all(int(front.get(statistic, 0)) >= healthy for front in found for statistic, healthy in wanted.items()):
                return
            time.sleep(0.05)

    def counts(self, version: str) -> dict[int, Counts]:
        """The version's share of the traffic, mirrored requests included, by process since it started."""
        pattern = quote(r"upstream_rq_(4xx|5xx|completed|time)$")
        answered = self._answered(f"filter={pattern}&histogram_buckets=cumulative")
        return {front: self._counted(version, found) for front, found in answered.items()}

    def _counted(self, version: str, found: Mapping[str, str]) -> Counts:
        names = [f"cluster.{shared_name(protocol, version)}.upstream_rq" for protocol in PROTOCOLS]
        slower: dict[float, int] = {}
        for name in names:
            cumulative = [(float(bound), int(n)) for bound, n in _BUCKET.findall(found.get(f"{name}_time", ""))]
            for bound, count in cumulative:
                slower[bound] = slower.get(bound, 0) + cumulative[-1][1] - count

        def total(statistic: str) -> int:
            return sum(int(found.get(f"{name}_{statistic}", 0)) for name in names)

        return Counts(total("completed"), total("5xx"), total("4xx"), slower)

    def wait_until_drained(self, version: str, seconds: float) -> None:
        """Wait until a version, which gets no new requests any more, has answered its last, or the time is up."""
        names = [name(protocol, version) for protocol in PROTOCOLS for name in (cluster_name, shared_name)]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            active = self._statistics(r"upstream_rq_active$").values()
            if not any(int(front.get(f"cluster.{name}.upstream_rq_active", 0)) for front in active for name in names):
                return
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether one of the processes is up and has read its files: people are answered."""
        return any(self._ready())

    def is_whole(self) -> bool:
        """Whether all of them are."""
        return all(self._ready())

    def _ready(self) -> Iterator[bool]:
        for admin_port in self.listener.admin_ports:
            with Client(admin_port, timeout=2) as client:
                yield client.get("/ready").status == 200

    def _statistics(self, pattern: str) -> dict[int, dict[str, str]]:
        return self._answered(f"filter={quote(pattern)}")

    def _answered(self, query: str) -> dict[int, dict[str, str]]:
        """Statistics by process, of those that answer."""
        found: dict[int, dict[str, str]] = {}
        for admin_port in self.listener.admin_ports:
            with Client(admin_port, timeout=5) as client:
                answer = client.get(f"/stats?{query}")
            if answer.status == 200:
                found[admin_port] = dict(line.split(": ", 1) for line in answer.body.splitlines() if ": " in line)
        return found


def _secret(tls: Certificate) -> dict[str, Any]:
    """A certificate as Envoy keeps it: read again when something is renamed into its folder."""
    return {
        "@type": f"{_TLS_TYPE}.Secret",
        "name": _CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": {"filename": tls.certificate},
            "private_key": {"filename": tls.key},
            "watched_directory": {"path": str(Path(tls.certificate).parent)},
        },
    }
