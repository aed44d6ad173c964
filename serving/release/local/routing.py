"""Envoy's clusters and routes: each version alone, its share of the traffic, and who takes over while it is down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_lifecycle.serving.client import SHADOW_HEADER, Client
from kfp_lifecycle.serving.ports import LOOPBACK

PROTOCOLS = ("rest", "grpc")

# A request with this header is answered by that version whatever the split; every answer says who gave it.
VERSION_HEADER = "x-model-version"

# A server closes an idle connection after 75 s; Envoy has to be first, or a request meets a closing connection.
IDLE_SECONDS = 30
# As long as a server takes for a large batch at the most; Envoy's own 15 s would end what it is still answering.
ANSWER_SECONDS = 60
# After a change a healthy server is known as such within one check.
CHECK_SECONDS = 1

ENVOY_TYPE = "type.googleapis.com/envoy"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Of an endpoint: which version it is.
_METADATA = "kfp-lifecycle"
_NEXT_PRIORITY = {
    "@type": f"{ENVOY_TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    "update_frequency": 1,
}
_UNLIMITED = ("max_connections", "max_pending_requests", "max_requests", "max_retries")


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
    stable: Sequence[str] = ()
    """Trusted versions, the best first: the first other one answers where a version is down."""

    def fallback(self, version: str) -> str | None:
        """Who answers in place of a version that is down."""
        return next((other for other in self.stable if other != version), None)


def server_is_ready(model: str, server: Server, timeout: float = 2.0) -> bool:
    """Whether a server itself says that it is ready."""
    with Client(server.http_port, timeout=timeout) as client:
        return client.get(ready_path(model)).status == 200


def ready_path(model: str) -> str:
    """Where a server says whether it is ready."""
    return f"/v2/models/{model}/ready"


def cluster_name(protocol: str, version: str) -> str:
    """Envoy's name for a version's server of one protocol; dots would divide the names of its statistics."""
    return f"{protocol}-{version.replace('.', '_')}"


def shared_name(protocol: str, version: str) -> str:
    """Envoy's name for a version's share of the traffic, which another version answers while this one is down."""
    return f"share-{cluster_name(protocol, version)}"


def clusters(model: str, server: Server, servers: Sequence[Server], split: Split) -> list[dict[str, Any]]:
    """A version alone, for requests that name it, and its share of the traffic, with who takes over; per protocol."""
    found = []
    # A copy is answered by nobody else. Any other version keeps who takes over: routes that change lead to it still.
    fallback = split.fallback(server.version) if server.version != split.mirror else None
    takes_over = [other for other in servers if other.version == fallback]
    for protocol in PROTOCOLS:
        found.append(cluster(cluster_name(protocol, server.version), protocol, [server]))
        shared = cluster(shared_name(protocol, server.version), protocol, [server, *takes_over])
        shared["health_checks"] = [health_check(model)]
        found.append(shared)
    return found


def cluster(name: str, protocol: str, servers: Sequence[Server]) -> dict[str, Any]:
    """A cluster of servers, each asked only while those before it are down."""
    http: dict[str, Any] = {"http2_protocol_options": {}} if protocol == "grpc" else {"http_protocol_options": {}}
    return {
        "@type": f"{ENVOY_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        # By default three requests at once may be sent again: of a server that is killed, all are.
        "circuit_breakers": {"thresholds": [dict.fromkeys(_UNLIMITED, 100_000)]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"priority": place, "lb_endpoints": [endpoint(protocol, server)]}
                for place, server in enumerate(servers)
            ],
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "explicit_http_config": http,
                "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
            }
        },
    }


def endpoint(protocol: str, server: Server) -> dict[str, Any]:
    """A server: it is checked over REST whatever it is asked by, and its version is told with each answer."""
    return {
        "endpoint": {
            "address": address(server.port(protocol)),
            "health_check_config": {"port_value": server.http_port},
        },
        "metadata": {"filter_metadata": {_METADATA: {"version": server.version}}},
    }


def health_check(model: str) -> dict[str, Any]:
    """Active checks. A server that is killed is known by its refused connections; these find one that hangs."""
    return {
        "timeout": "2s",
        "interval": f"{CHECK_SECONDS}s",
        "no_traffic_interval": f"{CHECK_SECONDS}s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": ready_path(model)},
    }


def routes(protocol: str, servers: Sequence[Server], split: Split, shadow_token: str) -> dict[str, Any]:
    """The routes of one listener: a named version answers, else the split."""
    named = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": VERSION_HEADER, "string_match": {"exact": server.version}}],
            },
            "route": {
                "cluster": cluster_name(protocol, server.version),
                "timeout": f"{ANSWER_SECONDS}s",
                "retry_policy": retries(),
            },
        }
        for server in servers
    ]
    weights = [
        {"name": shared_name(protocol, version), "weight": percent} for version, percent in split.percentages.items()
    ]
    # A connection refused: the next attempt goes to who takes over.
    elsewhere = {"name": "envoy.retry_priorities.previous_priorities", "typed_config": _NEXT_PRIORITY}
    action: dict[str, Any] = {
        "weighted_clusters": {"clusters": weights},
        "timeout": f"{ANSWER_SECONDS}s",
        "retry_policy": {**retries(), "retry_priority": elsewhere},
    }
    if split.mirror is not None:
        action["request_mirror_policies"] = [
            {
                "cluster": shared_name(protocol, split.mirror),
                "request_headers_mutations": [
                    {
                        "append": {
                            "header": {"key": SHADOW_HEADER, "value": shadow_token},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    }
                ],
            }
        ]
    everyone = {"match": {"prefix": "/"}, "route": action}
    host = {
        "name": protocol,
        "domains": ["*"],
        "routes": [*named, everyone],
        "request_headers_to_add": [asked_from()],
        "response_headers_to_add": [answered_by()],
    }
    return {
        "@type": f"{ENVOY_TYPE}.config.route.v3.RouteConfiguration",
        "name": protocol,
        "virtual_hosts": [host],
    }


def asked_from() -> dict[str, Any]:
    """The header by which servers tell clients apart; what a client says of itself is not believed."""
    address = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
    return {"header": {"key": "x-forwarded-for", "value": address}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def retries() -> dict[str, Any]:
    """Only what never reached the model is sent again: a connection refused, or closed before the request, and what a
    server that is ending turns away over gRPC (CANCELLED)."""
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request,cancelled",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.02s", "max_interval": "0.5s"},
    }


def answered_by() -> dict[str, Any]:
    """The header that names who answered."""
    return {
        "header": {"key": VERSION_HEADER, "value": f"%UPSTREAM_METADATA({_METADATA}:version)%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def address(port: int) -> dict[str, Any]:
    """A port on this machine alone."""
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
