"""Inputs of a pipeline that no step makes: the project's definitions, and, where images lack it, the steps' code."""

from __future__ import annotations

from kfp import dsl
from kfp.dsl import importer_component, importer_node, placeholders, structures
from kfp.dsl.types import type_utils

from kfp_lifecycle.compilation.target import current_target


def imported(*definitions: str) -> list[dsl.PipelineArtifactChannel]:
    """Import what the pipeline's steps are given, each by one importer of KFP.

    Args:
        definitions: `feature_repo`, `label_query`, `expectations`.

    Returns:
        The definitions' artifacts, in the order asked for. The code is handed to the steps by itself.
    """
    target = current_target()
    for environment, uri in sorted(target.code.items()):
        target.imported[environment] = _import(f"code-{environment}", uri)
    return [definition(name) for name in definitions]


def definition(name: str) -> dsl.PipelineArtifactChannel:
    """Import one definition alone, where only a branch of the pipeline reads it."""
    return _import(name.replace("_", "-"), current_target().definitions.get(name, ""))


def _import(name: str, uri: str) -> dsl.PipelineArtifactChannel:
    # As `dsl.importer`, whose tasks are all called importer: with a display name beside that, Kubeflow Pipelines 2.17
    # files the task under the one and looks for it under the other.
    artifact = type_utils.create_bundled_artifact_type(dsl.Artifact.schema_title, dsl.Artifact.schema_version)
    importer = structures.ImporterSpec(
        artifact_uri=placeholders.InputValuePlaceholder(importer_node.URI_KEY)._to_string(),
        schema_title=artifact,
        schema_version=dsl.Artifact.schema_version,
        reimport=False,
        metadata=None,
    )
    specification = structures.ComponentSpec(
        name=name,
        implementation=structures.Implementation(importer=importer),
        inputs={importer_node.URI_KEY: structures.InputSpec(type="String")},
        outputs={importer_node.OUTPUT_KEY: structures.OutputSpec(type=artifact)},
    )
    return importer_component.ImporterComponent(specification)(uri=uri).output
