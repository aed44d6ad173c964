"""No telemetry leaves the machine: the real libraries at work, every socket watched, no variable to help them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from kfp_lifecycle.environments.locks import environment_directory, interpreter
from kfp_lifecycle.local.variables import NO_TELEMETRY

ROOT = Path(__file__).resolve().parents[2]
WATCH = ROOT / "tests" / "telemetry_watch"
# As `tests/run.py`: the folder around the checkout is not on the path.
QUIETLY = ("-p", "no:cacheprovider", "-q", "--confcutdir", str(ROOT / "tests"))


def watched(environment: str, seen: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an environment's Python, with what a step on a cluster has to go by: nothing but the code."""
    kept = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    path = [WATCH, ROOT / "src", ROOT, environment_directory("testing")]
    variables = {**kept, "TELEMETRY_WATCH": str(seen), "PYTHONPATH": ":".join(map(str, path))}
    return subprocess.run(
        [interpreter(environment), *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("call", ["socket.create_connection(('192.0.2.1', 80))", "socket.getaddrinfo('x.example', 80)"])
def test_the_watch_sees_and_refuses_another_machine_and_lets_this_one_be(tmp_path: Path, call: str) -> None:
    seen = tmp_path / "seen"
    here = "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    assert watched("serving", seen, "-c", f"import socket; {here}").returncode == 0
    assert not seen.exists()
    ended = watched("serving", seen, "-c", f"import socket; {call}")
    assert ended.returncode == 1
    assert "is another machine" in ended.stderr
    assert seen.read_text().startswith("socket.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "libraries", "tests", "chosen"),
    [
        (
            "validation",
            "TFDV, Great Expectations and DVC",
            ("validation/test_validate.py", "validation/test_version.py"),
            "a_rule_counts_and_shows or stored_once",
        ),
        (
            "modelling",
            "Feast, MLflow and Evidently",
            ("modelling/test_features_online.py", "modelling/test_monitoring.py"),
            "online_equals_offline or warmer_world",
        ),
    ],
)
def test_libraries_at_work_reach_for_no_other_machine(
    tmp_path: Path, environment: str, libraries: str, tests: tuple[str, ...], chosen: str
) -> None:
    seen = tmp_path / "seen"
    files = [str(ROOT / "tests" / file) for file in tests]
    ended = watched(environment, seen, "-m", "pytest", *QUIETLY, *files, "-k", chosen)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed, ended.stdout
    assert int(passed[1]) >= len(tests), "one small real run for each file at the least"
    assert not seen.exists(), f"{libraries}: {seen.read_text()}"
