"""Schedules of this machine are kept by its own timers: systemd's for the user, else cron's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from kfp_lifecycle.backends.backend import BackendError
from kfp_lifecycle.backends.here.crontab import Crontab, line_of
from kfp_lifecycle.backends.here.due import is_due
from kfp_lifecycle.backends.here.schedules import SchedulesHere, Timers, plan_here, timers_here
from kfp_lifecycle.backends.here.systemd import SystemdTimers, calendar_of, service_text, timer_text
from kfp_lifecycle.backends.schedules import Applied, apply
from kfp_lifecycle.config.cron import Cron
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.schedules import Schedule
from kfp_lifecycle.runtime.closure import ROOT

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd's tools are not here")
needs_crontab = pytest.mark.skipif(not shutil.which("crontab"), reason="cron is not installed")

ODD = "100% $HOME \"a\" 'b' \\ ü"
MONITORING, TRAINING = "schedules.monitoring.cron='0 6 * * *'", "schedules.training.cron='30 4 1 * *'"
CRONTAB = """#!/bin/sh
# As cron's own: it reads and writes the user's lines.
case "$1" in
  -l) cat "$LINES_OF_USER" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
  -) cat > "$LINES_OF_USER" ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
# As systemd's own for the user, which links what is enabled.
shift
wants="$XDG_CONFIG_HOME/systemd/user/timers.target.wants"
mkdir -p "$wants"
case "$1" in
  enable) ln -sf "../$3" "$wants/$3" ;;
  disable) rm -f "$wants/$3" ;;
esac
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose path has everything in it that a timer's file could misread; programs stand in for those of
    the system."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"crontab": CRONTAB, "systemctl": SYSTEMCTL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("LINES_OF_USER", str(tmp_path / "lines"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / ODD / ".lifecycle"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=[SystemdTimers, Crontab])
def timers(request: pytest.FixtureRequest, state: Path) -> Timers:
    kind: Callable[[str], Timers] = request.param
    return kind("0a1b2c3d")


def applied(here: SchedulesHere, state: Path, *overrides: str) -> list[Applied]:
    off = ["schedules.materialization=null"]
    folder = state.parent / "plan"
    folder.mkdir(exist_ok=True)
    return apply(here, plan_here(ROOT, state, folder, [*off, *overrides]))


def test_apply_makes_what_is_declared_and_again_nothing(state: Path, timers: Timers) -> None:
    here = SchedulesHere(state, timers)
    assert [(each.name, str(each.change)) for each in applied(here, state, MONITORING, TRAINING)] == [
        ("churn-training", "created"),
        ("churn-monitoring", "created"),
    ]
    assert {str(each.change) for each in applied(here, state, MONITORING, TRAINING)} == {"left"}
    assert [(each.name, each.cron, each.enabled) for each in here.schedules()] == [
        ("churn-monitoring", "0 6 * * * UTC", True),
        ("churn-training", "30 4 1 * * UTC", True),
    ]
    later = "schedules.monitoring.cron='0 7 * * *'"
    assert [(each.name, str(each.change)) for each in applied(here, state, later, "schedules.training=null")] == [
        ("churn-monitoring", "changed"),
        ("churn-training", "removed"),
    ]
    assert [each.cron for each in here.schedules()] == ["0 7 * * * UTC"]


def test_one_that_a_person_paused_stays_paused_until_it_is_resumed(state: Path, timers: Timers) -> None:
    here = SchedulesHere(state, timers)
    applied(here, state, MONITORING)
    here.pause_schedule("churn-monitoring")
    assert [str(each.change) for each in applied(here, state, "schedules.monitoring.zone=Europe/Berlin")] == ["changed"]
    assert [each.enabled for each in here.schedules()] == [False]
    here.resume_schedule("churn-monitoring")
    assert [each.enabled for each in here.schedules()] == [True]
    here.delete_schedule("churn-monitoring")
    assert here.schedules() == []


