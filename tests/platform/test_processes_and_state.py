"""Processes and state: whatever ends a run, it leaves no process, no doubt, and nothing in the way of others."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT

HERE = Path(__file__).parent
SLEEPS = {"name": "Ada", "sleep_after": True}
GREETS = {"name": "Ada"}


def wait_for(condition: Callable[[], Any], seconds: float = 200) -> Any:
    """What the condition gives, once it gives anything."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def living(*numbers: int) -> list[int]:
    """Those processes that work; one that ended and was not waited for does not."""
    found = []
    for number in numbers:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
                found.append(number)
    return found


pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A folder that somebody works in, and its state."""

    folder: Path
    state: Path

    def start(self, *arguments: str, greeting: dict[str, Any] = SLEEPS, **options: Any) -> subprocess.Popen[str]:
        """Begin `lifecycle …`."""
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(HERE)]),
            "LIFECYCLE_STATE": str(self.state),
            "GREETING": json.dumps(greeting),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **options.pop("variables", {}),
        }
        # Whatever compiles nothing is the command itself, which imports no compiler.
        program = [str(HERE / "greeting_run.py")] if arguments[0] == "run" else ["-m", "kfp_lifecycle.cli"]
        command = [sys.executable, *program, *arguments]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
        return subprocess.Popen(command, cwd=self.folder, env=variables, **(piped | options))

    def run(self, greeting: dict[str, Any] = SLEEPS, **options: Any) -> subprocess.Popen[str]:
        """Begin a run."""
        return self.start("run", "monitoring", "--project", str(ROOT), greeting=greeting, **options)

    def lifecycle(self, *arguments: str, expect: int = 0, **options: Any) -> str:
        """What `lifecycle …` prints."""
        with self.start(*arguments, **options) as process:
            printed, _ = process.communicate(timeout=300)
        assert process.returncode == expect, printed
        assert "Traceback" not in printed
        return str(printed)

    def runs(self) -> list[dict[str, Any]]:
        """The runs, as `lifecycle status` tells of them."""
        runs: list[dict[str, Any]] = json.loads(self.lifecycle("status", "--json"))["runs"]
        return runs

    def step(self) -> tuple[int, int]:
        """The processes of the step that sleeps, once it does: itself and its child."""

        def numbers() -> list[int]:
            logs = [log for log in self.state.glob("runs/*/logs/sleep.log") if log.stat().st_size]
            text = max(logs, key=lambda log: log.stat().st_mtime).read_text() if logs else ""
            return [int(number) for number in re.findall("^(?:self|child) ([0-9]+)$", text, re.MULTILINE)]

        own, child = wait_for(lambda: found if len(found := numbers()) == 2 else None)
        return own, child

    def resume(self) -> str:
        """Go on with the last run, in which nothing sleeps any more."""
        return self.lifecycle("run", "--resume", greeting=GREETS)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "Müller 数据"
    state = folder / ".lifecycle"
    state.mkdir(parents=True)
    (state / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
    yield Place(folder, state)
    for log in folder.glob(".lifecycle/runs/*/logs/sleep.log"):
        for number in living(
            *(int(number) for number in re.findall("^(?:self|child) ([0-9]+)$", log.read_text(), re.M))
        ):
            os.kill(number, signal.SIGKILL)


class TestARunThatIsEnded:
    @pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
    def test_ends_its_step_and_what_that_started_and_is_resumed(self, place: Place, ending: signal.Signals) -> None:
        with place.run() as run:
            step = place.step()
            run.send_signal(ending)
        wait_for(lambda: not living(*step), 100)
        assert run.returncode == (-signal.SIGKILL if ending is signal.SIGKILL else 130)
        (last,) = place.runs()
        assert (last["state"], last["failed_step"]) == ("interrupted", "sleep")
        assert last["reason"] == ("the run's process was killed" if ending is signal.SIGKILL else "stopped by the user")
        assert "greet cached" in place.resume()
        assert [each["state"] for each in place.runs()] == ["done", "interrupted"]

    def test_from_a_script_that_started_it_in_the_background_ends_by_sigterm(self, place: Place) -> None:
        # What a shell does to `lifecycle run … &` in a script.
        with place.run(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as run:
            step = place.step()
            run.terminate()
        assert run.returncode == 130
        assert not living(*step)

    def test_by_its_closed_terminal_ends_in_order(self, place: Place) -> None:
        ours, theirs = os.openpty()
        with place.run(
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_terminal
        ) as run:
            os.close(theirs)
            step = place.step()
            os.close(ours)
            assert run.wait(200) == 130
        assert not living(*step)
        (last,) = place.runs()
        assert (last["state"], last["reason"]) == ("interrupted", "stopped by the user")
        assert Path(last["report"]).exists()

    def test_goes_on_without_its_terminal_under_nohup(self, place: Place) -> None:
        with place.run(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as run:
            _, child = place.step()
            run.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert run.poll() is None
            os.kill(child, signal.SIGKILL)
        assert run.returncode == 0
        assert place.runs()[0]["state"] == "done"

    def test_does_not_end_with_who_reads_what_it_prints(self, place: Place) -> None:
        with place.run() as run:
            assert run.stdout is not None
            _, child = place.step()
            run.stdout.close()
            os.kill(child, signal.SIGKILL)
        assert run.returncode == 0
        assert place.runs()[0]["state"] == "done"

    def test_while_it_compiles_is_listed_and_resumed(self, place: Place, tmp_path: Path) -> None:
        compiling = tmp_path / "compiling"
        for ending in (signal.SIGKILL, signal.SIGTERM):
            with place.run(variables={"COMPILING": str(compiling)}) as run:
                wait_for(compiling.exists)
                run.send_signal(ending)
            compiling.unlink()
        assert [(each["state"], each["pipeline"]) for each in place.runs()] == [("interrupted", "monitoring")] * 2
        assert "Done." in place.resume()

    def test_with_the_watchdog_of_its_step_still_has_no_other_beside_it(self, place: Place) -> None:
        with place.run() as first:
            own, child = place.step()
            watchdog = psutil.Process(own).parent()
            assert watchdog is not None
            # Neither can end the step now: it works on, and so the lock is held.
            watchdog.suspend()
            first.kill()
            watchdog.kill()
        (killed,) = place.runs()
        assert killed["state"] == "interrupted"
        assert living(own, child) == [own, child]
        with place.start("run", "--resume", greeting=GREETS) as second:
            assert second.stdout is not None
            line = second.stdout.readline()
            assert line.startswith(f"waiting for run {killed['id']} (process {first.pid}) to end")
            os.kill(child, signal.SIGKILL)
            assert "Done." in second.stdout.read()

    def test_leaves_nothing_after_the_next(self, place: Place, tmp_path: Path) -> None:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        with place.run(variables={"TMPDIR": str(temporary)}) as run:
            place.step()
            run.kill()
        (killed,) = (place.state / "runs").iterdir()
        assert (killed / "scratch").exists()
        # A run that was killed before it had written anything.
        (place.state / "runs" / "training-20260101-010000-1").mkdir()
        place.lifecycle("run", "--resume", greeting=GREETS, variables={"TMPDIR": str(temporary)})
        assert list(temporary.iterdir()) == []
        assert not (killed / "scratch").exists()
        # What it had finished is taken over by others; the output of what was cut off is nobody's.
        assert {folder.name for folder in killed.glob("artifacts/*/*")} == {"greet"}
        assert len(list((place.state / "runs").iterdir())) == 2


def take_terminal() -> None:
    """Make the terminal that is standard input the one whose end is told by SIGHUP."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class TestWhoLives:
    def test_the_number_of_a_dead_run_that_is_another_process_now_says_nothing(self, place: Place) -> None:
        with place.run() as run:
            place.step()
            run.kill()
        (file,) = place.state.glob("runs/*/run.json")
        record = json.loads(file.read_text("utf-8"))
        assert record["state"] == "running"
        file.write_text(json.dumps({**record, "process": os.getpid()}), "utf-8")
        assert place.runs()[0]["state"] == "interrupted"
        assert "Done." in place.resume()

    def test_a_run_that_works_is_running_and_not_to_be_resumed(self, place: Place) -> None:
        with place.run() as run:
            _, child = place.step()
            (working,) = place.runs()
            assert working["state"] == "running"
            told = place.lifecycle("run", "--resume", expect=2)
            assert f"the last run, {working['id']}, is still under way (process {run.pid})" in told
            os.kill(child, signal.SIGKILL)
        assert run.returncode == 0

    def test_two_at_once_come_one_after_the_other_and_the_second_says_whom_it_waits_for(self, place: Place) -> None:
        with place.run() as first:
            _, child = place.step()
            (working,) = (place.state / "runs").iterdir()
            with place.run(greeting=GREETS) as second:
                assert second.stdout is not None
                line = second.stdout.readline()
                assert line.startswith(f"waiting for run {working.name} (process {first.pid}) to end")
                os.kill(child, signal.SIGKILL)
                assert "Done." in second.stdout.read()
        assert [each["state"] for each in place.runs()] == ["done", "done"]


