"""Configuration of a step's pod on a cluster: its resources, where it runs, how long, how often."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

from kfp_lifecycle.config.section import Section, text

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_SPELLED = "at most 63 letters, digits, dots, hyphens and underscores, with a letter or digit first and last"
LabelKey = Annotated[
    str,
    text(
        rf"^([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}$",
        f"a label's key has {_SPELLED}, and may have a domain and a slash before it",
    ),
]
LabelValue = Annotated[str, text(rf"^({_NAME})?$", f"a label's value is empty or has {_SPELLED}")]

# The key of `steps` that stands for all.
DEFAULT = "default"

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 10**6, "G": 10**9, "T": 10**12}


def _as_text(value: Any) -> Any:
    """A number of YAML as text."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _cpu(value: str) -> str:
    if not re.fullmatch(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?", value) or not cores(value):
        raise ValueError("CPU is counted in cores, such as 2 or 0.5, or in thousandths of one, such as 500m")
    return value


def _memory(value: str) -> str:
    if not re.fullmatch(rf"[1-9][0-9]*({'|'.join(UNITS)})", value):
        raise ValueError("memory is a whole number with its unit, such as 512Mi or 4Gi")
    return value


def cores(value: str) -> Decimal:
    """A CPU quantity in cores."""
    return Decimal(value[:-1]) / 1000 if value.endswith("m") else Decimal(value)


def memory_bytes(value: str) -> int:
    """A memory quantity in bytes."""
    number, unit = re.fullmatch(r"([0-9]+)([A-Za-z]+)", value).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


_SCHEMA = WithJsonSchema({"type": ["string", "number"]})
Cpu = Annotated[str, BeforeValidator(_as_text), AfterValidator(_cpu), _SCHEMA]
Memory = Annotated[str, BeforeValidator(_as_text), AfterValidator(_memory), _SCHEMA]


class Accelerator(Section):
    """Accelerators of a step."""

    type: Annotated[
        str,
        text(r"^[A-Za-z0-9._/-]+$", "it is a resource's name, such as nvidia.com/gpu, or Vertex AI's own for its kind"),
    ]
    """Their kind: on Kubeflow the resource that nodes offer (`nvidia.com/gpu`), on Vertex AI its own name
    (`NVIDIA_TESLA_T4`)."""
    count: PositiveInt = 1
    """How many."""


class Toleration(Section):
    """A taint of nodes that a step puts up with, in Kubernetes' words."""

    key: str = ""
    """The taint's key; empty, with the operator `Exists`, is every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the taint's value counts."""
    value: str = ""
    """The taint's value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The taint's effect; empty is every effect."""
    toleration_seconds: PositiveInt | None = None
    """How long it puts up with `NoExecute`; by default for ever."""

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists takes no value: leave value out, or use Equal")
        if self.operator == "Equal" and not self.key:
            raise ValueError("operator Equal needs the taint's key; Exists without a key is every taint")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds belongs to the effect NoExecute")
        return self


class StepSettings(Section):
    """What a step's pod is given on a cluster. What is left out comes from `default`, and then from the library."""

    cpu: Cpu | None = None
    """The cores that are kept for it (its request): `2`, `0.5` or `500m`."""
    cpu_limit: Cpu | None = None
    """The most that it may use. None by default: a limit slows a step down while cores are idle. On Vertex AI, where
    it chooses the machine, it is `cpu`."""
    memory: Memory | None = None
    """The memory that is kept for it (its request): `512Mi` or `4Gi`."""
    memory_limit: Memory | None = None
    """The most that it may use, above which it is ended. By default what `memory` says, where that is set."""
    accelerator: Accelerator | None = None
    """Accelerators; they need an image that has their drivers' libraries."""
    retries: int | None = Field(default=None, ge=0, le=10)
    """How often its pod is started again. A cluster does not know why a step failed: Vertex AI repeats a refused batch
    like a lost machine; a Kubeflow as it is installed repeats only pods that were lost, and those twice by itself
    (docs/clusters.md). What a network does is retried inside the step without it."""
    backoff_seconds: int | None = Field(default=None, ge=1, le=3600)
    """The wait before the first retry, by default 60; it doubles each time."""
    timeout_seconds: PositiveInt | None = None
    """After how many seconds its pod is ended, the time that it waits for its image included; on Kubeflow."""
    node_selector: dict[LabelKey, LabelValue] | None = None
    """Labels of the nodes that it may run on; on Kubeflow."""
    tolerations: list[Toleration] | None = None
    """Taints of nodes that it puts up with; on Kubeflow."""
    cache: bool | None = None
    """Whether what an earlier run made of the same inputs is taken over. False makes it run each time; a step that is
    never cached cannot be made to."""

    def over(self, below: StepSettings) -> StepSettings:
        """These settings, and where they say nothing those below; a request below that is above a limit here, or the
        other way round, gives way."""
        said, inherited = self.model_dump(exclude_none=True), below.model_dump(exclude_none=True)
        merged = inherited | said
        for request, size in (("cpu", cores), ("memory", memory_bytes)):
            limit = f"{request}_limit"
            if request in merged and limit in merged and size(merged[limit]) < size(merged[request]):
                del merged[limit if request in said else request]
        return StepSettings.model_validate(merged)

    @model_validator(mode="after")
    def _limits_are_no_less_than_requests(self) -> Self:
        if self.cpu and self.cpu_limit and cores(self.cpu_limit) < cores(self.cpu):
            raise ValueError(f"cpu_limit ({self.cpu_limit}) is below cpu ({self.cpu}); raise it, or leave it out")
        if self.memory and self.memory_limit and memory_bytes(self.memory_limit) < memory_bytes(self.memory):
            raise ValueError(
                f"memory_limit ({self.memory_limit}) is below memory ({self.memory}); raise it, or leave it out"
            )
        return self
