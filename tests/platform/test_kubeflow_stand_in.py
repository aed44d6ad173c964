"""The stand-in for Kubeflow's API server, asked by kfp's own client: what it runs, shows, refuses and survives."""

import itertools
import json
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import psutil
import pytest
import yaml
from greeting_steps import greet
from kfp import compiler, dsl, kubernetes
from kfp.dsl import Dataset, Input, Output, PipelineTaskFinalStatus
from kfp_server_api import ApiException

from kfp_lifecycle.compilation.code import environment_archive, library_digest, zipped
from kfp_lifecycle.compilation.target import Target, Vehicle, compiling_for
from kfp_lifecycle.compilation.workflow_size import read_pipeline, stored_bytes, submitted_bytes
from kfp_lifecycle.components.operations.notify.component import notify
from kfp_lifecycle.environments.locks import lock_digest
from kfp_lifecycle.pipelines.inputs import imported
from tests.control_planes.kubeflow import Fault, KubeflowStandIn, Settings, User
from tests.control_planes.kubeflow.schedules import NEVER, Cron
from tests.control_planes.kubeflow.workflow import node_id, pod_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
IMAGE = "python:3.11-slim"


@dsl.component(base_image=IMAGE)
def first(n: int, out: Output[Dataset], fail: bool = False) -> int:
    from pathlib import Path

    print("first", n)
    if fail:
        raise RuntimeError("asked to fail")
    Path(out.path).write_text("x" * n)
    return n + 1


@dsl.component(base_image=IMAGE)
def second(data: Input[Dataset], m: int):
    from pathlib import Path

    print("second", m, Path(data.path).read_text())


@dsl.component(base_image=IMAGE)
def finish(status: PipelineTaskFinalStatus, fail: bool = False):
    print("ended", status.state, status.pipeline_task_name, status.error_message)
    if fail:
        raise RuntimeError("the exit handler fails")


@dsl.component(base_image=IMAGE)
def flaky(counter: str, succeed_at: int):
    from pathlib import Path

    file = Path(counter)
    attempt = len(file.read_text()) + 1 if file.exists() else 1
    file.write_text("x" * attempt)
    print("attempt", attempt)
    if attempt < succeed_at:
        raise RuntimeError("not yet")


@dsl.component(base_image=IMAGE)
def wait_for(file: str, pid: str) -> str:
    import os
    import time
    from pathlib import Path

    Path(pid).write_text(str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.02)
    return "done"


@dsl.component(base_image=IMAGE)
def say(word: str) -> str:
    print("word", word)
    return word


@dsl.component(base_image=IMAGE)
def reveal() -> str:
    import os

    return os.environ.get("PASSWORD", "nothing")


@dsl.pipeline(name="demo")
def demo(n: int = 3, fail: bool = False, fail_at_exit: bool = False):
    with dsl.ExitHandler(finish(fail=fail_at_exit).set_caching_options(False)):
        begun = first(n=n, fail=fail)
        second(data=begun.outputs["out"], m=begun.outputs["Output"])


@dsl.pipeline(name="plain")
def plain(n: int = 3, fail: bool = False):
    begun = first(n=n, fail=fail)
    second(data=begun.outputs["out"], m=begun.outputs["Output"])


@dsl.pipeline(name="branches")
def branches(n: int = 3):
    begun = first(n=n)
    with dsl.If(begun.outputs["Output"] > 3):
        say(word="large")
    with dsl.Else():
        say(word="small")
    with dsl.ParallelFor([1, 2]) as item:
        first(n=item)


@dsl.pipeline(name="again")
def again(counter: str, succeed_at: int):
    flaky(counter=counter, succeed_at=succeed_at).set_retry(num_retries=2, backoff_duration="0s")


@dsl.pipeline(name="waiting")
def waiting(file: str, pid: str):
    with dsl.ExitHandler(finish().set_caching_options(False)):
        waited = wait_for(file=file, pid=pid).set_caching_options(False)
        say(word=waited.output)


@dsl.pipeline(name="one")
def one(word: str = "hello"):
    say(word=word).set_caching_options(False)


@dsl.pipeline(name="reading")
def reading(uri: str):
    data = dsl.importer(artifact_uri=uri, artifact_class=Dataset)
    second(data=data.output, m=1)


@dsl.pipeline(name="renamed-importer")
def renamed_importer():
    data = dsl.importer(artifact_uri="minio://mlpipeline/in/data", artifact_class=Dataset).set_display_name("My data")
    second(data=data.output, m=1)


@dsl.pipeline(name="secretive")
def secretive():
    task = reveal().set_caching_options(False)
    kubernetes.use_secret_as_env(task, "store", {"password": "PASSWORD"})
    say(word=task.output).set_caching_options(False)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], str]:
    """The compiled file of a pipeline."""
    folder, known = tmp_path_factory.mktemp("packages"), {}

    def compiled(pipeline: Any) -> str:
        if pipeline.name not in known:
            known[pipeline.name] = str(folder / f"{pipeline.name}.yaml")
            compiler.Compiler().compile(pipeline, known[pipeline.name])
        return known[pipeline.name]

    return compiled