def test_a_timer_that_somebody_removed_is_made_anew(state: Path, timers: Timers) -> None:
    here = SchedulesHere(state, timers)
    applied(here, state, MONITORING)
    timers.remove("churn-monitoring")
    with pytest.raises(BackendError, match="`lifecycle schedule apply` makes it anew"):
        here.pause_schedule("churn-monitoring")
    assert [each.enabled for each in here.schedules()] == [False]
    assert [str(each.change) for each in applied(here, state, MONITORING)] == ["changed"]
    assert [each.enabled for each in here.schedules()] == [True]


def test_parameters_that_the_pipeline_does_not_have_are_refused(state: Path) -> None:
    with pytest.raises(ConfigurationError, match="no parameter since_when"):
        applied(SchedulesHere(state, Crontab("x")), state, "schedules.monitoring.parameters={since_when: 2026-01-01}")


def test_a_machine_without_timers_is_told_what_to_do(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timers_here(state).word == "systemd"
    (state.parents[1] / "programs" / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert timers_here(state).word == "cron"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendError, match="Install cron, or name a cluster"):
        timers_here(state)


class TestScript:
    """What an occurrence runs."""

    @pytest.fixture
    def script(self, state: Path) -> Path:
        applied(SchedulesHere(state, Crontab("x")), state, MONITORING)
        (state / "environment").write_text("LIFECYCLE_NOTIFY_URLS='json://localhost'\n")
        return state / "schedules" / "churn-monitoring.sh"

    def run(self, command: str, tmp_path: Path) -> int:
        """Run it with another program in the place of Python, which says how it was called."""
        return subprocess.run(["/bin/sh", "-c", command], env={**os.environ, "HOME": "/"}, check=False).returncode

    def test_runs_the_pipeline_where_it_was_scheduled(self, script: Path, state: Path, tmp_path: Path) -> None:
        said = tmp_path / "said"
        program = f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$LIFECYCLE_STATE" "$LIFECYCLE_NOTIFY_URLS" "$@" > {said}\n'
        self.replace_python(script, tmp_path, program)
        assert self.run(f"/bin/sh {shlex.quote(str(script))}", tmp_path) == 0
        cwd, folder, urls, *words = said.read_text("utf-8").splitlines()
        assert (cwd, folder, urls) == (str(Path.cwd()), str(state), "json://localhost")
        assert words[:7] == ["-m", "kfp_lifecycle.cli", "run", "monitoring", "--target", "local", "--project"]
        assert words[7:] == [str(ROOT), "--set=schedules.materialization=null", f"--set={MONITORING}"]

    def test_by_cron_runs_when_it_was_due_and_makes_up_once_for_what_was_missed(
        self, script: Path, tmp_path: Path
    ) -> None:
        ran = tmp_path / "ran"
        python = shlex.quote(sys.executable)
        self.replace_python(
            script, tmp_path, f'#!/bin/sh\ncase "$2" in *.due) exec {python} "$@" ;; *) echo run >> {ran} ;; esac\n'
        )
        # What cron runs of the line.
        line = line_of(script, Schedule(cron="0 6 * * *")).split(" ", 5)[5].replace("\\%", "%")
        stamp = script.with_suffix(".ran")
        assert self.run(line, tmp_path) == 0
        assert not ran.exists()
        days_ago = time.time() - 3 * 24 * 3600
        os.utime(stamp, (days_ago, days_ago))
        for _ in range(2):
            assert self.run(line, tmp_path) == 0
        assert ran.read_text() == "run\n"

    def test_runs_nothing_before_its_start_and_after_its_end(self, state: Path, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        now = datetime.now(UTC)
        for start, end, runs in [(-2, -1, False), (1, 2, False), (-1, 1, True)]:
            times = {name: (now + timedelta(days=days)).isoformat() for name, days in (("start", start), ("end", end))}
            settings = [f"schedules.monitoring.{name}={moment}" for name, moment in times.items()]
            applied(SchedulesHere(state, Crontab("x")), state, MONITORING, *settings)
            script = state / "schedules" / "churn-monitoring.sh"
            self.replace_python(script, tmp_path, f"#!/bin/sh\necho run > {ran}\n")
            assert self.run(f"/bin/sh {shlex.quote(str(script))}", tmp_path) == 0
            assert ran.exists() == runs

    def replace_python(self, script: Path, folder: Path, text: str) -> None:
        program = folder / "python"
        program.write_text(text)
        program.chmod(0o755)
        told = script.read_text("utf-8")
        assert sys.executable in told
        script.write_text(told.replace(shlex.quote(sys.executable), str(program)))


CRONS = ["0 6 * * *", "*/20 * * * *", "30 4 1 * *", "15 8-18/2 * * 1-5", "0 0 13 * 5", "0 12 * 2,11 0", "5 4 */2 * *"]


@needs_systemd
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("cron", CRONS)
def test_systemd_reads_a_cron_as_it_is_meant(cron: str, zone: str) -> None:
    base, wanted = datetime(2026, 11, 1, tzinfo=UTC), 12
    found: set[str] = set()
    for event in calendar_of(Schedule(cron=cron, zone=zone)):
        command = [
            "systemd-analyze",
            "calendar",
            f"--iterations={wanted}",
            "--base-time=2026-11-01 00:00:00 UTC",
            event,
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})
        found |= set(re.findall(r"(?:Next elapse|Iter\. #\d+): \w{3} (\S+ \S+) UTC", said.stdout))
    moments = Cron.parse(cron).between(base + timedelta(seconds=1), base + timedelta(days=800), ZoneInfo(zone))
    due = [f"{moment:%Y-%m-%d %H:%M:%S}" for _, moment in zip(range(wanted), moments, strict=False)]
    assert sorted(found)[:wanted] == due


@needs_systemd
def test_systemd_takes_the_units_whatever_the_script_is_called(tmp_path: Path) -> None:
    script = tmp_path / ODD / "a script.sh"
    script.parent.mkdir()
    script.write_text("exit 0\n")
    units = {
        "lifecycle-x.service": service_text("churn-monitoring", script),
        "lifecycle-x.timer": timer_text("churn-monitoring", Schedule(cron="0 0 13 * 5", zone="Europe/Berlin")),
    }
    for name, text in units.items():
        (tmp_path / name).write_text(text, "utf-8")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *(str(tmp_path / name) for name in units)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    told = [line for line in (said.stdout + said.stderr).splitlines() if "lifecycle-x" in line]
    assert told == []
    assert "Persistent=true" in units["lifecycle-x.timer"]


@needs_crontab
def test_a_real_crontab_takes_the_lines_and_keeps_those_of_others(tmp_path: Path) -> None:
    place = f"test-{os.getpid()}"
    script = tmp_path / ODD / "churn-monitoring.sh"
    script.parent.mkdir()
    crontab = Crontab(place)
    before = lines_of_user()
    try:
        crontab.install("churn-monitoring", script, Schedule(cron="0 6 * * *"))
        assert crontab.enabled("churn-monitoring")
        assert f"{line_of(script, Schedule(cron='0 6 * * *'))}\n" in lines_of_user()
        assert "\\%" in lines_of_user()
        crontab.pause("churn-monitoring")
        assert (crontab.has("churn-monitoring"), crontab.enabled("churn-monitoring")) == (True, False)
    finally:
        crontab.remove("churn-monitoring")
    assert place not in lines_of_user()
    assert lines_of_user() == before


def lines_of_user() -> str:
    return subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout


def test_a_line_comes_as_often_as_any_zone_may_ask(tmp_path: Path) -> None:
    assert line_of(tmp_path, Schedule(cron="7 6 * * *")).split(" ")[:5] == ["7,22,37,52", "*", "*", "*", "*"]


def test_what_was_due_since_it_last_ran_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    six = datetime(2026, 11, 2, 5, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert is_due("0 6 * * *", "Europe/Berlin", six - minute, six)
    assert not is_due("0 6 * * *", "Europe/Berlin", six, six + timedelta(hours=23))
    assert not is_due("0 6 * * *", "Europe/Berlin", six - timedelta(hours=22), six - minute)
    # A machine that was off for a week.
    assert is_due("0 6 * * *", "Europe/Berlin", six - timedelta(days=8), six - minute)
