"""Compilation of pipelines: a project and a target in, one YAML file out, and what has to be uploaded beside it."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from kfp_lifecycle.compilation import training_pipeline
from kfp_lifecycle.compilation.builder import build
from kfp_lifecycle.compilation.code import (
    digest_of,
    environment_archive,
    library_digest,
    write_folder,
    zipped,
)
from kfp_lifecycle.compilation.definitions import read_definitions
from kfp_lifecycle.compilation.parameters import Parameter, parameters_of
from kfp_lifecycle.compilation.refusals import (
    refuse_unbuilt,
    refuse_unknown_secrets,
    refuse_unsettled,
    refuse_untranspilable,
)
from kfp_lifecycle.compilation.step_pods import labels_of
from kfp_lifecycle.compilation.target import LOCAL, Target, Vehicle, compiling_for
from kfp_lifecycle.compilation.vertex_refusals import refuse_compiled, refuse_lost, refuse_machines
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.config.targets import ClusterTarget, TargetName, VertexTarget
from kfp_lifecycle.data.source_version import local_source
from kfp_lifecycle.runtime.closure import PACKAGE, ROOT
from kfp_lifecycle.runtime.code_version import code_version
from kfp_lifecycle.runtime.component import LifecycleComponent
from kfp_lifecycle.runtime.state_folder import state_folder

PIPELINES = ("training", "monitoring", "batch_scoring", "materialization")


@dataclass(frozen=True)
class Upload:
    """A content-addressed file, or folder of files, that the steps of a compiled pipeline fetch."""

    name: str
    """What it is: `code-modelling`, `feature_repo`."""
    uri: str
    """Where the pipeline expects it."""
    files: Mapping[str, bytes]
    """Content by path below the URI; the path is empty where the URI is a file's own."""

    def write(self, folder: Path, root: str) -> None:
        """Write its files below a folder that stands for the upload root."""
        place = folder / self.uri.removeprefix(f"{root}/")
        for path, content in self.files.items():
            file = place / path if path else place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


@dataclass(frozen=True)
class CompiledPipeline:
    """What compiling a pipeline gives beside its YAML file."""

    configuration: Configuration
    uploads: tuple[Upload, ...] = ()
    """What has to be there before the pipeline runs."""
    upload_root: str = ""
    """Where all of it belongs; empty where nothing has to be uploaded."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """What a run of it may be given, by name."""


def compile_pipeline(
    name: str,
    target: TargetName,
    project: Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    vehicle: Vehicle | None = None,
    image_registry: str = "",
    state: Path | None = None,
) -> CompiledPipeline:
    """Compile one pipeline for a project.

    Args:
        name: One of PIPELINES.
        target: Where it will run.
        project: The project's folder.
        output: The YAML file to write; its folder is made.
        overrides: `KEY=VALUE` pairs for the configuration.
        vehicle: How code reaches the steps on a cluster: `image`, in the environments' images, or `artifact`, in an
            archive that each step is given. By default `image` where there is a registry.
        image_registry: Registry and prefix of the environments' images; by default the target's own.
        state: For `local`, the folder that code and definitions are kept in.

    Returns:
        The configuration, and what has to be uploaded. For `local` all of it is in its place already.

    Raises:
        ConfigurationError: the project cannot be used, the target's locations are not configured, or they ask for
            something that nothing here does on that target.
    """
    configuration = load_configuration(project, overrides)
    definitions = read_definitions(project, configuration)
    if target == "local":
        state = state or state_folder()
        source = local_source(configuration.source, project)
        here = configuration.model_copy(update={"source": source})
        uploads: list[Upload] = []
        if name == training_pipeline.ASKING:
            definitions |= {training_pipeline.NAME: training_pipeline.training_files(configuration.name, target)}
        built_for = _local_target(here, definitions, state)
    else:
        image_registry = image_registry or cluster_target(configuration, target).image_registry
        vehicle = vehicle or ("image" if image_registry else "artifact")
        if vehicle == "image" and not image_registry:
            raise ConfigurationError(
                "code in images needs to know where they are: name the registry, with --image-registry or in "
                f"targets.{target}.image_registry"
            )
        training: list[Upload] = []
        if name == training_pipeline.ASKING:
            files, training = _training(target, project, configuration, overrides, vehicle, image_registry)
            definitions |= {training_pipeline.NAME: files}
        built_for, uploads = _cluster_target(name, target, configuration, definitions, vehicle, image_registry)
        uploads += [item for item in training if item not in uploads]
    output.parent.mkdir(parents=True, exist_ok=True)
    definition = pipeline_definition(name, built_for)
    if built_for.kubeflow and built_for.kubeflow.workflow_ttl_seconds:
        kept = definition.platform_spec.platforms["kubernetes"].pipelineConfig
        # All three: Argo merges what is left out with what the Kubeflow says of it.
        kept.resource_ttl_on_completion = built_for.kubeflow.workflow_ttl_seconds
        kept.resource_ttl_on_success = kept.resource_ttl_on_failure = kept.resource_ttl_on_completion
    compiler.Compiler().compile(definition, str(output))
    if target == "vertex":
        refuse_compiled(output)
    root = cluster_target(configuration, target).upload_root if uploads else ""
    return CompiledPipeline(configuration, tuple(uploads), root, parameters_of(definition.pipeline_spec))


def _training(
    target: TargetName,
    project: Path,
    configuration: Configuration,
    overrides: Sequence[str],
    vehicle: Vehicle,
    image_registry: str,
) -> tuple[dict[str, bytes], list[Upload]]:
    """What monitoring starts the training pipeline by, and what that one's steps fetch."""
    cluster = cluster_target(configuration, target)
    if configuration.monitoring.retraining.mode == "off":
        return training_pipeline.training_files(configuration.name, target, cluster), []
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        file = Path(folder) / "training.yaml"
        compiled = compile_pipeline(
            "training", target, project, file, overrides=overrides, vehicle=vehicle, image_registry=image_registry
        )
        files = training_pipeline.training_files(configuration.name, target, cluster, file)
    return files, list(compiled.uploads)


