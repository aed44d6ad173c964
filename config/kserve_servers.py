"""Configuration of a model's servers on a cluster with KServe."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from kfp_lifecycle.config.section import Section, text
from kfp_lifecycle.config.steps import Cpu, Memory, cores, memory_bytes

AccountName = Annotated[
    str,
    text(
        r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$",
        "Kubernetes names it in small letters, digits and hyphens, with a letter or digit first and last; dots are "
        "allowed",
    ),
]
PinnedImage = Annotated[
    str,
    text(
        r"^([^\s@]+@sha256:[0-9a-f]{64})?$",
        "it ends with the image's digest, @sha256:…, so that every pod runs the same; `crane digest IMAGE` prints it",
    ),
]

PrometheusAddress = Annotated[str, text(r"^(https?://[^\s?#]+)?$", "Prometheus is at http://HOST:PORT, or at https://")]
CollectorAddress = Annotated[str, text(r"^(http://[^\s?#@]+)?$", "a collector is at http://HOST:PORT")]


class Mode(StrEnum):
    """What KServe makes of a service."""

    knative = "knative"
    standard = "standard"


class Scaling(Section):
    """By what the number of pods is chosen."""

    metric: Literal["concurrency", "rps", "cpu", "memory"]
    """`concurrency` (requests at once) and `rps` (requests per second) are Knative's; `cpu` and `memory` are counted in
    percent of what a pod requests."""
    target: PositiveInt
    """How much of it each pod is to have."""

    @model_validator(mode="after")
    def _a_percentage_is_one(self) -> Self:
        if self.metric in ("cpu", "memory") and self.target > 100:
            raise ValueError(f"target ({self.target}) is in percent of what a pod requests: at most 100")
        return self


class KServeServers(Section):
    """What models are served on, on a cluster with KServe. How many pods there are says `deployment`."""

    mode: Mode = Mode.knative
    """`knative`: revisions, and pods that can go to zero; REST only, since Knative takes one port. `standard`:
    Deployments behind a Gateway (KServe after 0.20, with the Gateway API), REST and gRPC, and shadow releases."""
    image: PinnedImage = ""
    """The image that servers run on, by its digest; by default the one that the pipeline was compiled with."""
    cpu: Cpu = "250m"
    """The cores that are kept for each pod."""
    cpu_limit: Cpu | None = "1"
    """The most that it may use."""
    memory: Memory = "512Mi"
    """The memory that is kept for it."""
    memory_limit: Memory = "1Gi"
    """The most that it may use, above which it is ended."""
    concurrency: PositiveInt | None = None
    """Requests that a pod may have at once, the others wait; by default as many as come. Knative's."""
    timeout_seconds: PositiveInt = 60
    """What takes longer is ended by the cluster."""
    service_account: AccountName = ""
    """The account that pods work as: the storage initializer takes the object store's endpoint and keys from its
    secrets (docs/cluster-releases.md). By default the namespace's `default`."""
    scaling: Scaling | None = None
    """By what the number of pods is chosen; by default what the cluster is set to, and 80% of CPU in the mode
    `standard`, where a HorizontalPodAutoscaler does it."""
    prometheus: PrometheusAddress = ""
    """Prometheus that scrapes the servers, as the release's pod reaches it: what people ask of candidate and champion
    decides a release too. Without it only the release's own requests do, and rows of the prediction log."""
    log_collector: CollectorAddress = ""
    """The collector (`deploy/components/payload-logger`) that writes the prediction log, by what KServe's payload
    logger sends it from each pod: servers need no volume and no keys for it then. It sees no features that servers look
    up (docs/cluster-releases.md), and is Knative's. By default servers write the log."""
    max_unavailable: int = Field(default=1, ge=1)
    """Pods that may be away at once while nodes are drained (a PodDisruptionBudget)."""

    @model_validator(mode="after")
    def _limits_are_no_less_than_requests(self) -> Self:
        if self.cpu_limit and cores(self.cpu_limit) < cores(self.cpu):
            raise ValueError(f"cpu_limit ({self.cpu_limit}) is below cpu ({self.cpu}); raise it, or leave it out")
        if memory_bytes(self.memory_limit) < memory_bytes(self.memory):
            raise ValueError(f"memory_limit ({self.memory_limit}) is below memory ({self.memory}); raise it")
        return self

    @model_validator(mode="after")
    def _what_the_mode_has(self) -> Self:
        if self.mode is Mode.standard and self.concurrency:
            raise ValueError("concurrency is Knative's: leave it out, or choose the mode knative")
        if self.mode is Mode.standard and self.log_collector:
            raise ValueError(
                "log_collector is Knative's: in the mode standard KServe's Service of a canary leads past its payload "
                "logger, and what a candidate answers would be in no log. Leave it out, or choose the mode knative"
            )
        if self.mode is Mode.standard and self.scaling and self.scaling.metric in ("concurrency", "rps"):
            raise ValueError(f"scaling.metric {self.scaling.metric} is Knative's: choose cpu or memory")
        return self
