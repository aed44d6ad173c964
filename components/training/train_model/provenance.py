"""Provenance of a model: what has to be had again to train it again, and what may explain a difference."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

from joblib import cpu_count

from kfp_lifecycle.artifacts.model import CodeOrigin, DataOrigin, EnvironmentOrigin, Hardware, Origin
from kfp_lifecycle.runtime.closure import module_closure
from kfp_lifecycle.runtime.code_version import CODE_VARIABLE, recorded_version

CODE = ("kfp_lifecycle.components.training.train_model.fitting",)
ENVIRONMENT_VARIABLE = "LIFECYCLE_ENVIRONMENT"
RUN_VARIABLE = "LIFECYCLE_RUN_ID"


def describe_origin(artifact_uri: str, data: DataOrigin) -> Origin:
    """The `origin` of a model, for `model.json`.

    Args:
        artifact_uri: Where the pipeline keeps the model.
        data: The data behind it.
    """
    version = recorded_version()
    return Origin(
        pipeline_run=os.environ.get(RUN_VARIABLE) or _run_of(artifact_uri),
        artifact_uri=artifact_uri,
        data=data,
        code=CodeOrigin(digest=code_digest(), commit=version.commit, changed=list(version.changed)),
        environment=EnvironmentOrigin(
            name=os.environ.get(ENVIRONMENT_VARIABLE, ""),
            digest=hashlib.sha256(requirements().encode()).hexdigest()[:12],
        ),
        hardware=hardware(),
    )


def code_digest() -> str:
    """Content digest of the step's code, as it was compiled: the code can be fetched by it.

    Where the step was told none, SHA-256 of the modules that train and all they import, the first 12 hexadecimal
    digits.
    """
    told = os.environ.get(CODE_VARIABLE)
    if told:
        return told
    digest = hashlib.sha256()
    for path, content in module_closure(CODE).items():
        for part in (path.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


@cache
def requirements() -> str:
    """The installed distributions, `name==version` a line, sorted: what a requirements file holds."""
    found = {f"{item.metadata['Name'].lower()}=={item.version}" for item in importlib.metadata.distributions()}
    return "".join(f"{line}\n" for line in sorted(found))


def hardware() -> Hardware:
    """What the numbers were computed on."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = [line for line in information.read_text("utf-8").splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return Hardware(
        cpu=cpu,
        cores=cpu_count(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=platform.platform(),
        python=platform.python_version(),
    )


def _run_of(artifact_uri: str) -> str:
    """The run in an artifact's place, which is `…/<run>/<step>/…/<artifact>` on every target."""
    parts = [part for part in artifact_uri.split("/") if part]
    steps = [place for place, part in enumerate(parts) if part.startswith("train-model") and place]
    return parts[steps[-1] - 1] if steps else ""