def _local_target(configuration: Configuration, definitions: Mapping[str, Mapping[str, bytes]], state: Path) -> Target:
    uris = {}
    for name, files in definitions.items():
        folder = state / "definitions" / f"{name}-{digest_of(files)[:12]}"
        write_folder(files, folder)
        # A label query is a file.
        uris[name] = str(folder / next(iter(files)) if name == "label_query" else folder)
    return replace(LOCAL, state=state, configuration=configuration, definitions=uris, imported={})


def _cluster_target(
    name: str,
    target: TargetName,
    configuration: Configuration,
    definitions: Mapping[str, Mapping[str, bytes]],
    vehicle: Vehicle,
    image_registry: str,
) -> tuple[Target, list[Upload]]:
    cluster = cluster_target(configuration, target)
    refuse_unbuilt(configuration, cluster, target)
    refuse_unknown_secrets(configuration, cluster)
    refuse_unsettled(cluster.steps, components(), target)
    if isinstance(cluster, VertexTarget):
        refuse_lost(cluster)
        refuse_machines(cluster.steps)
    refuse_untranspilable(configuration, definitions["feature_repo"], cluster.offline_store)
    root = cluster.upload_root
    # Every pipeline of a project fetches the same files, and each only what its steps read.
    uploads = [_definition_upload(root, what, files) for what, files in definitions.items()]
    code = []
    if vehicle == "artifact":
        here = {item.environment for item in components_in(name, configuration) if not item.standalone}
        code = [code_upload(root, environment) for environment in sorted(here)]
    version = code_version(ROOT)
    built_for = Target(
        target,
        vehicle,
        image_registry=image_registry,
        stock_image=cluster.stock_image,
        library_digest=library_digest(),
        configuration=configuration,
        locations=Locations.model_validate(cluster.model_dump(include=set(Locations.model_fields))),
        definitions={upload.name: upload.uri for upload in uploads},
        code={upload.name.removeprefix("code-"): upload.uri for upload in code},
        code_version=version.variable(with_change=False),
        steps=cluster.steps,
        # Vertex AI has no such things, and takes no pipeline that speaks of them.
        kubeflow=configuration.targets.kubeflow if target == "kubeflow" else None,
        vertex=cluster if isinstance(cluster, VertexTarget) else None,
        labels=labels_of(configuration.name, name, version.commit),
    )
    return built_for, [*uploads, *code]


