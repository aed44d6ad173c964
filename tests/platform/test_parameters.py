"""Parameters of a pipeline are judged before a run is made of them, on every target."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from kfp import components
from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType
from small_pipeline import small

from kfp_lifecycle.backends.schedules import plan
from kfp_lifecycle.backends.submission import submit
from kfp_lifecycle.compilation.parameters import Parameter, parameters_of, read_parameters
from kfp_lifecycle.compilation.pipeline import compile_pipeline
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.features import Split, SplitBy
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.config.targets import TargetName
from kfp_lifecycle.local.runs import execute
from kfp_lifecycle.runtime.closure import ROOT

PROJECT = load_configuration(ROOT)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def declared(compiled: Path) -> dict[str, Parameter]:
    """The parameters of the small pipeline."""
    return parameters_of(components.load_component_from_file(str(compiled)).pipeline_spec)


def test_a_value_has_the_type_that_the_pipeline_says(declared: dict[str, Parameter]) -> None:
    assert read_parameters("small", declared, ["reference=7", "rows=7"], PROJECT) == {"reference": "7", "rows": 7}
    assert read_parameters("small", declared, ["reference=a=b"], PROJECT) == {"reference": "a=b"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["reference=x", "row=3"],
            r"has no parameter row; it has: reference \(text, required\); rows \(a whole",
        ),
        (["reference=x", "rows=three"], r"rows of the pipeline small is a whole number, and 'three' is not"),
        (["reference=x", "rows=true"], r"rows of the pipeline small is a whole number, and True is not"),
        (["reference=x", "rows=[1"], r"--parameter rows: '\[1' is not a YAML value"),
        (["rows=3"], r"needs the parameter reference; it has: .*by default 3"),
        (["reference"], "must look like NAME=VALUE"),
    ],
)
def test_what_it_cannot_be_given_is_refused_with_what_there_is(
    declared: dict[str, Parameter], given: list[str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_parameters("small", declared, given, PROJECT)


@pytest.mark.parametrize(
    ("pipeline", "given", "words"),
    [
        ("training", "since=tomorrow", "since is 'tomorrow', and it has to be the day of a change, such as 2026-05-02"),
        ("training", "since=2999-01-01", "since is 2999-01-01, and that day has not come"),
        ("training", "remedy=mend", "remedy is 'mend', and a training can retrain, recalibrate, set the threshold"),
        ("training", "sinse=2026-05-02", r"no parameter sinse; it has: asked_by \(text.*remedy \(text.*since \(text"),
        ("monitoring", "as_of=13/01/2026", "as_of is '13/01/2026', which is no time .* Give one such as"),
        ("monitoring", "as_of=2999-01-01", "as_of is '2999-01-01', and that time has not come"),
        ("batch_scoring", "as_of=2026-01-01", "the pipeline batch_scoring has no parameter as_of; it has none"),
    ],
)
def test_a_run_that_could_not_use_its_parameter_is_refused_before_it_waits_for_another(
    pipeline: str, given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kfp_lifecycle.local.state.STATE", tmp_path)
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match=words):
            execute(pipeline, ROOT, parameters=[given], waiting=pytest.fail)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_a_split_without_time_knows_no_day_of_a_change(declared: dict[str, Parameter]) -> None:
    pipeline = {"since": Parameter("since", ParameterType.STRING, "")}
    by_chance = PROJECT.model_copy(update={"split": Split(by=SplitBy.random)})
    with pytest.raises(ConfigurationError, match=r"split\.by is random, which knows no days: leave the parameter out"):
        read_parameters("training", pipeline, ["since=2026-05-02"], by_chance)
    assert read_parameters("training", pipeline, ["since="], by_chance) == {"since": ""}


def test_every_compiled_pipeline_says_what_it_can_be_given(tmp_path: Path) -> None:
    assert [str(found) for found in parameters_of(small.pipeline_spec).values()] == [
        "reference (text, required)",
        "rows (a whole number, by default 3)",
    ]
    monitoring = compile_pipeline("monitoring", "vertex", ROOT, tmp_path / "monitoring.yaml")
    assert [str(found) for found in monitoring.parameters.values()] == ['as_of (text, by default "")']


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_nothing_is_sent_to_a_cluster_of_a_run_or_a_schedule_with_a_wrong_parameter(
    target: TargetName, tmp_path: Path
) -> None:
    # An address where nobody answers: what was sent would fail otherwise.
    nowhere = [f"targets.{target}.endpoint=http://127.0.0.1:9"]
    with pytest.raises(ConfigurationError, match=r"no parameter as_off; it has: as_of \(text"):
        submit("monitoring", target, ROOT, tmp_path, overrides=nowhere, parameters=["as_off=2026-11-01"])
    scheduled = 'schedules={monitoring: {cron: "0 6 * * *", parameters: {as_of: 7}}}'
    with pytest.raises(ConfigurationError, match=r"as_of of the pipeline monitoring is text, and 7 is not"):
        plan(ROOT, target, tmp_path, [*nowhere, scheduled], print)
