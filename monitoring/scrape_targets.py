"""What Prometheus reads on this machine: model servers, the fronts before them, and `lifecycle dashboard`.

A release starts a server at another port, so Prometheus asks for the addresses (`http_sd_configs`) instead of being
told them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from kfp_lifecycle.serving.ports import LOOPBACK

if TYPE_CHECKING:
    from kfp_lifecycle.serving.release.local.state import Release

PORT = 8100
"""Where `lifecycle dashboard` answers."""
SERVERS, FRONTS, OWN = "model-servers", "fronts", "lifecycle"
# Of some thousand statistics of an Envoy, those that a panel or an alert asks for.
FRONT_PATH = "/stats"
FRONT_STATISTICS = r"^http\.(rest|grpc)\.downstream_rq_(time|[1-5]xx|active)$"
TARGETS_PATH = "/targets/"

Kind = Literal["model-servers", "fronts"]


@dataclass(frozen=True)
class Target:
    """Something that has metrics."""

    kind: Kind
    port: int
    labels: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """Where they are."""
        return (
            "/metrics" if self.kind == SERVERS else f"{FRONT_PATH}?format=prometheus&filter={quote(FRONT_STATISTICS)}"
        )


def targets(releases: Sequence[Release]) -> list[Target]:
    """Those of what is released, by its records."""
    return list(_targets(releases))


def _targets(releases: Sequence[Release]) -> Iterator[Target]:
    for release in releases:
        for server in release.servers:
            # A previous version may be down, and that is no news.
            if server.version in release.needed:
                labels = (("model_name", release.model), ("model_version", server.version))
                yield Target("model-servers", server.http_port, labels)
        for port in release.listener.admin_ports:
            yield Target("fronts", port, (("model_name", release.model),))


def discovered(found: Sequence[Target], kind: str) -> list[dict[str, Any]]:
    """As Prometheus's HTTP service discovery has them."""
    return [
        {"targets": [f"{LOOPBACK}:{target.port}"], "labels": dict(target.labels)}
        for target in found
        if target.kind == kind
    ]


def prometheus_configuration(rules_file: str, seconds: int = 15, port: int = PORT) -> dict[str, Any]:
    """A whole `prometheus.yml` for this machine.

    Args:
        rules_file: The file with the alerting rules.
        seconds: How often all is read.
        port: Where `lifecycle dashboard` answers.
    """
    dashboard = f"{LOOPBACK}:{port}"

    def found_at(kind: str) -> list[dict[str, Any]]:
        return [{"url": f"http://{dashboard}{TARGETS_PATH}{kind}", "refresh_interval": f"{seconds}s"}]

    return {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": [rules_file],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{LOOPBACK}:9093"]}]}]},
        "scrape_configs": [
            {"job_name": OWN, "honor_labels": True, "static_configs": [{"targets": [dashboard]}]},
            {"job_name": SERVERS, "honor_labels": True, "http_sd_configs": found_at(SERVERS)},
            {
                "job_name": FRONTS,
                "metrics_path": FRONT_PATH,
                "params": {"format": ["prometheus"], "filter": [FRONT_STATISTICS]},
                "http_sd_configs": found_at(FRONTS),
            },
        ],
    }
