"""From a pipeline and a project to one YAML file that is the whole thing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from kfp_lifecycle.compilation.component import Target, TargetName, compiling_for, components_of
from kfp_lifecycle.compilation.packing import pack_project
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.deployment import Strategy
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.runtime.closure import PACKAGE
from kfp_lifecycle.runtime.code_version import code_version
from kfp_lifecycle.runtime.contract import ContractViolation

ROOT = Path(__file__).resolve().parent.parent
PIPELINES = ("training", "monitoring", "batch_scoring", "materialization")


def pipeline_definition(name: str, target: Target) -> GraphComponent:
    """A pipeline's definition, with its components built for the target.

    kfp traces a pipeline when its module is imported, so the module is imported anew for each target.
    """
    with compiling_for(target):
        module = importlib.reload(importlib.import_module(f"{PACKAGE}.pipelines.{name}"))
    definition: GraphComponent = getattr(module, name)
    return definition


def compile_pipeline(
    name: str,
    target: TargetName,
    project: Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    image_registry: str = "",
) -> Configuration:
    """Compile one pipeline with a project inside.

    Args:
        name: One of PIPELINES.
        target: Where it will run.
        project: The project's folder.
        output: The YAML file to write; its folder is made.
        overrides: `KEY=VALUE` pairs for the embedded configuration.
        image_registry: Prefix of the environments' images; empty: steps install their pins on a stock image.

    Returns:
        The configuration inside.

    Raises:
        ConfigurationError: the project cannot be used, the target's stores are not configured, or they ask for
            something that nothing here does on that target.
    """
    configuration, files = pack_project(project, overrides)
    parameters = default_parameters(configuration, target)
    refuse_untranspilable(configuration, files, parameters.get("offline_store", "duckdb"))
    # A local run tells its steps itself: there a variable in the YAML would be part of the cache's key.
    version = "" if target == "local" else code_version(ROOT).variable()
    built_for = Target(target, image_registry, files, version)
    kubeflow = configuration.targets.kubeflow
    if target == "kubeflow" and kubeflow is not None:
        # Vertex AI has no such things, and takes no pipeline that speaks of them.
        built_for = replace(built_for, secrets=kubeflow.secrets, volumes=kubeflow.volumes)
    definition = pipeline_definition(name, built_for)
    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(definition, str(output), pipeline_parameters=parameters)
    return configuration


def recurrence(configuration: Configuration, name: str, target: TargetName) -> str:
    """The cron expression by which a pipeline recurs, as the target's scheduler reads it; empty for none.

    Args:
        configuration: The project's configuration.
        name: One of PIPELINES.
        target: Kubeflow's has seconds before it (`cron_expression` of `create_recurring_run`), Vertex AI's a time zone
            (`cron` of `PipelineJob.create_schedule`). This machine has no scheduler.
    """
    cron: str | None = getattr(configuration.schedules, name)
    if cron is None or target == "local":
        return ""
    return f"0 {cron}" if target == "kubeflow" else f"TZ=UTC {cron}"


def default_parameters(configuration: Configuration, target: TargetName) -> dict[str, str]:
    """Defaults of the pipeline's parameters: the target's stores. Local runs name theirs at each run.

    Raises:
        ConfigurationError: the project does not say where that target keeps things, or not what it can do there.
    """
    if target == "local":
        return {}
    stores: Locations | None = getattr(configuration.targets, target)
    if stores is None:
        fields = ", ".join(Locations.model_fields)
        raise ConfigurationError(
            f"the project {configuration.name} does not say where {target} keeps things: "
            f"add targets.{target} with {fields} to its pipeline.yaml"
        )
    refuse_unbuilt(configuration, stores, target)
    return stores.locations()


def refuse_unbuilt(configuration: Configuration, stores: Locations, target: TargetName) -> None:
    """Refuse what no step could do on a cluster, before anything is sent there.

    Raises:
        ConfigurationError: a release goes to a place that the target's steps do not reach, or by a strategy that the
            place does not know.
    """
    kind = stores.serving.partition(":")[0]
    key = f"targets.{target}.serving"
    if kind == "local":
        raise ConfigurationError(
            f"{key} is {stores.serving}, but a step on a cluster ends with its pod and can keep no server: "
            "name kserve:NAMESPACE or vertex:PROJECT/LOCATION"
        )
    if target == "vertex" and kind == "kserve":
        raise ConfigurationError(
            f"{key} is {stores.serving}, but a step on Vertex AI has no account in a Kubernetes cluster: "
            "name vertex:PROJECT/LOCATION, or compile for kubeflow"
        )
    if configuration.deployment.strategy is Strategy.shadow:
        raise ConfigurationError(
            f"deployment.strategy is shadow, but {stores.serving} cannot mirror requests: "
            "choose canary or blue_green (only servers on one machine mirror)"
        )


def refuse_untranspilable(configuration: Configuration, files: Mapping[str, bytes], offline_store: str) -> None:
    """Refuse definitions that the target's warehouse would not understand as DuckDB does.

    Args:
        configuration: The project's configuration.
        files: The project's files by their path in it.
        offline_store: What computes the feature views on the target.

    Raises:
        ConfigurationError: it names the file, the expression and the remedy.
    """
    dialect = {"bigquery": "bigquery", "snowflake": "snowflake", "sc": "spark"}.get(offline_store.partition(":")[0])
    if dialect is None:
        return
    # Reading SQL takes a while to import, and most projects need none of it.
    from kfp_lifecycle.features.offline.transpilation import refuse_untranspilable as refuse_query

    for name, content in files.items():
        repository = PurePosixPath(name).is_relative_to(configuration.features.repository)
        if repository and name.endswith(".sql") and name != configuration.label.query:
            try:
                refuse_query(Path(name), content.decode("utf-8"), dialect, configuration.source.tables)
            except ContractViolation as violation:
                raise ConfigurationError(str(violation)) from violation


def compile_components(target: TargetName, project: Path, folder: Path, *, image_registry: str = "") -> list[Path]:
    """Compile every component to `<folder>/<name>.yaml`, loadable by `kfp.components.load_component_from_file`."""
    _, files = pack_project(project)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, component in components_of(ROOT).items():
        file = folder / f"{name}.yaml"
        compiler.Compiler().compile(component.build(Target(target, image_registry, files)), str(file))
        written.append(file)
    return written