DAMAGED_RECORDS = {
    "empty": b"",
    "half": b'{"id": "monitoring-2026',
    "zeros": bytes(512),
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a state of a later version": b'{"id": "x", "pipeline": "monitoring", "project": "churn", "project_folder": "",'
    b'"overrides": [], "state": "paused"}',
    "a folder": None,
}


class TestDamage:
    @pytest.fixture(scope="class")
    @staticmethod
    def done(tmp_path_factory: pytest.TempPathFactory) -> Place:
        """A place with one run."""
        folder = tmp_path_factory.mktemp("damage")
        place = Place(folder, folder / ".lifecycle")
        place.state.mkdir()
        (place.state / "environments").symlink_to(ROOT / ".lifecycle" / "environments")
        with place.run(greeting=GREETS) as run:
            run.communicate(timeout=200)
        return place

    @pytest.fixture
    def damaged(self, done: Place, tmp_path: Path) -> Place:
        """A copy of it that may be damaged."""
        shutil.copytree(done.state, tmp_path / ".lifecycle", symlinks=True)
        return Place(tmp_path, tmp_path / ".lifecycle")

    @pytest.mark.parametrize("content", DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS.keys())
    def test_of_a_record_is_said_of_its_run(self, damaged: Place, content: bytes | None) -> None:
        (file,) = damaged.state.glob("runs/*/run.json")
        file.unlink()
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content)
        (run,) = damaged.runs()
        assert (run["state"], run["pipeline"]) == ("damaged", "monitoring")
        assert run["reason"].startswith(f"{file} cannot be read: ")

    def test_of_a_record_stops_nobody(self, damaged: Place) -> None:
        (file,) = damaged.state.glob("runs/*/run.json")
        file.write_bytes(b"")
        assert f"{file} cannot be read" in damaged.lifecycle("status")
        assert "run.json cannot be read" in damaged.lifecycle("run", "--resume", expect=2)
        assert "no run has a report yet" in damaged.lifecycle("report", expect=2)
        assert "nothing was running" in damaged.lifecycle("down")
        # Its outputs are as good as they were.
        assert "greet cached" in damaged.lifecycle("run", "monitoring", "--project", str(ROOT), greeting=GREETS)
        assert [each["state"] for each in damaged.runs()] == ["done", "damaged"]

    @pytest.mark.parametrize(
        ("tail", "damage"),
        [
            (b'{"time": "2026-01-01T00:00:00+00:00", "step": "out', "line 6 of 6"),
            (b'{"time": "2026-01-01T00:00:00+00:00", "step": "outcome", "state": "paused"}\n', "line 6 of 6"),
            (b'{"step": "outcome", "state": "done"}\n', "line 6 of 6"),
            (b"\xff\n" + bytes(64) + b"\n[]\n", "line 6, 7, 8 of 8"),
        ],
    )
    def test_of_events_is_said_and_what_can_be_read_counts(self, damaged: Place, tail: bytes, damage: str) -> None:
        (file,) = damaged.state.glob("runs/*/events.jsonl")
        kept = file.read_bytes().splitlines(keepends=True)[:5]
        file.write_bytes(b"".join(kept) + tail)
        (run,) = damaged.runs()
        assert run["state"] == "done"
        assert run["damage"] == f"events.jsonl: {damage} cannot be read"
        assert f"damaged: events.jsonl: {damage} cannot be read" in damaged.lifecycle("status")
        assert damaged.lifecycle("report").strip() == run["report"]

    def test_of_the_first_event_leaves_the_steps_that_the_others_name(self, damaged: Place) -> None:
        (file,) = damaged.state.glob("runs/*/events.jsonl")
        file.write_bytes(b"\n".join([b"{", *file.read_bytes().splitlines()[1:]]))
        assert "line 1 of" in damaged.runs()[0]["damage"]
        told = damaged.lifecycle("watch", damaged.runs()[0]["id"], "--target", "local")
        assert "greet done" in told

    def test_of_events_that_are_a_folder_or_gone_stops_nobody(self, damaged: Place) -> None:
        (file,) = damaged.state.glob("runs/*/events.jsonl")
        file.unlink()
        assert damaged.runs()[0]["state"] == "done"
        file.mkdir()
        assert damaged.runs()[0]["damage"] == "events.jsonl cannot be read: Is a directory"
        damaged.lifecycle("status")

    def test_of_what_is_served_is_said_and_the_runs_are_told_all_the_same(self, damaged: Place) -> None:
        file = damaged.state / "serving" / "churn" / "endpoint.json"
        file.parent.mkdir(parents=True)
        file.touch()
        damage = f"{file} does not say what is released"
        status = json.loads(damaged.lifecycle("status", "--json"))
        assert status["damage"].startswith(damage)
        assert [run["state"] for run in status["runs"]] == ["done"]
        assert damage in damaged.lifecycle("status")
        told = damaged.lifecycle("run", "monitoring", "--project", str(ROOT), greeting=GREETS)
        assert "Done." in told
        assert damage in told
        assert damaged.lifecycle("predict", "--entity", "1", expect=1).startswith(f"error: {damage}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


class TestDisks:
    def test_a_full_one_is_one_line_with_the_remedy(self, small_disk: Path) -> None:
        place = Place(small_disk.parent, small_disk / ".lifecycle")
        fill(small_disk)
        told = place.lifecycle("run", "monitoring", "--project", str(ROOT), expect=1)
        assert told.splitlines() == [
            f"error: there is no room left to write in {place.state}: remove what is not needed there, or name another "
            "folder with LIFECYCLE_STATE"
        ]
        assert place.runs() == []
        (small_disk / "filling").unlink()
        assert "Done." in place.lifecycle("run", "monitoring", "--project", str(ROOT), greeting=GREETS)

    def test_one_that_is_full_in_the_middle_of_a_run_is_too(self, small_disk: Path) -> None:
        place = Place(small_disk.parent, small_disk / ".lifecycle")
        with place.run() as run:
            step = place.step()
            fill(small_disk)
            os.kill(step[1], signal.SIGKILL)
            printed, _ = run.communicate(timeout=200)
        assert run.returncode == 1
        assert "Traceback" not in printed
        assert f"there is no room left to write in {place.state}" in printed
        assert place.runs()[0]["state"] in ("failed", "interrupted")
        (small_disk / "filling").unlink()
        assert "Done." in place.resume()

    def test_one_that_may_not_be_written_is_one_line_with_the_remedy(self, small_disk: Path) -> None:
        place = Place(small_disk.parent, small_disk / ".lifecycle")
        with place.run(greeting=GREETS) as run:
            run.communicate(timeout=200)
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        told = place.lifecycle("run", "monitoring", "--project", str(ROOT), expect=1)
        assert told.splitlines() == [
            f"error: {place.state / 'lock'} cannot be used (Read-only file system): give this user leave to read and "
            "write, or name another folder with LIFECYCLE_STATE"
        ]
        assert place.runs()[0]["state"] == "done"

    def test_a_file_in_the_place_of_the_state_folder_is_one_line(self, tmp_path: Path) -> None:
        place = Place(tmp_path, tmp_path / ".lifecycle")
        place.state.touch()
        (line,) = place.lifecycle("run", "monitoring", "--project", str(ROOT), expect=1).splitlines()
        assert line.startswith(f"error: {place.state} cannot be used (File exists)")

    def test_a_state_folder_that_is_removed_under_a_run_is_one_line_at_its_end(self, place: Place) -> None:
        with place.run() as run:
            step = place.step()
            shutil.rmtree(place.state)
            os.kill(step[1], signal.SIGKILL)
            printed, _ = run.communicate(timeout=200)
        assert run.returncode == 1
        assert "Traceback" not in printed
        assert "the state folder was changed by somebody else" in printed
        assert "the state folder was changed by somebody else" in place.runs()[0]["reason"]


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_run_works_in_a_folder_of_any_letters_in_any_locale(place: Place, variables: dict[str, str]) -> None:
    told = place.lifecycle("run", "monitoring", "--project", str(ROOT), greeting=GREETS, variables=variables)
    assert str(place.folder) in told
    assert str(place.folder) in place.lifecycle("status", variables=variables)
