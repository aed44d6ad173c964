"""Shape of a pipeline: its steps in order, what each reads from which, and on what condition it runs.

`python -m kfp_lifecycle.compilation.shape FOLDER` writes one file for each pipeline of the reference project.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kfp_lifecycle.compilation.pipeline import PIPELINES, compile_pipeline
from kfp_lifecycle.compilation.tasks import in_order
from kfp_lifecycle.compilation.workflow_size import read_pipeline
from kfp_lifecycle.runtime.closure import ROOT

# Where what a group of tasks is given comes from, by the name that it has inside.
Sources = Mapping[str, str]


def shape_of(pipeline: Mapping[str, Any]) -> str:
    """The shape of a compiled pipeline, as text.

    Args:
        pipeline: The pipeline specification, the first document of a compiled file.
    """
    return "\n".join(_lines(pipeline, pipeline["root"]["dag"], {})) + "\n"


def _lines(pipeline: Mapping[str, Any], dag: Mapping[str, Any], outer: Sources) -> Iterator[str]:
    for name in in_order({name: task.get("dependentTasks", []) for name, task in dag["tasks"].items()}):
        task = dag["tasks"][name]
        component = pipeline["components"][task["componentRef"]["name"]]
        sources = {port: source for port, source in _inputs(task, outer) if source}
        condition, waits = _condition(task, sources), ""
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
            waits = f", whatever becomes of {', '.join(task['dependentTasks'])}"
        if "dag" in component:
            yield f"{task['taskInfo']['name']}{condition}{waits}:"
            yield from (f"  {line}" for line in _lines(pipeline, component["dag"], sources))
            continue
        kind = "importer" if "importer" in pipeline["deploymentSpec"]["executors"][component["executorLabel"]] else ""
        yield f"{name}{f' ({kind})' if kind else ''}{condition}{waits}"
        yield from (f"    {port} <- {source}" for port, source in sorted(sources.items()))
        read = {source.partition(".")[0] for source in sources.values()}
        for other in sorted(set(task.get("dependentTasks", [])) - read if not waits else ()):
            yield f"    after {other}"


def _inputs(task: Mapping[str, Any], outer: Sources) -> Iterator[tuple[str, str]]:
    """Each input of a task, and the step's output that it is; constants have none."""
    inputs = task.get("inputs", {})
    for port, item in [*inputs.get("artifacts", {}).items(), *inputs.get("parameters", {}).items()]:
        if artifact := item.get("taskOutputArtifact"):
            yield port, f"{artifact['producerTask']}.{artifact['outputArtifactKey']}"
        elif parameter := item.get("taskOutputParameter"):
            yield port, f"{parameter['producerTask']}.{parameter['outputParameterKey']}"
        else:
            yield port, outer.get(item.get("componentInputArtifact") or item.get("componentInputParameter") or "", "")


def _condition(task: Mapping[str, Any], sources: Sources) -> str:
    condition = task.get("triggerPolicy", {}).get("condition", "")
    found = re.sub(r"inputs\.parameter_values\['(.+?)'\]", lambda match: sources.get(match[1], match[1]), condition)
    return f" if {found}" if found else ""


def shapes() -> dict[str, str]:
    """The shape of each pipeline of the reference project on a cluster, code in images, by its name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in PIPELINES:
            file = Path(folder) / f"{name}.yaml"
            compile_pipeline(name, "kubeflow", ROOT, file, image_registry="registry.example/ml")
            found[name] = shape_of(read_pipeline(file))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the shape of each pipeline of the reference project.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for pipeline_name, text in shapes().items():
        (folder / f"{pipeline_name}.txt").write_text(text, encoding="utf-8")
