"""Inputs of a pipeline that no step makes: the project's definitions, and, where images lack it, the steps' code."""

from __future__ import annotations

from kfp import dsl

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
    return [_import(name.replace("_", "-"), target.definitions.get(name, "")) for name in definitions]


def _import(name: str, uri: str) -> dsl.PipelineArtifactChannel:
    task = dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, reimport=False)
    task.set_display_name(name)
    return task.output
