"""Compile-time refusals for Vertex AI: what it would not take, or what would be lost there, said before it is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from kfp_lifecycle.compilation.compiled_file import read_documents
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.steps import StepSettings, cores, memory_bytes
from kfp_lifecycle.config.targets import VertexTarget

# The largest machine that a step gets, and how many accelerators one may have (cloud.google.com/vertex-ai/docs/
# pipelines/machine-types, …/training/configure-compute).
MOST_CORES, MOST_MEMORY = Decimal(96), 624 * 10**9
ACCELERATORS = (1, 2, 4, 8, 16)
# A pipeline's name, as Google's own client checks it.
PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
# What the run's parameters may come to (cloud.google.com/vertex-ai/docs/quotas).
MOST_IN_PARAMETERS = 10_000
# Where steps find a bucket as a folder.
BUCKETS = "/gcs/"


def refuse_lost(target: VertexTarget) -> None:
    """Refuse places that end with the step that writes them.

    Raises:
        ConfigurationError: it names the key and the remedy.
    """
    for name in ("prediction_log", "study_store", "dataset_remote", "online_store", "tracking_uri"):
        location: str = getattr(target, name)
        path = location.removeprefix("sqlite:///")
        if location and "://" not in path and not path.startswith(BUCKETS):
            raise ConfigurationError(
                f"targets.vertex.{name} is {location}, a folder of one step's machine, which ends with the step: name "
                "one below /gcs/BUCKET, as which a step finds every bucket, or a service"
            )
        if path.startswith(BUCKETS) and name in ("online_store", "tracking_uri"):
            raise ConfigurationError(
                f"targets.vertex.{name} is {location}, a database file in a bucket, which takes no changes in the "
                "midst of a file: name a server"
            )


def refuse_machines(steps: Mapping[str, StepSettings]) -> None:
    """Refuse what no machine of Vertex AI has.

    Raises:
        ConfigurationError: it names the key and the remedy.
    """
    for name, settings in steps.items():
        key = f"targets.vertex.steps.{name}"
        for setting in ("cpu", "cpu_limit"):
            value = getattr(settings, setting)
            if value and cores(value) > MOST_CORES:
                raise ConfigurationError(f"{key}.{setting} is {value}; the largest machine has {MOST_CORES} cores")
        for setting in ("memory", "memory_limit"):
            value = getattr(settings, setting)
            if value and memory_bytes(value) > MOST_MEMORY:
                most = f"{MOST_MEMORY // 10**9}G"
                raise ConfigurationError(f"{key}.{setting} is {value}; the largest machine has {most}")
        if settings.accelerator and settings.accelerator.count not in ACCELERATORS:
            raise ConfigurationError(
                f"{key}.accelerator.count is {settings.accelerator.count}; a machine has "
                f"{', '.join(map(str, ACCELERATORS[:-1]))} or {ACCELERATORS[-1]} of them"
            )


def refuse_compiled(file: Path) -> None:
    """Refuse a compiled pipeline that Vertex AI would not take.

    Raises:
        ConfigurationError: it names what is wrong and the remedy.
    """
    documents = [document for document in read_documents(file) if document]
    if len(documents) != 1:
        raise ConfigurationError(
            f"{file.name} has {len(documents)} YAML documents, and Vertex AI takes one: a component sets something of "
            "Kubernetes' (kfp.kubernetes), which it cannot have. Leave it out"
        )
    (specification,) = documents
    name = specification["pipelineInfo"]["name"]
    if not PIPELINE_NAME.fullmatch(name):
        raise ConfigurationError(
            f"the pipeline is called {name}, which is no name on Vertex AI: at most 128 small letters, digits and "
            "hyphens, a letter or digit first"
        )
    parameters = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    size = sum(len(key) + len(str(value.get("defaultValue", ""))) for key, value in parameters.items())
    if size > MOST_IN_PARAMETERS:
        raise ConfigurationError(
            f"the defaults of the pipeline's parameters come to {size} characters, and a run may have "
            f"{MOST_IN_PARAMETERS}: hand on what is larger as an artifact"
        )
