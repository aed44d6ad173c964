"""A step is a contract: its outputs carry a record, and its failure reaches people in plain words."""

from __future__ import annotations

import ast
import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kfp_lifecycle.compilation.pipeline import components
from kfp_lifecycle.environments.locks import environment_directory, interpreter
from kfp_lifecycle.runtime.closure import imported_names
from kfp_lifecycle.runtime.component import LifecycleComponent
from kfp_lifecycle.runtime.contract import TERMINATION_LOG_BYTES, ContractViolation, outcome_in, step

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = components()
# What makes the step what it is; neither imports a library.
BEFORE_THE_STEP = {
    "kfp_lifecycle.runtime.contract.step",
    "kfp_lifecycle.runtime.side_process.side_process",
    "kfp_lifecycle.components.training.train_model.describing.prepare",
}


@dataclass
class Output:
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "output"))


@pytest.fixture
def termination_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "termination-log"))
    return tmp_path / "termination-log"


def test_an_output_carries_when_its_step_began_and_how_long_it_took(output: Output) -> None:
    with step(output):
        Path(output.path).write_text("kept")
    assert output.metadata["started_at"].endswith("+00:00")
    assert output.metadata["seconds"] >= 0
    assert Path(output.path).read_text() == "kept"


def test_a_violation_ends_the_step_with_its_own_words(
    output: Output, termination_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, step(output):
        raise ContractViolation("purchases.amount is negative in 3 rows")
    assert ended.value.code == 1
    assert termination_log.read_text() == "purchases.amount is negative in 3 rows"
    assert "purchases.amount is negative in 3 rows" in capsys.readouterr().err
    assert output.metadata == {}


def test_a_crash_names_error_and_place_and_goes_on_as_it_is(output: Output, termination_log: Path) -> None:
    with pytest.raises(ZeroDivisionError), step(output):
        _ = 1 / 0
    assert termination_log.read_text().startswith("ZeroDivisionError: division by zero (test_contract.py:")


def test_a_reason_longer_than_kubernetes_keeps_is_cut(output: Output, termination_log: Path) -> None:
    with pytest.raises(SystemExit), step(output):
        raise ContractViolation("ü" * TERMINATION_LOG_BYTES)
    assert len(termination_log.read_bytes()) == TERMINATION_LOG_BYTES


def test_where_no_termination_log_can_be_written_the_reason_is_in_the_log(
    output: Output, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERMINATION_LOG", "/nowhere/termination-log")
    with pytest.raises(SystemExit), step(output):
        raise ContractViolation("no such table")
    assert "no such table" in capsys.readouterr().err


def kill_a_process() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        os.kill(processes.submit(os.getpid).result(60), signal.SIGKILL)
        processes.submit(abs, -1).result(60)


def test_a_process_of_the_step_that_is_killed_is_told_in_plain_words(output: Output, termination_log: Path) -> None:
    with pytest.raises(SystemExit), step(output):
        kill_a_process()
    assert termination_log.read_text().startswith("A process of this step was gone before its work was done")


def test_a_log_says_what_became_of_its_step(
    output: Output, termination_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with step(output):
        output.metadata["summary"] = "3 rows"
    assert outcome_in(capsys.readouterr().out) == ("3 rows", "")
    with pytest.raises(SystemExit), step(output):
        raise ContractViolation("The table users is empty.\nLoad it again.")
    said = capsys.readouterr().err
    assert outcome_in(said) == ("", "The table users is empty.\nLoad it again.")
    launcher = "E1128 18:57:52.184068      15 launcher_v2.go:449] Component failed to execute successfully"
    for afterwards in ("Traceback (most recent call last):\n  …", launcher):
        assert outcome_in(f"Loading\n{said}\n{afterwards}") == outcome_in(said)
    assert outcome_in("Loading\n") == ("", "")


def test_a_library_that_is_missing_is_a_failure_like_others(output: Output, termination_log: Path) -> None:
    with pytest.raises(ModuleNotFoundError), step(output):
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
    assert termination_log.read_text().startswith("ModuleNotFoundError: No module named 'no_such_library'")


@pytest.mark.parametrize(
    ("own", "turns"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")],
)
def test_threads_that_wait_for_each_other_soon_give_up_their_core(own: dict[str, str], turns: str) -> None:
    """What OpenMP itself, as scikit-learn brings it along, says when a step loads it."""
    (openmp,) = environment_directory("modelling").glob("lib/python*/site-packages/scikit_learn.libs/libgomp*")
    load = f"import ctypes; ctypes.CDLL({str(openmp)!r})"
    code = f"from kfp_lifecycle.runtime.contract import step\nwith step():\n    {load}"
    removed = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    variables = {**kept, **own, "PYTHONPATH": str(ROOT / "src"), "OMP_DISPLAY_ENV": "VERBOSE"}
    command = [str(interpreter("modelling")), "-c", code]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stderr
    assert f"GOMP_SPINCOUNT = '{turns}'" in said


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
def test_a_component_imports_what_it_works_with_inside_its_step(component: LifecycleComponent) -> None:
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(component.function))).body
    assert isinstance(function, ast.FunctionDef)
    before = [part for part in function.body if isinstance(part, ast.Import | ast.ImportFrom)]
    imported = {name for part in before for name in imported_names(part)}
    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} <= BEFORE_THE_STEP


# What is in a circle lives until the next search for garbage.
CIRCLE = """
import gc, sys
from kfp_lifecycle.runtime.contract import step
class Circle:
    def __init__(self): self.itself = self
    def __del__(self): print("collected")
with step():
    Circle()
    made = [[] for _ in range(int(sys.argv[1]))]
print("done", flush=True)
"""


@pytest.mark.parametrize(("objects", "lines"), [(40_000, ["done"]), (60_000, ["collected", "done"])])
def test_garbage_is_looked_for_seldom_and_not_at_the_end(objects: int, lines: list[str]) -> None:
    command = [sys.executable, "-c", CIRCLE, str(objects)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() == lines