class Kubeflow:
    """A stand-in, and what tests ask of it by kfp's client."""

    def __init__(self, server: KubeflowStandIn, package: Callable[[Any], str]) -> None:
        self.server, self.package = server, package
        self.client = kfp.Client(host=server.url)

    def submit(self, pipeline: Any, name: str = "a run", **arguments: Any) -> str:
        """Begin a run; its ID."""
        submitted = self.client.create_run_from_pipeline_package(
            self.package(pipeline), arguments=arguments, run_name=name
        )
        return str(submitted.run_id)

    def finished(self, run: str) -> Any:
        """A run at its end."""
        return self.client.wait_for_run_completion(run, timeout=200, sleep_duration=0.1)

    def run(self, pipeline: Any, **arguments: Any) -> Any:
        """A run from its beginning to its end."""
        return self.finished(self.submit(pipeline, **arguments))

    def until(self, run: str, holds: Callable[[Any], bool]) -> Any:
        """A run when something holds of it."""
        end = time.monotonic() + 200
        while time.monotonic() < end:
            found = self.client.get_run(run)
            if holds(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never came: {found}")

    def read(self, path: str) -> tuple[int, str]:
        """Status and text of a path."""
        try:
            with urllib.request.urlopen(f"{self.server.url}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self, run: Any, *groups: str, attempt: int = 0, retried: bool = False) -> str:
        """The log of a step's pod, found as a client has to find it."""
        inside = "".join(f".{group}(0)" for group in groups)
        node = f"{workflow_of(run)}(0).root(0){inside}.executor({attempt})"
        pod = pod_name(workflow_of(run), node, ("retry-" if retried else "") + "system-container-impl")
        return self.read(f"/apis/v1alpha1/runs/{run.run_id}/nodes/{pod}/log")[1]


def workflow_of(run: Any) -> str:
    """The name of a run's workflow: of the node whose only child is its own attempt, by a hash of its own name."""
    for task in run.run_details.task_details:
        name = task.display_name
        if name and children_of(task) == [node_id(name, f"{name}(0)")]:
            return str(name)
    raise AssertionError("the run has no workflow yet")


def children_of(task: Any) -> list[str]:
    """The node IDs of what follows a task, or is inside it."""
    return [child.pod_name for child in task.child_tasks or []]


def states(run: Any) -> dict[str, str | None]:
    """The states of a run's tasks by their names, without attempts and drivers."""
    return {
        task.display_name: task.state
        for task in run.run_details.task_details
        if task.display_name and "(" not in task.display_name and not task.display_name.endswith("-driver")
    }


def wait_until_gone(pid: Path) -> None:
    """Wait for the end of the process that left its number in a file; one that goes on fails the test."""
    if psutil.pid_exists(number := int(pid.read_text())):
        psutil.Process(number).wait(100)


@pytest.fixture
def kubeflow(tmp_path: Path, package: Callable[[Any], str]) -> Iterator[Kubeflow]:
    with KubeflowStandIn(tmp_path / "kubeflow") as server:
        yield Kubeflow(server, package)


# Runs.


def test_a_run_executes_its_steps_and_keeps_what_they_write(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(plain, n=4)
    assert run.state == "SUCCEEDED"
    assert [item.state for item in run.state_history][-1] == "SUCCEEDED"
    assert run.runtime_config.parameters == {"n": 4}
    assert "first 4" in kubeflow.log(run, "first")
    assert "second 5 xxxx" in kubeflow.log(run, "second")
    written = kubeflow.server.object(f"minio://mlpipeline/v2/artifacts/plain/{run.run_id}/first")
    assert [file.read_text() for file in written.glob("*/out")] == ["xxxx"]


def test_a_run_that_failed_looks_as_one_on_a_real_kubeflow(kubeflow: Kubeflow) -> None:
    # The names and states that Kubeflow Pipelines 2.17.0 with Argo 4.0.5 gave for a pipeline of this shape.
    run = kubeflow.run(demo, fail=True)
    assert (run.state, run.error) == ("FAILED", None)
    workflow = workflow_of(run)
    told = sorted((task.display_name or "", task.state or "") for task in run.run_details.task_details)
    done, broken = "SUCCEEDED", "FAILED"
    assert told == sorted([
        ("root-driver", done), ("root-driver(0)", done), (workflow, broken), (f"{workflow}(0)", broken),
        ("exit-handler-1-driver", done), ("exit-handler-1-driver(0)", done), ("root", broken), ("root(0)", broken),
        ("exit-handler-1", broken), ("exit-handler-1(0)", broken), ("first-driver", done), ("first-driver(0)", done),
        ("first", broken), ("first(0)", broken), ("executor", broken), ("executor(0)", broken),
        ("exit-handler-1.onExit", done), ("exit-handler-1.onExit(0)", done), ("finish-driver", done),
        ("finish-driver(0)", done), ("second-driver", ""), ("second", ""), ("finish", done), ("finish(0)", done),
        ("executor", done), ("executor(0)", done),
    ])  # fmt: skip
    assert "RuntimeError: asked to fail" in kubeflow.log(run, "exit-handler-1", "first")
    assert "ended FAILED exit-handler-1 None" in kubeflow.log(run, "exit-handler-1.onExit", "finish")


def test_nodes_lead_to_one_another_by_ids_that_are_hashes_of_their_full_names(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(plain)
    workflow, tasks = workflow_of(run), run.run_details.task_details
    children = {task.display_name: children_of(task) for task in tasks}
    top = f"{workflow}(0)"
    assert children[workflow] == [node_id(workflow, top)]
    assert children[top] == [node_id(workflow, f"{top}.root-driver")]
    assert children["root-driver(0)"] == [node_id(workflow, f"{top}.root")]
    assert children["first(0)"] == [node_id(workflow, f"{top}.root(0).first(0).executor")]
    # What waits for a step follows its pod.
    after = node_id(workflow, f"{top}.root(0).second-driver")
    assert [task.display_name for task in tasks if after in children_of(task)] == ["executor(0)"]
    assert {(task.pod_name, task.parent_task_id) for task in tasks} == {(None, None)}


def test_the_hash_is_the_one_of_a_real_pod() -> None:
    node = "demo-n9mbt(0).root(0).exit-handler-1(0).first(0).executor(0)"
    assert pod_name("demo-n9mbt", node, "system-container-impl") == "demo-n9mbt-system-container-impl-473832314"


def test_moments_that_have_not_come_are_the_first_ones(kubeflow: Kubeflow, tmp_path: Path) -> None:
    run = kubeflow.submit(waiting, file=str(tmp_path / "go"), pid=str(tmp_path / "pid"))
    found = kubeflow.until(run, lambda run: run.run_details and states(run).get("executor") == "RUNNING")
    assert found.state == "RUNNING"
    assert found.finished_at == datetime(1970, 1, 1, tzinfo=UTC)
    assert {task.end_time.year for task in found.run_details.task_details if task.state == "RUNNING"} == {1}
    (tmp_path / "go").touch()
    assert kubeflow.finished(run).state == "SUCCEEDED"


def test_conditions_skip_and_loops_have_a_node_for_each_item(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(branches, n=3)
    found = states(run)
    assert run.state == "SUCCEEDED"
    assert (found["condition-2"], found["condition-3"]) == ("SUCCEEDED", "SKIPPED")
    assert {"iteration-iterations", "iteration-item"} <= set(found)
    names = {task.display_name for task in run.run_details.task_details}
    assert {"iteration-iterations(0:0)", "iteration-iterations(1:1)(0)"} <= names
    assert "word large" in kubeflow.log(run, "condition-branches-1", "condition-2", "say")
    # Two at a time: each has its own pod and log.
    items = [
        kubeflow.log(run, "for-loop-5", f"iteration-iterations({item}:{item})", "iteration-item", "first-2")
        for item in (0, 1)
    ]
    assert ["first 1" in items[0], "first 2" in items[1]] == [True, True]


def test_a_run_succeeds_when_only_its_exit_handler_failed(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(demo, fail_at_exit=True)
    assert run.state == "SUCCEEDED"
    assert (states(run)["exit-handler-1"], states(run)["exit-handler-1.onExit"]) == ("SUCCEEDED", "FAILED")
    assert "ended COMPLETE exit-handler-1 None" in kubeflow.log(run, "exit-handler-1.onExit", "finish")


def test_a_log_that_is_not_there_is_an_error_with_status_200(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(one)
    status, text = kubeflow.read(f"/apis/v1alpha1/runs/{run.run_id}/nodes/other/log?follow=true")
    assert status == 200
    assert 'pods "other" not found' in json.loads(text)["error_message"]
    assert "Run nobody not found" in kubeflow.read("/apis/v1alpha1/runs/nobody/nodes/other/log")[1]
    assert kubeflow.read(f"/apis/v2beta1/runs/{run.run_id}/nodes/x/artifacts/main-logs:read")[0] == 500


# Cache and retries.


def test_a_step_is_taken_from_the_cache_by_image_command_and_inputs(kubeflow: Kubeflow) -> None:
    kubeflow.run(plain, n=2)
    same, other = kubeflow.run(plain, n=2), kubeflow.run(plain, n=3)
    executors = [task.state for task in same.run_details.task_details if task.display_name == "executor"]
    assert executors == ["SKIPPED", "SKIPPED"]
    assert (same.state, states(same)["first"]) == ("SUCCEEDED", "SUCCEEDED")
    assert "first 3" in kubeflow.log(other, "first")
    # A step that a cached one feeds is the same; one of another pipeline is not, and a failed run's steps are kept too.
    unnamed = [task for task in same.run_details.task_details if not task.display_name]
    assert unnamed == []
    assert len([task for task in other.run_details.task_details if not task.display_name]) == 2
    assert "first 2" in kubeflow.log(kubeflow.run(demo, n=2), "exit-handler-1", "first")


def test_a_step_that_ran_again_makes_its_readers_run_again(kubeflow: Kubeflow) -> None:
    kubeflow.run(plain, n=2)
    compiled = Path(kubeflow.package(plain)).read_text()
    changed = kubeflow.server.folder / "changed.yaml"
    # Only the first step is another; what it writes is the same to the byte.
    changed.write_text(compiled.replace('print(\\"first\\", n)', 'print(\\"other\\", n)'))
    assert changed.read_text() != compiled
    run = kubeflow.finished(kubeflow.client.create_run_from_pipeline_package(str(changed), arguments={"n": 2}).run_id)
    assert "other 2" in kubeflow.log(run, "first")
    assert "second 3 xx" in kubeflow.log(run, "second")


def test_caching_can_be_switched_off_for_a_run(kubeflow: Kubeflow) -> None:
    for _ in range(2):
        submitted = kubeflow.client.create_run_from_pipeline_package(kubeflow.package(plain), enable_caching=False)
        run = kubeflow.finished(submitted.run_id)
    assert "first 3" in kubeflow.log(run, "first")


def test_a_step_is_retried_as_its_policy_says(kubeflow: Kubeflow, tmp_path: Path) -> None:
    run = kubeflow.run(again, counter=str(tmp_path / "counter"), succeed_at=3)
    attempts = {
        task.display_name: task.state
        for task in run.run_details.task_details
        if (task.display_name or "").startswith("executor")
    }
    assert run.state == "SUCCEEDED"
    assert attempts == {
        "executor": "SUCCEEDED", "executor(0)": "FAILED", "executor(1)": "FAILED", "executor(2)": "SUCCEEDED"
    }  # fmt: skip
    assert "attempt 2" in kubeflow.log(run, "flaky", attempt=1, retried=True)
    assert kubeflow.run(again, counter=str(tmp_path / "other"), succeed_at=9).state == "FAILED"
    assert len((tmp_path / "other").read_text()) == 3


def test_a_failed_run_is_retried_without_what_succeeded(kubeflow: Kubeflow, tmp_path: Path) -> None:
    @dsl.pipeline(name="again")
    def half(counter: str):
        said = say(word="once").set_caching_options(False)
        flaky(counter=counter, succeed_at=2).after(said)

    compiler.Compiler().compile(half, str(tmp_path / "half.yaml"))
    submitted = kubeflow.client.create_run_from_pipeline_package(
        str(tmp_path / "half.yaml"), arguments={"counter": str(tmp_path / "counter")}
    )
    failed = kubeflow.finished(submitted.run_id)
    assert failed.state == "FAILED"
    kubeflow.client._run_api.run_service_retry_run(run_id=failed.run_id)
    assert kubeflow.client.get_run(failed.run_id).state in ("RUNNING", "SUCCEEDED")
    retried = kubeflow.finished(failed.run_id)
    assert retried.state == "SUCCEEDED"
    assert [item.state for item in retried.state_history][-3:] == ["FAILED", "RUNNING", "SUCCEEDED"]
    assert kubeflow.log(retried, "say").count("word once") == 1
    with pytest.raises(ApiException, match="Workflow must be Failed/Error to retry"):
        kubeflow.client._run_api.run_service_retry_run(run_id=failed.run_id)


# Object store and code.


def test_an_importer_reads_what_was_put_into_the_object_store(kubeflow: Kubeflow) -> None:
    uri = "minio://mlpipeline/in/data"
    data = kubeflow.server.object(uri)
    data.parent.mkdir(parents=True)
    data.write_text("from outside")
    run = kubeflow.run(reading, uri=uri)
    assert "second 1 from outside" in kubeflow.log(run, "second")
    assert states(run)["importer"] == "SUCCEEDED"
    assert kubeflow.run(reading, uri="s3://elsewhere/missing").state == "FAILED"
    # Filed under one name and looked for under another, as the importer's driver does.
    broken = kubeflow.run(renamed_importer)
    assert (broken.state, states(broken)["importer"], states(broken)["second"]) == ("FAILED", "SUCCEEDED", None)


@pytest.mark.parametrize("vehicle", ["artifact", "image"])
def test_the_librarys_steps_run_in_their_environment_from_an_archive_or_an_image(
    kubeflow: Kubeflow, vehicle: Vehicle, tmp_path: Path
) -> None:
    archive = "minio://mlpipeline/code/platform.zip"
    place = kubeflow.server.object(archive)
    place.parent.mkdir(parents=True)
    place.write_bytes(zipped(environment_archive("platform", [greet])))
    is_archive = vehicle == "artifact"
    target = Target(
        "kubeflow",
        vehicle,
        code={"platform": archive} if is_archive else {},
        image_registry="registry.example/ml",
        library_digest=library_digest(),
    )
    with compiling_for(target):

        @dsl.pipeline(name="greeting")
        def greeting(name: str):
            # On a stock image it rides in its own container, and in an image it is the library's.
            with dsl.ExitHandler(notify(pipeline="greeting")):
                imported()
                # Of no image of the library: it comes in an archive alone.
                greet(name=name) if is_archive else say(word=name)

        compiler.Compiler().compile(greeting, str(tmp_path / "greeting.yaml"))
    submitted = kubeflow.client.create_run_from_pipeline_package(
        str(tmp_path / "greeting.yaml"), arguments={"name": "Ada"}
    )
    run = kubeflow.finished(submitted.run_id)
    log = kubeflow.log(run, "exit-handler-1.onExit", "notify")
    assert (run.state, states(run)["exit-handler-1.onExit"]) == ("SUCCEEDED", "SUCCEEDED"), log
    assert "greeting" in log
    if is_archive:
        written = kubeflow.server.object(f"minio://mlpipeline/v2/artifacts/greeting/{run.run_id}/greet")
        assert [file.read_text() for file in written.glob("*/greeting")] == ["hello Ada"]
    # The lock of the environment was found to be there, and nothing installed. On a stock image the exit handler brings
    # a small lock of its own.
    assert ("installing kfp, notify" in log) == is_archive
    assert "installing" not in kubeflow.log(run, "exit-handler-1", "greet" if is_archive else "say")


def test_an_image_whose_lock_is_not_built_here_fails_its_step_in_words(kubeflow: Kubeflow, tmp_path: Path) -> None:
    compiled = Path(kubeflow.package(one)).read_text()
    image = f"registry.example/ml/kfp-lifecycle-modelling:{'0' * 12}-{'1' * 12}"
    assert lock_digest("modelling") not in image
    (tmp_path / "one.yaml").write_text(compiled.replace(IMAGE, image))
    run = kubeflow.finished(kubeflow.client.create_run_from_pipeline_package(str(tmp_path / "one.yaml")).run_id)
    assert run.state == "FAILED"
    assert "environment modelling-000000000000 is not built here" in kubeflow.log(run, "say")


def test_steps_get_their_secrets_as_variables(tmp_path: Path, package: Callable[[Any], str]) -> None:
    settings = Settings(secrets={"store": {"password": "sesame"}})
    with KubeflowStandIn(tmp_path / "kubeflow", settings=settings) as server:
        kubeflow = Kubeflow(server, package)
        assert "word sesame" in kubeflow.log(kubeflow.run(secretive), "say")


# Termination and restarts.


def test_a_run_that_is_terminated_kills_its_step_and_runs_its_exit_handler(kubeflow: Kubeflow, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run = kubeflow.submit(waiting, file=str(tmp_path / "never"), pid=str(pid))
    kubeflow.until(run, lambda run: pid.exists() and pid.read_text())
    kubeflow.client.terminate_run(run)
    assert kubeflow.client.get_run(run).state in ("CANCELING", "FAILED")
    ended = kubeflow.finished(run)
    assert ended.state == "FAILED"
    wait_until_gone(pid)
    assert (states(ended)["wait-for"], states(ended)["say"]) == ("FAILED", None)
    assert "ended FAILED" in kubeflow.log(ended, "exit-handler-1.onExit", "finish")
    with pytest.raises(ApiException, match="Row not found"):
        kubeflow.client.terminate_run(run)


def test_a_run_can_be_terminated_before_it_has_begun(kubeflow: Kubeflow, tmp_path: Path) -> None:
    run = kubeflow.submit(waiting, file=str(tmp_path / "never"), pid=str(tmp_path / "pid"))
    kubeflow.client.terminate_run(run)
    assert kubeflow.finished(run).state == "FAILED"
    assert not (tmp_path / "pid").exists()


def test_runs_go_on_while_the_server_is_away(kubeflow: Kubeflow, tmp_path: Path) -> None:
    run = kubeflow.submit(waiting, file=str(tmp_path / "go"), pid=str(tmp_path / "pid"))
    kubeflow.until(run, lambda run: (tmp_path / "pid").exists())
    kubeflow.server.stop(leave_runs=True)
    with pytest.raises(Exception, match=r"Connection refused|Max retries"):
        kubeflow.client.get_run(run)
    (tmp_path / "go").touch()
    kubeflow.server.start()
    assert kubeflow.finished(run).state == "SUCCEEDED"
    kubeflow.server.restart()
    assert kubeflow.client.get_run(run).state == "SUCCEEDED"
    assert [item.run_id for item in kubeflow.client.list_runs().runs] == [run]


def test_a_run_whose_process_is_lost_has_failed(kubeflow: Kubeflow, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run = kubeflow.submit(waiting, file=str(tmp_path / "never"), pid=str(pid))
    kubeflow.until(run, lambda run: pid.exists() and pid.read_text())
    kubeflow.server.lose(run)
    assert kubeflow.finished(run).state == "FAILED"
    wait_until_gone(pid)


# Lists.


def test_runs_are_listed_by_pages_in_order(kubeflow: Kubeflow) -> None:
    made = {f"run {number}": kubeflow.submit(one, f"run {number}") for number in range(5)}
    names: list[str] = []
    token, pages = "", 0
    while True:
        page = kubeflow.client.list_runs(page_size=2, page_token=token, sort_by="name desc")
        names += [run.display_name for run in page.runs]
        token, pages = page.next_page_token, pages + 1
        assert page.total_size == 5
        if not token:
            break
    assert (names, pages) == (sorted(made, reverse=True), 3)
    with pytest.raises(ApiException, match="Invalid page token"):
        kubeflow.client.list_runs(page_token="nonsense")
    with pytest.raises(ApiException, match="Invalid sorting field"):
        kubeflow.client.list_runs(sort_by="colour")


def test_runs_are_found_by_filters_and_experiment(kubeflow: Kubeflow) -> None:
    experiment = kubeflow.client.create_experiment("mine")
    mine = kubeflow.client.run_pipeline(experiment.experiment_id, "mine 1", kubeflow.package(one))
    other = kubeflow.submit(one, "other 1")

    def found(**predicate: Any) -> list[str]:
        written = json.dumps({"predicates": [predicate]})
        return [run.run_id for run in kubeflow.client.list_runs(filter=written).runs or []]

    assert found(operation="EQUALS", key="display_name", stringValue="mine 1") == [mine.run_id]
    assert found(operation=9, key="name", string_value="OTHER") == [other]
    assert found(operation="IN", key="name", stringValues={"values": ["mine 1", "x"]}) == [mine.run_id]
    assert found(operation="EQUALS", key="storage_state", string_value="ARCHIVED") == []
    assert [run.run_id for run in kubeflow.client.list_runs(experiment_id=experiment.experiment_id).runs] == [
        mine.run_id
    ]
    with pytest.raises(ApiException, match="no support for filtering on unrecognized field"):
        found(operation="EQUALS", key="colour", string_value="red")


def test_runs_are_archived_and_deleted(kubeflow: Kubeflow) -> None:
    run = kubeflow.run(one).run_id
    kubeflow.client.archive_run(run)
    assert kubeflow.client.get_run(run).storage_state == "ARCHIVED"
    kubeflow.client.unarchive_run(run)
    assert kubeflow.client.get_run(run).storage_state == "AVAILABLE"
    kubeflow.client.delete_run(run)
    with pytest.raises(ApiException) as refused:
        kubeflow.client.get_run(run)
    assert refused.value.status == 404
    body = json.loads(refused.value.body)
    assert (body["code"], body["details"][0]["message"]) == (5, f"Run {run} not found")
    assert body["message"].endswith(f"ResourceNotFoundError: Run {run} not found")


# Experiments and pipelines.


def test_an_experiments_name_is_taken_once(kubeflow: Kubeflow) -> None:
    created = kubeflow.client.create_experiment("mine", description="of Ada")
    assert kubeflow.client.create_experiment("mine").experiment_id == created.experiment_id
    assert kubeflow.client.get_experiment(experiment_name="mine").description == "of Ada"
    with pytest.raises(ApiException) as refused:
        kubeflow.client._experiment_api.experiment_service_create_experiment(
            experiment=kfp_server_api.V2beta1Experiment(display_name="mine")
        )
    assert refused.value.status == 409
    assert "The name mine already exists. Please specify a new name" in refused.value.body
    with pytest.raises(ApiException) as long:
        kubeflow.client._experiment_api.experiment_service_create_experiment(
            experiment=kfp_server_api.V2beta1Experiment(display_name="x" * 129)
        )
    assert long.value.status == 500
    assert "Experiment.Name length cannot exceed 128" in long.value.body


def test_an_archived_experiment_takes_its_runs_with_it(kubeflow: Kubeflow) -> None:
    experiment = kubeflow.client.create_experiment("mine").experiment_id
    run = kubeflow.client.run_pipeline(experiment, "a run", kubeflow.package(one)).run_id
    kubeflow.client.archive_experiment(experiment)
    assert kubeflow.client.get_run(run).storage_state == "ARCHIVED"
    with pytest.raises(ApiException, match="must be un-archived first"):
        kubeflow.client.unarchive_run(run)
    kubeflow.client.unarchive_experiment(experiment)
    kubeflow.client.unarchive_run(run)


def test_pipelines_have_versions_that_runs_name(kubeflow: Kubeflow, tmp_path: Path) -> None:
    pipeline = kubeflow.client.upload_pipeline(kubeflow.package(one), "saying")
    assert kubeflow.client.get_pipeline_id("saying") == pipeline.pipeline_id
    with tarfile.open(tmp_path / "one.tar.gz", "w:gz") as tarball:
        tarball.add(kubeflow.package(one), "pipeline.yaml")
    second_version = kubeflow.client.upload_pipeline_version(
        str(tmp_path / "one.tar.gz"), "v2", pipeline_id=pipeline.pipeline_id
    )
    versions = kubeflow.client.list_pipeline_versions(pipeline.pipeline_id).pipeline_versions
    assert {version.name for version in versions} == {"saying", "v2"}
    assert second_version.pipeline_spec["pipelineInfo"]["name"] == "one"
    experiment = kubeflow.client.create_experiment("mine").experiment_id
    run = kubeflow.client.run_pipeline(
        experiment,
        "of a version",
        pipeline_id=pipeline.pipeline_id,
        version_id=second_version.pipeline_version_id,
        params={"word": "version"},
    )
    ended = kubeflow.finished(run.run_id)
    assert "word version" in kubeflow.log(ended, "say")
    assert ended.pipeline_version_reference.pipeline_version_id == second_version.pipeline_version_id
    assert ended.pipeline_spec is None
    by_name = kubeflow.read("/apis/v2beta1/pipelines/names/saying")
    assert json.loads(by_name[1])["pipeline_id"] == pipeline.pipeline_id
    assert kubeflow.read("/apis/v2beta1/pipelines/names/nothing")[0] == 404


def test_uploads_that_are_refused_say_little(kubeflow: Kubeflow, tmp_path: Path) -> None:
    pipeline = kubeflow.client.upload_pipeline(kubeflow.package(one), "saying")
    with pytest.raises(ApiException) as taken:
        kubeflow.client.upload_pipeline(kubeflow.package(one), "saying")
    assert (taken.value.status, "Failed to create a pipeline and a pipeline version" in taken.value.body) == (409, True)
    with pytest.raises(ApiException) as again_taken:
        kubeflow.client.upload_pipeline_version(kubeflow.package(one), "saying", pipeline_id=pipeline.pipeline_id)
    assert again_taken.value.status == 409
    (tmp_path / "none.yaml").write_text("hello: world")
    with pytest.raises(ApiException) as malformed:
        kubeflow.client.upload_pipeline(str(tmp_path / "none.yaml"), "other")
    assert (malformed.value.status, "unknown template format" in malformed.value.body) == (400, True)
    with pytest.raises(ApiException, match="existing pipeline versions"):
        kubeflow.client.delete_pipeline(pipeline.pipeline_id)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nothing": 1}, "parameter(s) provided are not required by pipeline: nothing"),
        ({"n": "three"}, "input parameter n requires type double or integer, but the parameter value is not of number"),
        ({"fail": "yes"}, "input parameter fail requires type bool, but the input parameter is not of bool value type"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kubeflow: Kubeflow, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiException) as refused:
        kubeflow.submit(plain, **arguments)
    body = json.loads(refused.value.body)
    assert (refused.value.status, body["code"]) == (400, 3)
    assert body["details"][0]["message"].startswith(message)
    assert body["message"].startswith(
        "Failed to create a new run: Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
        "Invalid input error: "
    )
    assert kubeflow.client.list_runs().runs is None


def test_an_argument_without_default_has_to_be_given(kubeflow: Kubeflow) -> None:
    with pytest.raises(ApiException, match="parameter uri is not optional, yet has neither default value nor user"):
        kubeflow.submit(reading)
    with pytest.raises(ApiException, match="exceed maximum size of 10000"):
        kubeflow.submit(one, word="x" * 10_001)


def test_requests_that_cannot_be_are_refused(kubeflow: Kubeflow) -> None:
    create = kubeflow.client._run_api.run_service_create_run
    run = kfp_server_api.V2beta1Run
    with pytest.raises(ApiException, match="Run name cannot be empty"):
        create(run=run(pipeline_spec={"x": 1}))
    with pytest.raises(ApiException) as malformed:
        create(run=run(display_name="a run", pipeline_spec={"pipelineInfo": {"name": "x"}, "root": {"dagg": {}}}))
    assert (malformed.value.status, "unknown template format" in malformed.value.body) == (500, True)
    missing = kfp_server_api.V2beta1PipelineVersionReference(pipeline_id="p", pipeline_version_id="v")
    with pytest.raises(ApiException) as no_version:
        create(run=run(display_name="a run", pipeline_version_reference=missing))
    assert (no_version.value.status, "PipelineVersion v not found" in no_version.value.body) == (500, True)
    with pytest.raises(ApiException) as no_experiment:
        create(run=run(display_name="a run", experiment_id="nothing", pipeline_version_reference=missing))
    assert no_experiment.value.status == 404
    request = urllib.request.Request(f"{kubeflow.server.url}/apis/v2beta1/runs", b'{"colour": "red"}', method="POST")
    with pytest.raises(urllib.error.HTTPError) as unknown:
        urllib.request.urlopen(request)
    assert 'unknown field \\"colour\\"' in unknown.value.read().decode()
    assert kubeflow.read("/apis/v2beta1/nothing")[0] == 404


def test_a_workflow_that_grows_too_large_ends_without_its_exit_handler(
    tmp_path: Path, package: Callable[[Any], str]
) -> None:
    pipeline = read_pipeline(Path(package(demo)))
    between = (submitted_bytes(pipeline) + stored_bytes(pipeline)) // 2
    with KubeflowStandIn(tmp_path / "kubeflow", settings=Settings(max_workflow_bytes=between)) as server:
        run = Kubeflow(server, package).run(demo)
        assert run.state == "FAILED"
        assert "exit-handler-1.onExit" not in states(run)
        assert (states(run)["first"], states(run)["root"]) == ("SUCCEEDED", "RUNNING")
    with KubeflowStandIn(tmp_path / "smaller", settings=Settings(max_workflow_bytes=1_000)) as server:
        with pytest.raises(ApiException, match="request is too large") as refused:
            Kubeflow(server, package).submit(demo)
        assert refused.value.status == 500


# Recurring runs.


class Schedules:
    """Recurring runs of a stand-in."""

    def __init__(self, kubeflow: Kubeflow) -> None:
        self.kubeflow, self.client = kubeflow, kubeflow.client
        self.experiment = self.client.create_experiment("recurring").experiment_id

    def create(self, pipeline: Any = one, **given: Any) -> Any:
        """A new one; hourly, if nothing else is said."""
        settings = {"cron_expression": "0 0 * * * *", "pipeline_package_path": self.kubeflow.package(pipeline)} | given
        return self.client.create_recurring_run(self.experiment, "hourly", **settings)

    def runs(self, recurring: Any) -> list[Any]:
        """Its runs, by the moment they were due."""
        found = self.client.list_runs(experiment_id=self.experiment, page_size=100, sort_by="scheduled_at").runs or []
        return [run for run in found if run.recurring_run_id == recurring.recurring_run_id]

    def settled(self, recurring: Any, count: int) -> list[Any]:
        """Its runs, when there are so many and all have ended."""
        end = time.monotonic() + 200
        while time.monotonic() < end:
            runs = self.runs(recurring)
            if len(runs) >= count and all(run.state in ("SUCCEEDED", "FAILED") for run in runs):
                return runs
            time.sleep(0.1)
        raise AssertionError([run.state for run in runs])


@pytest.fixture
def schedules(kubeflow: Kubeflow) -> Schedules:
    # Away from the full hour, so that no moment of the test is one.
    now = datetime.now(UTC)
    kubeflow.server.clock.advance(seconds=(now.replace(minute=30, second=0) + timedelta(hours=1) - now).total_seconds())
    return Schedules(kubeflow)


def test_a_recurring_run_begins_runs_when_time_passes(schedules: Schedules) -> None:
    recurring = schedules.create(params={"word": "[[Index]] at [[ScheduledTime]]"}, max_concurrency=1)
    assert (recurring.status, recurring.mode, recurring.trigger.cron_schedule.cron) == (
        "ENABLED", "ENABLE", "0 0 * * * *"
    )  # fmt: skip
    assert schedules.runs(recurring) == []
    schedules.kubeflow.server.clock.advance(hours=1)
    (run,) = schedules.settled(recurring, 1)
    assert run.display_name == workflow_of(run)
    assert run.display_name.startswith("hourly-")
    hour = run.scheduled_at.strftime("%Y%m%d%H0000")
    assert f"word 1 at {hour}" in schedules.kubeflow.log(run, "say")
    assert (run.scheduled_at.minute, run.scheduled_at.second) == (0, 0)
    assert run.runtime_config.parameters["word"] == "[[Index]] at [[ScheduledTime]]"


def test_one_at_a_time_catches_up_with_all_it_missed(schedules: Schedules) -> None:
    recurring = schedules.create(max_concurrency=1)
    schedules.kubeflow.server.clock.advance(hours=3)
    assert len(schedules.runs(recurring)) == 1
    hours = [run.scheduled_at for run in schedules.settled(recurring, 3)]
    assert [later - earlier for earlier, later in itertools.pairwise(hours)] == [timedelta(hours=1)] * 2


def test_without_catch_up_only_the_newest_is_begun(schedules: Schedules) -> None:
    recurring = schedules.create(no_catchup=True, max_concurrency=5)
    schedules.kubeflow.server.clock.advance(hours=3)
    (run,) = schedules.settled(recurring, 1)
    assert schedules.kubeflow.server.clock.today() - run.scheduled_at < timedelta(hours=1)


def test_several_at_a_time_begin_together(schedules: Schedules) -> None:
    recurring = schedules.create(max_concurrency=3)
    schedules.kubeflow.server.clock.advance(hours=2)
    assert len(schedules.runs(recurring)) == 2


def test_start_end_and_interval_bound_a_schedule(schedules: Schedules) -> None:
    now = schedules.kubeflow.server.clock.today()
    recurring = schedules.create(
        cron_expression=None,
        interval_second=600,
        max_concurrency=10,
        start_time=(now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        end_time=(now + timedelta(hours=1, minutes=25)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    schedules.kubeflow.server.clock.advance(minutes=59)
    assert schedules.runs(recurring) == []
    schedules.kubeflow.server.clock.advance(hours=9)
    assert len(schedules.runs(recurring)) == 2


def test_a_disabled_schedule_rests_and_catches_up_when_it_is_enabled(schedules: Schedules) -> None:
    recurring = schedules.create(enabled=False, max_concurrency=4)
    identity = recurring.recurring_run_id
    schedules.kubeflow.server.clock.advance(hours=1)
    assert schedules.runs(recurring) == []
    assert schedules.client.get_recurring_run(identity).status == "DISABLED"
    schedules.client.enable_recurring_run(identity)
    assert len(schedules.runs(recurring)) == 1
    schedules.client.disable_recurring_run(identity)
    schedules.kubeflow.server.clock.advance(hours=1)
    assert len(schedules.runs(recurring)) == 1


def test_deleting_a_schedule_kills_its_run_which_is_never_told_to_have_ended(
    schedules: Schedules, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    recurring = schedules.create(waiting, params={"file": str(tmp_path / "never"), "pid": str(pid)})
    schedules.kubeflow.server.clock.advance(hours=1)
    (run,) = schedules.runs(recurring)
    schedules.kubeflow.until(run.run_id, lambda run: pid.exists() and pid.read_text())
    schedules.kubeflow.until(run.run_id, lambda run: run.state == "RUNNING")
    schedules.client.delete_recurring_run(recurring.recurring_run_id)
    assert schedules.client.list_recurring_runs().recurring_runs is None
    with pytest.raises(ApiException, match=r"Job .* not found"):
        schedules.client.get_recurring_run(recurring.recurring_run_id)
    wait_until_gone(pid)
    assert schedules.client.get_run(run.run_id).state == "RUNNING"


def test_schedules_and_their_place_survive_a_restart(schedules: Schedules) -> None:
    recurring = schedules.create(max_concurrency=5)
    schedules.kubeflow.server.clock.advance(hours=1)
    schedules.settled(recurring, 1)
    schedules.kubeflow.server.restart()
    assert len(schedules.runs(recurring)) == 1
    schedules.kubeflow.server.clock.advance(hours=1)
    assert len(schedules.runs(recurring)) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cron_expression": "every day"}, "Expected 5 to 6 fields, found 2: every day"),
        ({"cron_expression": "0 0 25 * * *"}, "End of range (25) above maximum (23): 25"),
        ({"cron_expression": "TZ=Nowhere/Land 0 0 6 * * *"}, "Provided bad location Nowhere/Land"),
        ({"max_concurrency": 11}, "at least 1 and at most 10. Received 11"),
        ({"params": {"colour": "red"}}, "not required by pipeline: colour"),
    ],
)
def test_schedules_that_cannot_be_are_refused(schedules: Schedules, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiException) as refused:
        schedules.create(**given)
    assert refused.value.status == 400
    assert message in json.loads(refused.value.body)["message"]
    assert schedules.client.list_recurring_runs().recurring_runs is None


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("0 0 6 * * *", "2026-11-29T06:00:00"),
        # Five fields have seconds and no day of week: the sixth minute of every hour.
        ("0 6 * * *", "2026-11-28T13:06:00"),
        ("*/15 30 12 * * *", "2026-11-28T12:30:45"),
        ("0 0 0 1 jan ?", "2027-01-01T00:00:00"),
        ("0 0 9 * * mon-fri", "2026-11-30T09:00:00"),
        # Day of month or day of week.
        ("0 0 0 13 * fri", "2026-12-04T00:00:00"),
        ("TZ=Europe/Berlin 0 0 6 * * *", "2026-11-29T05:00:00"),
        ("@daily", "2026-11-29T00:00:00"),
        ("@every 1h30m", "2026-11-28T14:00:31"),
    ],
)
def test_cron_has_seconds_first(expression: str, due: str) -> None:
    now = datetime(2026, 11, 28, 12, 30, 31, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(Cron.parse(expression).next(now), UTC).isoformat() == f"{due}+00:00"


def test_a_day_that_never_comes_is_never_due() -> None:
    assert Cron.parse("0 0 0 30 feb ?").next(0.0) == NEVER


# Users.


@pytest.fixture
def teams(tmp_path: Path) -> Iterator[KubeflowStandIn]:
    users = {"ada": User("ada@example.com", frozenset({"red"})), "bob": User("bob@example.com", frozenset({"blue"}))}
    with KubeflowStandIn(tmp_path / "kubeflow", settings=Settings(users=users)) as server:
        yield server


def test_with_users_each_sees_its_own_namespace(teams: KubeflowStandIn, package: Callable[[Any], str]) -> None:
    ada, bob = (kfp.Client(host=teams.url, existing_token=token, namespace=space) for token, space in
                (("ada", "red"), ("bob", "blue")))  # fmt: skip
    assert ada.get_kfp_healthz().multi_user is True
    experiment = ada.create_experiment("shared name", namespace="red")
    assert bob.create_experiment("shared name", namespace="blue").experiment_id != experiment.experiment_id
    run = ada.run_pipeline(experiment.experiment_id, "a run", package(one)).run_id
    assert [item.run_id for item in ada.list_runs(namespace="red").runs] == [run]
    assert bob.list_runs(namespace="blue").runs is None
    for refused in (
        lambda: bob.get_run(run),
        lambda: bob.list_runs(namespace="red"),
        lambda: bob.run_pipeline(experiment.experiment_id, "another's", package(one)),
        lambda: bob.terminate_run(run),
    ):
        with pytest.raises(ApiException) as told:
            refused()
        assert told.value.status == 403
        assert "User 'bob@example.com' is not authorized with reason" in told.value.body
    with pytest.raises(ApiException, match="An experiment cannot have an empty namespace in multi-user mode"):
        ada._experiment_api.experiment_service_create_experiment(
            experiment=kfp_server_api.V2beta1Experiment(display_name="x")
        )
    # An upload that is not permitted says neither that nor why.
    with pytest.raises(ApiException) as upload:
        bob.upload_pipeline(package(one), "saying", namespace="red")
    assert (upload.value.status, "Failed to create a pipeline" in upload.value.body) == (400, True)


@pytest.mark.parametrize("token", [None, "expired"])
def test_with_users_nobody_comes_in_without_a_token_that_is_known(teams: KubeflowStandIn, token: str | None) -> None:
    client = kfp.Client(host=teams.url, existing_token=token, namespace="red")
    with pytest.raises(ApiException) as refused:
        client.list_runs(namespace="red")
    assert refused.value.status == 401
    assert json.loads(refused.value.body)["code"] == 16


# Faults.


@pytest.mark.parametrize("status", [401, 403, 409, 429, 500, 503])
def test_a_fault_answers_in_place_of_the_service(kubeflow: Kubeflow, status: int) -> None:
    kubeflow.server.order(Fault(method="GET", path="/runs$", status=status, headers={"X-From": "a proxy"}, times=2))
    for _ in range(2):
        with pytest.raises(ApiException) as refused:
            kubeflow.client.list_runs()
        assert (refused.value.status, refused.value.headers["X-From"]) == (status, "a proxy")
        assert set(json.loads(refused.value.body)) == {"code", "message", "details"}
    assert kubeflow.client.list_runs().total_size is None


def test_the_client_itself_asks_again_where_it_is_told_when(kubeflow: Kubeflow) -> None:
    kubeflow.server.order(Fault(method="GET", path="/runs$", status=503, headers={"Retry-After": "0"}))
    before = len(kubeflow.server.requests)
    assert kubeflow.client.list_runs().total_size is None
    assert kubeflow.server.requests[before:] == ["GET /apis/v2beta1/runs"] * 2


def test_a_connection_is_cut_after_the_run_was_created(kubeflow: Kubeflow) -> None:
    pipeline = yaml.safe_load(Path(kubeflow.package(one)).read_text())
    body = json.dumps({"display_name": "cut", "pipeline_spec": pipeline}).encode()
    kubeflow.server.order(Fault(method="POST", path="/runs$", cut=True))
    with pytest.raises(ConnectionError):
        urllib.request.urlopen(urllib.request.Request(f"{kubeflow.server.url}/apis/v2beta1/runs", body))
    (run,) = kubeflow.client.list_runs().runs
    assert run.display_name == "cut"
    assert kubeflow.finished(run.run_id).state == "SUCCEEDED"


def test_a_fault_delays_what_it_concerns(kubeflow: Kubeflow) -> None:
    kubeflow.server.order(Fault(path="/experiments", delay=1.0))
    # Of another kind: the fault still waits.
    kubeflow.client.list_runs()
    begun = time.monotonic()
    kubeflow.client.list_experiments()
    assert time.monotonic() - begun >= 1.0


# The published API.


def test_answers_have_the_published_fields_and_no_others(kubeflow: Kubeflow) -> None:
    schedules = Schedules(kubeflow)
    recurring = schedules.create()
    run = kubeflow.run(demo)
    pipeline = kubeflow.client.upload_pipeline(kubeflow.package(one), "saying")
    for path, model in {
        f"runs/{run.run_id}": "V2beta1Run",
        "runs": "V2beta1ListRunsResponse",
        "experiments": "V2beta1ListExperimentsResponse",
        "pipelines": "V2beta1ListPipelinesResponse",
        f"pipelines/{pipeline.pipeline_id}/versions": "V2beta1ListPipelineVersionsResponse",
        "recurringruns": "V2beta1ListRecurringRunsResponse",
        f"recurringruns/{recurring.recurring_run_id}": "V2beta1RecurringRun",
    }.items():
        status, text = kubeflow.read(f"/apis/v2beta1/{path}")
        assert status == 200
        check(json.loads(text), model)


def check(value: Any, model: str) -> None:
    """See that a value has only the fields of a published model, as deep as it goes."""
    if model.startswith("list["):
        for item in value:
            check(item, model[5:-1])
    elif model.startswith("dict("):
        for item in value.values():
            check(item, model[5:-1].partition(", ")[2])
    elif found := getattr(kfp_server_api, model, None):
        if isinstance(value, str):
            allowed = {item for name, item in vars(found).items() if name.isupper()}
            assert value in allowed, (value, model)
            return
        fields = {written: found.openapi_types[name] for name, written in found.attribute_map.items()}
        assert set(value) <= set(fields), (set(value) - set(fields), model)
        for name, item in value.items():
            check(item, fields[name])
    else:
        kinds = {"str": str, "int": int, "bool": bool, "datetime": str, "object": object}
        assert isinstance(value, kinds[model]), (value, model)
