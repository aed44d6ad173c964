"""A small pipeline whose steps wait, fail and are skipped as a test tells them, for tests of backends."""

import time
from pathlib import Path

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Output, PipelineTaskFinalStatus

from kfp_lifecycle.backends.backend import Backend, RunStatus, Submission
from kfp_lifecycle.backends.watching import watch
from kfp_lifecycle.runtime.states import State

IMAGE = "python:3.11-slim"


@dsl.component(base_image=IMAGE)
def count(rows: int, data: Output[Dataset]) -> int:
    from pathlib import Path

    Path(data.path).write_text("x" * rows)
    data.metadata["summary"] = f"{rows} rows"
    print(f"\nDone: {rows} rows", flush=True)
    return rows


@dsl.component(base_image=IMAGE)
def check(rows: int, reference: str):
    import sys
    import time
    from pathlib import Path

    while Path(reference).read_text() == "wait":
        time.sleep(0.05)
    if rows > int(Path(reference).read_text()):
        print(f"\nThe run stops here:\nThe table users has {rows} rows.\nLoad fewer.", file=sys.stderr, flush=True)
        raise SystemExit(1)


@dsl.component(base_image=IMAGE)
def register(rows: int):
    print("registered", rows)


@dsl.component(base_image=IMAGE)
def tell(status: PipelineTaskFinalStatus) -> str:
    return f"{status.state} {status.pipeline_job_resource_name} {status.error_message}"


@dsl.pipeline(name="small")
def small(reference: str, rows: int = 3):
    with dsl.ExitHandler(tell().set_caching_options(False)):
        counted = count(rows=rows)
        check(rows=counted.outputs["Output"], reference=reference).set_caching_options(False)
        with dsl.If(counted.outputs["Output"] > 3, name="approved"):
            register(rows=counted.outputs["Output"]).set_display_name("register-model")


@dsl.component(base_image=IMAGE)
def register_model(rows: int):
    print("registered", rows)


@dsl.pipeline(name="small")
def judged(reference: str, rows: int = 3):
    """A candidate of more than three rows is approved."""
    with dsl.ExitHandler(tell().set_caching_options(False)):
        counted = count(rows=rows)
        with dsl.If(counted.outputs["Output"] > 3, name="approved"):
            register_model(rows=counted.outputs["Output"])


@dsl.component(base_image=IMAGE)
def trigger_retraining(text: str, request: Output[Artifact]):
    from pathlib import Path

    Path(request.path).write_text(text)


@dsl.pipeline(name="monitoring")
def asking(text: str, drifted: bool = True):
    """What monitoring does where it asks for a training, and where it does not."""
    with dsl.If(drifted == True, name="retrain"):  # noqa: E712
        trigger_retraining(text=text).set_caching_options(False)


@dsl.pipeline(name="training")
def retrained(asked_by: str = "", since: str = ""):
    """A training whose candidate is rejected."""
    counted = count(rows=3)
    with dsl.If(counted.outputs["Output"] > 3, name="approved"):
        register_model(rows=counted.outputs["Output"])


def allow(reference: Path, said: str) -> None:
    """Say how many rows there may be, or `wait`; a step that reads meanwhile finds the old word or the new one."""
    written = reference.with_suffix(".new")
    written.write_text(said)
    written.replace(reference)


def submission(file: Path, reference: Path, name: str = "small-1", **parameters: object) -> Submission:
    """A run of the pipeline."""
    return Submission(file, "small", "shop", name, parameters={"reference": str(reference), **parameters})


def ended(backend: Backend, run: str) -> RunStatus:
    """A run at its end."""
    return watch(backend, run, lambda status: None, lambda line: None, pause=0.1)


def states(run: RunStatus) -> dict[str, State]:
    """How far each step of a run is."""
    return {name: step.state for name, step in run.progress.steps.items()}


def wait_until_running(backend: Backend, run: str, step: str) -> None:
    """Wait until a step of a run is at work."""
    while backend.status(run).progress.steps[step].state is not State.running:
        time.sleep(0.1)
