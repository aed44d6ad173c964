"""The adapter to kfp's local runner: fails here when kfp changes what it leans on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from greeting_steps import crash, die, greet, outcome, sleep
from kfp import compiler, dsl

from kfp_lifecycle.local.kfp_runner import LONGEST_ARGUMENT, EnvironmentMissing, Session, StepOutputs, run_pipeline
from kfp_lifecycle.runtime.state_folder import state_folder


@dsl.pipeline(name="greeting")
def greeting_pipeline(name: str, crash_after: bool = False, sleep_after: bool = False, die_after: bool = False):
    ending = outcome().set_caching_options(False)
    with dsl.ExitHandler(ending):
        greeted = greet(name=name)
        with dsl.If(crash_after == True, name="crash"):  # noqa: E712
            crash(greeting=greeted.outputs["greeting"])
        with dsl.If(sleep_after == True, name="sleep"):  # noqa: E712
            sleep(greeting=greeted.outputs["greeting"])
        with dsl.If(die_after == True, name="die"):  # noqa: E712
            die(greeting=greeted.outputs["greeting"])


class Observed:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.outputs: dict[str, StepOutputs] = {}

    def started(self, step: str, log: Path) -> None:
        self.told.append((step, "running"))

    def cached(self, step: str, outputs: StepOutputs) -> None:
        self.told.append((step, "cached"))
        self.outputs[step] = outputs

    def done(self, step: str, outputs: StepOutputs) -> None:
        self.told.append((step, "done"))
        self.outputs[step] = outputs

    def failed(self, step: str, reason: str, log: Path) -> None:
        self.told.append((step, f"failed: {reason}"))

    def interrupted(self, step: str) -> None:
        self.told.append((step, "interrupted"))


def run(folder: Path, **arguments: Any) -> Observed:
    observed = Observed()
    compiled = folder / "greeting.yaml"
    compiler.Compiler().compile(greeting_pipeline, str(compiled))
    for name in ("logs", "scratch"):
        (folder / name).mkdir(exist_ok=True)
    run_pipeline(
        compiled,
        arguments,
        session=Session(observed, folder / "logs", folder / "scratch", state_folder() / "code", {}),
        artifacts=folder / "artifacts",
        cache_root=folder / "cache",
        kfp_log=folder / "logs" / "kfp.log",
    )
    return observed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "a path with spaces, 'quotes' and ünïcode"
    place.mkdir()
    return place


def test_a_step_runs_under_its_environment_and_hands_on_its_outputs(folder: Path) -> None:
    observed = run(folder, name="Ada")
    path, metadata = observed.outputs["greet"].artifacts["greeting"]
    assert Path(path).read_text("utf-8") == "hello Ada"
    assert metadata["summary"] == "Ada"
    assert Path(metadata["interpreter"]).parent.parent.name == ".venv"
    assert observed.told == [("greet", "running"), ("greet", "done"), ("outcome", "running"), ("outcome", "done")]


def test_what_a_step_is_told_may_be_longer_than_an_argument(folder: Path) -> None:
    # In the parameter of the first step, and in the metadata that it hands to the second.
    name = "Ada" * LONGEST_ARGUMENT
    observed = run(folder, name=name)
    path, metadata = observed.outputs["greet"].artifacts["greeting"]
    assert Path(path).read_text("utf-8") == f"hello {name}"
    assert metadata["summary"] == name
    assert observed.told[-1] == ("outcome", "done")


def test_the_same_step_with_the_same_inputs_is_taken_over_and_another_is_not(folder: Path) -> None:
    run(folder, name="Ada")
    assert ("greet", "cached") in run(folder, name="Ada").told
    assert ("greet", "done") in run(folder, name="Grace").told


def test_an_output_that_was_removed_is_made_again(folder: Path) -> None:
    first = run(folder, name="Ada")
    Path(first.outputs["greet"].artifacts["greeting"][0]).unlink()
    assert ("greet", "done") in run(folder, name="Ada").told


def test_the_exit_handler_learns_which_step_failed_and_why(folder: Path) -> None:
    observed = run(folder, name="")
    assert ("greet", "failed: greet needs a name; pass one with --name") in observed.told
    message = Path(observed.outputs["outcome"].artifacts["message"][0])
    assert json.loads(message.read_text()) == ["FAILED", "greet", "greet needs a name; pass one with --name"]


def test_a_step_that_dies_without_words_still_gives_a_reason(folder: Path) -> None:
    observed = run(folder, name="Ada", crash_after=True)
    assert ("crash", "failed: exit code 7") in observed.told or any(
        step == "crash" and "exit code 7" in told for step, told in observed.told
    )


def test_a_step_that_is_killed_leaves_no_process(folder: Path) -> None:
    observed = run(folder, name="Ada", die_after=True)
    assert ("die", "failed: child") in [(step, told[:13]) for step, told in observed.told]
    numbers = {int(number) for number in re.findall("child ([0-9]+)", (folder / "logs" / "die.log").read_text())}
    deadline = time.monotonic() + 60
    while numbers & running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(numbers) == 1
    assert not numbers & running()


def test_a_run_leaves_no_scratch_files(folder: Path) -> None:
    run(folder, name="Ada")
    assert list((folder / "scratch").iterdir()) == []


def test_a_missing_environment_is_named_with_its_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfp_lifecycle.local.kfp_runner.lock_digest", lambda name: "other")
    with pytest.raises(EnvironmentMissing, match="make setup"):
        run(folder, name="Ada")


def test_an_interrupt_ends_the_step_and_its_children(folder: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_kfp_runner import run
run(Path({str(folder)!r}), name="Ada", sleep_after=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, env=environment)
    log = folder / "logs" / "sleep.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and re.search("^child [0-9]+$", log.read_text(), re.MULTILINE)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(200) != 0
    numbers = {int(number) for number in re.findall("^(?:self|child) ([0-9]+)$", log.read_text(), re.MULTILINE)}
    deadline = time.monotonic() + 60
    while numbers & running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(numbers) == 2
    assert not numbers & running()


def running() -> set[int]:
    """Numbers of the processes that work; one that ended and was not waited for does not."""
    return {p.pid for p in psutil.process_iter(["status"]) if p.info["status"] != psutil.STATUS_ZOMBIE}
