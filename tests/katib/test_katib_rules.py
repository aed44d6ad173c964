"""Katib's own code on what is built for it and printed to it; the stand-in and its restated rules have to agree."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_katib import manifest

from tests.katib.cluster import problems
from tests.katib_rules import collect
from tests.servers import GO_PROGRAMS

PROGRAM = GO_PROGRAMS / "katib-rules"

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="Katib's rules are not on this machine (.ci/go/build makes them)"
)


def ask(*arguments: str | Path) -> Any:
    answer = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def refusals(experiment: dict[str, Any], folder: Path) -> list[str]:
    """What Katib's webhook has against an experiment."""
    (folder / "experiment.json").write_text(json.dumps(experiment), "utf-8")
    found: list[str] = ask("validate", folder / "experiment.json")
    return found


@pytest.mark.parametrize(
    "tuning",
    [{}, {"pruning": False}, {"trials": 100, "parallel_trials": 9}, {"katib": {"resume_policy": "LongRunning"}}],
    ids=str,
)
def test_katibs_webhook_admits_what_is_built(tuning: dict[str, Any], tmp_path: Path) -> None:
    assert refusals(manifest(**tuning), tmp_path) == []


def change(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(experiment: dict[str, Any]) -> None:
        place: Any = experiment
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    "wrong",
    [
        change("metadata", "name", value="x" * 41),
        change("metadata", "name", value="1-starts-with-a-digit"),
        change("spec", "maxTrialCount", value=0),
        change("spec", "parallelTrialCount", value=1000),
        change("spec", "maxFailedTrialCount", value=1000),
        change("spec", "objective", "type", value="most"),
        change("spec", "objective", "objectiveMetricName", value=""),
        change("spec", "algorithm", "algorithmName", value="guessing"),
        change("spec", "earlyStopping", "algorithmName", value="impatience"),
        change("spec", "resumePolicy", value="Always"),
        change("spec", "parameters", value=[]),
        change("spec", "parameters", 0, "parameterType", value="complex"),
        change("spec", "parameters", 0, "feasibleSpace", value={"list": ["1", "2"]}),
        change("spec", "parameters", 0, "feasibleSpace", "distribution", value="triangular"),
        change("spec", "parameters", 1, "feasibleSpace", value={"min": "1", "max": "2"}),
        change("spec", "trialTemplate", "primaryContainerName", value=""),
        change("spec", "trialTemplate", "trialParameters", 0, "reference", value="nothing"),
        change("spec", "trialTemplate", "trialParameters", 0, "name", value="other"),
    ],
)
def test_what_katibs_webhook_refuses_the_stand_in_refuses(
    wrong: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    experiment = copy.deepcopy(manifest())
    wrong(experiment)
    refused = refusals(experiment, tmp_path)
    assert bool(problems(experiment)) == bool(refused), refused


LINES = st.lists(
    st.one_of(
        st.builds(
            "{}{}={}".format,
            st.sampled_from(["", "2026-11-25T10:00:00Z ", "2026-11-25T10:00:00.25+01:00 ", "today ", "x ", "a=1 "]),
            st.sampled_from(["roc_auc", "roc_auc ", "xroc_auc", "roc_auc2", "other"]),
            st.sampled_from(["0.5", " 0.75", "1e-3", "-.25", "+1", "0.1 roc_auc=0.2", "0.3|roc_auc=4"]),
        ),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_reports_are_read_as_katibs_collector_reads_them(lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(lines), "utf-8")
    found = ask("collect", tmp_path / "log", "roc_auc")
    # A value that the collector makes up for a trial without a report; the trial ends as MetricsUnavailable.
    expected = [(time, float(value)) for time, value in found if value != "unavailable"]
    assert collect(lines, "roc_auc") == expected