def _definition_upload(root: str, name: str, files: Mapping[str, bytes]) -> Upload:
    folder = f"{root}/definitions/{digest_of(files)}"
    if name == "label_query":
        ((file, content),) = files.items()
        return Upload(name, f"{folder}/{file}", {"": content})
    return Upload(name, f"{folder}/{name}", files)


def code_upload(root: str, environment: str) -> Upload:
    """The code archive of an environment: the same for every pipeline."""
    files = environment_archive(environment, components().values())
    return Upload(f"code-{environment}", f"{root}/code/{digest_of(files)}.zip", {"": zipped(files)})


def cluster_target(configuration: Configuration, target: TargetName) -> ClusterTarget:
    """What the project says of a cluster.

    Raises:
        ConfigurationError: it says nothing of it.
    """
    found: ClusterTarget | None = getattr(configuration.targets, target)
    if found is None:
        fields = ", ".join(Locations.model_fields)
        raise ConfigurationError(
            f"the project {configuration.name} does not say where {target} keeps things: "
            f"add targets.{target} with {fields} to its pipeline.yaml"
        )
    return found


def pipeline_definition(name: str, target: Target) -> GraphComponent:
    """A pipeline's definition, with its components built for the target.

    kfp traces a pipeline when its module is imported, so the module is imported anew for each target.
    """
    with compiling_for(target):
        module = importlib.reload(importlib.import_module(f"{PACKAGE}.pipelines.{name}"))
    definition: GraphComponent = getattr(module, name)
    return definition


def declared_parameters(name: str, configuration: Configuration) -> dict[str, Parameter]:
    """What a run of a project's pipeline may be given on this machine, by name; nothing is compiled for it."""
    described = replace(LOCAL, configuration=configuration, keeps_code=False, imported={})
    return parameters_of(pipeline_definition(name, described).pipeline_spec)


def components_in(name: str, configuration: Configuration) -> list[LifecycleComponent]:
    """The components that a pipeline of a project is made of, in the order of their names."""
    with compiling_for(replace(LOCAL, configuration=configuration, imported={})):
        module = importlib.import_module(f"{PACKAGE}.pipelines.{name}")
        tuning = importlib.import_module(f"{PACKAGE}.pipelines.tuning")
    found = {item.name: item for item in vars(module).values() if isinstance(item, LifecycleComponent)}
    if "tune" in vars(module):
        found |= {item.name: item for item in tuning.components_for(configuration)}
    return [found[name] for name in sorted(found)]


def components() -> dict[str, LifecycleComponent]:
    """Every component below `components/`, by name."""
    found: dict[str, LifecycleComponent] = {}
    for file in sorted((ROOT / "components").glob("*/*/component.py")):
        module = importlib.import_module(".".join([PACKAGE, *file.relative_to(ROOT).with_suffix("").parts]))
        found |= {item.name: item for item in vars(module).values() if isinstance(item, LifecycleComponent)}
    return found


def compile_components(folder: Path, *, image_registry: str = "") -> list[Path]:
    """Compile every component to `<folder>/<name>.yaml`, loadable by `kfp.components.load_component_from_file`.

    Args:
        folder: Made where it is not there.
        image_registry: Registry and prefix of images that hold the library; without it each component has an input
            `code`, the archive of its environment.
    """
    vehicle: Vehicle = "image" if image_registry else "artifact"
    target = Target("kubeflow", vehicle, image_registry=image_registry, library_digest=library_digest())
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, component in components().items():
        file = folder / f"{name}.yaml"
        compiler.Compiler().compile(build(component, target), str(file))
        written.append(file)
    return written


def recurrence(configuration: Configuration, name: str, target: TargetName) -> str:
    """The cron expression by which a pipeline recurs, as the target's scheduler reads it; empty for none.

    Args:
        configuration: The project's configuration.
        name: One of PIPELINES.
        target: Kubeflow's has seconds before it (`cron_expression` of `create_recurring_run`), Vertex AI's a time zone
            (`cron` of `PipelineJob.create_schedule`). This machine has no scheduler.
    """
    schedule: Schedule | None = getattr(configuration.schedules, name)
    if schedule is None or target == "local":
        return ""
    return f"0 {schedule.cron}" if target == "kubeflow" else f"TZ={schedule.zone} {schedule.cron}"
