"""What describes a model is computed in a process beside the training, which never outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kfp_lifecycle.runtime.contract import ContractViolation, step
from kfp_lifecycle.runtime.side_process import side_process


def is_there(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def gone(process: int, seconds: float = 100) -> bool:
    end = time.monotonic() + seconds
    while is_there(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_there(process)


def priority_and_threads() -> tuple[int, str]:
    return os.getpriority(os.PRIO_PROCESS, 0), os.environ["OMP_NUM_THREADS"]


def test_it_gives_way_to_the_training() -> None:
    with side_process() as beside:
        assert beside.submit(priority_and_threads).result(60) == (19, "1")


def test_it_ends_with_the_training_whatever_it_is_at() -> None:
    with side_process() as beside:
        process = beside.submit(os.getpid).result(60)
        beside.submit(time.sleep, 600)
        assert is_there(process)
    assert gone(process)


def fail_beside_long_work() -> None:
    with side_process() as beside:
        beside.submit(time.sleep, 600)
        raise ContractViolation("no such column")


def test_a_training_that_fails_does_not_wait_for_it() -> None:
    began = time.monotonic()
    with pytest.raises(ContractViolation, match="no such column"):
        fail_beside_long_work()
    assert time.monotonic() - began < 60


def kill_it() -> None:
    with step(), side_process() as beside:
        os.kill(beside.submit(os.getpid).result(60), signal.SIGKILL)
        beside.submit(time.sleep, 600).result(60)


def test_one_that_is_killed_ends_the_training_and_the_message_says_where_to_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        kill_it()
    assert "it was killed, and the system's log says whether memory was short" in capsys.readouterr().err


ENDLESS = """
import os, time
from kfp_lifecycle.runtime.side_process import side_process
with side_process() as beside:
    print(beside.submit(os.getpid).result(), flush=True)
    beside.submit(time.sleep, 600).result()
"""


def test_it_does_not_outlive_a_training_that_was_killed() -> None:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", ENDLESS], env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        beside = int(process.stdout.readline())
        process.kill()
        assert gone(beside)


def test_an_interrupt_that_reaches_it_too_is_left_to_the_training() -> None:
    with side_process() as beside:
        os.kill(beside.submit(os.getpid).result(60), signal.SIGINT)
        assert beside.submit(abs, -1).result(60) == 1
