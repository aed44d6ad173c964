"""Tasks of a compiled pipeline, in one order for all who run, watch or draw it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, DagSpec, PipelineSpec, PipelineTaskSpec


@dataclass(frozen=True)
class Step:
    """A task that runs a container."""

    name: str
    """What the task is called."""
    groups: tuple[str, ...]
    """Names of the groups of tasks that it stands in, the outermost first."""
    task: PipelineTaskSpec
    component: ComponentSpec


def steps_of(pipeline: PipelineSpec) -> Iterator[Step]:
    """The steps of a compiled pipeline in their order, those of every branch included."""
    yield from _steps(pipeline, pipeline.root.dag, ())


def _steps(pipeline: PipelineSpec, dag: DagSpec, groups: tuple[str, ...]) -> Iterator[Step]:
    executors = pipeline.deployment_spec["executors"]
    for name in in_order({name: task.dependent_tasks for name, task in dag.tasks.items()}):
        task = dag.tasks[name]
        component = pipeline.components[task.component_ref.name]
        if component.WhichOneof("implementation") == "dag":
            yield from _steps(pipeline, component.dag, (*groups, name))
        # An importer only names what is there.
        elif "importer" not in executors[component.executor_label]:
            yield Step(name, groups, task, component)


def in_order(waits: Mapping[str, Iterable[str]]) -> list[str]:
    """Topological order of tasks: depth first, by name.

    Args:
        waits: Names of the tasks that each waits for; of others than these it says nothing.
    """
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in waits or name in done:
            return
        for before in sorted(waits[name]):
            visit(before)
        done[name] = None

    for name in sorted(waits):
        visit(name)
    return list(done)
