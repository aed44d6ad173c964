"""A project's configuration is refused with the key, the rule and the remedy, or it is right."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kfp_lifecycle.cli.explanation import explanation
from kfp_lifecycle.compilation.definitions import LARGEST_FILE_BYTES, read_definitions
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.errors import ConfigurationError
from kfp_lifecycle.config.loading import configuration_schema, load_configuration
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.config.section import WORDS
from kfp_lifecycle.config.settings import given_settings, settings_of
from kfp_lifecycle.config.training import Training
from kfp_lifecycle.config.tuning import Tuning, estimators_of

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [ROOT, ROOT / "examples" / "cdnow"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("feature_repo", "expectations"):
        (tmp_path / name).mkdir()
    (tmp_path / "feature_repo" / "label.sql").write_text("select 1")
    (tmp_path / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_the_projects_here_are_valid_and_agree_with_the_json_schema(folder: Path) -> None:
    load_configuration(folder)
    jsonschema.validate(yaml.safe_load((folder / "pipeline.yaml").read_text()), configuration_schema())


def test_the_exported_json_schema_is_the_one_in_docs() -> None:
    assert json.loads((ROOT / "docs" / "pipeline.schema.json").read_text()) == configuration_schema()


def test_every_pattern_has_words_for_who_breaks_it() -> None:
    def patterns(schema: object) -> set[str]:
        if isinstance(schema, dict):
            here = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
            return here.union(*map(patterns, schema.values()))
        return set().union(*map(patterns, schema)) if isinstance(schema, list) else set()

    # That of a schedule's cron is for editors alone: its own check says more.
    found = {each for each in patterns(configuration_schema()) if "{4}" not in each}
    assert len(found) > 10
    assert found <= set(WORDS)


def test_every_field_is_explained() -> None:
    lines = explanation("")
    assert len(lines) > 80
    assert [name for name, _, _, text in lines if not text] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.sed=7", "training.sed: unknown key; did you mean `seed`?"),
        ("gate.rules.0.at_least=1", "did you mean `min`?"),
        ("source.tables.logins.kee=x", "did you mean `key`?"),
        ("deployment.steps=[50, 10]", "steps must rise and end with 100"),
        ("snapshots.count=2", "the split needs at least 5"),
        ("tuning.space.learning_rate.low=9", "low (9.0) must be below high (0.3)"),
        ("validation.expectations=../elsewhere", "validation.expectations"),
        ("training.estimator=os.system", "training.estimator: an estimator is named by its import path in sklearn or"),
        ("deployment.model=Robert'); DROP TABLE", "small letters, digits and hyphens, at most 53"),
        ("entity.key=UserID", """SELECT * RENAME ("UserID" AS new_name) FROM source (it is 'UserID')"""),
        ("source.tables.logins.event_time=last seen", "source.tables.logins.event_time: a name is of small letters"),
        ("label.query=/etc/passwd", "a path starts in the project's folder and stays there"),
        ("training.seed=.nan", "training.seed"),
        ("schedules.materialization=every day", "schedules.materialization"),
        ("schedules.materialization=0 0 5 * * *", "schedules.materialization"),
        ("training.seed=[", "is not a YAML value"),
        ("training.seed", "must look like KEY=VALUE"),
        ("gate.rules.99.why=x", "is not a position in a list"),
        ("name.first=x", "is inside a plain value"),
    ],
)
def test_a_wrong_setting_is_refused_with_key_rule_and_remedy(project: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(project, [setting])
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("store", "location", "remedy"),
    [
        ("prediction_log", "az://predictions", "a folder of an object store, s3://, gs:// or minio://"),
        ("online_store", "bigtable://features", "bigtable://PROJECT/INSTANCE"),
        ("online_store", "redis://:hidden@redis", "a SQLite file, redis://HOST:PORT"),
        ("online_store", "postgresql://me:hidden@host", "postgresql://USER:${PASSWORD}@HOST/DATABASE"),
        ("online_store", "postgresql://me:hidden@host/features", "Write ${NAME} in its place"),
        ("online_store", "redis://:hidden@redis:6379", "Write ${NAME} in its place"),
        ("online_store", "feast://mysql?host=h&password=hidden", "Write ${NAME} in its place"),
        ("offline_store", "postgresql://host/warehouse", "the offline store is duckdb, bigquery://PROJECT/DATASET"),
        ("offline_store", "snowflake://me:hidden@account/shop/public", "Write ${NAME} in its place"),
        ("offline_store", "snowflake://me@account/shop/public?private_key=hidden", "Write ${NAME} in its place"),
        ("offline_store", "sc://spark:15002/;token=hidden", "sc://HOST:PORT/;token=${TOKEN}"),
        ("dataset_remote", "https://user:hidden@host/datasets", "a folder, s3://, gs:// or ssh://"),
        ("tracking_uri", "mysql://me:hidden@host/mlflow", "no other driver is here"),
        ("study_store", "gs://studies", "the search is kept in a folder"),
        ("serving", "sagemaker:churn", "kserve:NAMESPACE or vertex:PROJECT/LOCATION"),
        ("serving", "kserve:Models", "kserve:NAMESPACE or vertex:PROJECT/LOCATION"),
        ("serving", "vertex:project", "kserve:NAMESPACE or vertex:PROJECT/LOCATION"),
    ],
)
def test_a_store_that_nothing_here_can_use_is_refused_without_repeating_a_password(
    project: Path, store: str, location: str, remedy: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_configuration(project, [f"targets.kubeflow.{store}={location}"])
    assert f"targets.kubeflow.{store}: " in str(refusal.value)
    assert remedy in str(refusal.value)
    assert "hidden" not in str(refusal.value)


def test_a_location_that_a_step_cannot_use_is_refused_by_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_PREDICTION_LOG", "az://log")
    with pytest.raises(ConfigurationError, match="LIFECYCLE_PREDICTION_LOG cannot be used: the prediction log is a"):
        Locations.from_environment(["prediction_log"], "collect_predictions")
    monkeypatch.delenv("LIFECYCLE_PREDICTION_LOG")
    with pytest.raises(
        ConfigurationError, match=r"collect_predictions does not know prediction_log .*set_env_variable"
    ):
        Locations.from_environment(["prediction_log"], "collect_predictions")


def test_a_step_reads_what_it_declares_and_nothing_else() -> None:
    reads = ("gate", "deployment.model", "training")
    whole = load_configuration(ROOT, ["training.parameters={max_features: 1.0, max_iter: 100}"])
    values = json.loads(json.dumps(settings_of(whole, reads)))
    given = given_settings(values, reads, "decide_promotion")
    assert (given.gate, given.training, given.deployment.model) == (whole.gate, whole.training, "churn")
    # A struct knows one kind of number, and scikit-learn two.
    assert [type(value) for value in given.training.parameters.values()] == [float, int]
    with pytest.raises(AttributeError, match=r"deployment\.steps was not given to this step"):
        _ = given.deployment.steps
    with pytest.raises(AttributeError, match=r"configuration\.label was not given to this step"):
        _ = given.label


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"deployment": {"model": "churn"}, "gate": {"rulez": []}}, "did you mean `rules`"),
        ({"gate": {"rules": []}}, "deployment.model: this key is required"),
        ({"gate": {"rules": []}, "label": {"name": "x"}}, "hold label, which it does not read"),
        ({"deployment": {"model": "Churn"}, "gate": {"rules": []}}, "deployment.model: "),
    ],
)
def test_settings_written_by_hand_are_checked_like_the_file(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match="settings of decide_promotion") as refusal:
        given_settings(values, ("gate", "deployment.model"), "decide_promotion")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("store", "location"),
    [
        ("online_store", "rediss://me:${REDIS_PASSWORD}@redis.example:6380/2"),
        ("online_store", "/mnt/online.db"),
        ("dataset_remote", "ssh://me@host/datasets"),
        ("tracking_uri", "postgresql+psycopg://me:secret@host/mlflow"),
        ("serving", "vertex:example.com:project-1/us-central1"),
    ],
)
def test_a_store_may_be_whatever_a_step_can_use(project: Path, store: str, location: str) -> None:
    kubeflow = load_configuration(project, [f"targets.kubeflow.{store}={location}"]).targets.kubeflow
    assert getattr(kubeflow, store) == location


def test_a_search_space_is_in_one_order_however_it_was_written(project: Path) -> None:
    dimensions = {
        "tol": "{type: float, low: 0.1, high: 1, when: {warm: true}}",
        "warm": "{type: categorical, choices: [true, false]}",
        "alpha": "{type: float, low: 0.1, high: 1}",
    }
    for names in itertools.permutations(dimensions):
        space = ", ".join(f"{name}: {dimensions[name]}" for name in names)
        assert [*load_configuration(project, [f"tuning.space={{{space}}}"]).tuning.space] == ["alpha", "warm", "tol"]


def test_an_estimator_is_searched_for_where_nothing_is_said_of_it(project: Path) -> None:
    values = yaml.safe_load((project / "pipeline.yaml").read_text())
    del values["tuning"]
    (project / "pipeline.yaml").write_text(yaml.safe_dump(values))
    assert load_configuration(project).tuning == Tuning()
    assert estimators_of(Tuning().space) == [Training().estimator, "sklearn.linear_model.LogisticRegression"]
    for named in ("training.estimator=sklearn.linear_model.LogisticRegression", "training.parameters={max_iter: 50}"):
        assert load_configuration(project, [named]).tuning == Tuning(space={})
        assert settings_of(load_configuration(project, [named]), ["tuning"]) == {"tuning": {"space": {}}}
        asked = [named, "tuning.space={max_leaf_nodes: {type: int, low: 3, high: 40}}"]
        assert [*load_configuration(project, asked).tuning.space] == ["max_leaf_nodes"]


def test_an_override_is_typed_and_reaches_the_settings_of_the_steps(project: Path) -> None:
    configuration = load_configuration(project, ["training.seed=7"])
    assert settings_of(configuration, ["training"])["training"]["seed"] == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold keys and values"),
        (b"a: [", "is not valid YAML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"- 1", "keys and values"),
    ],
)
def test_a_broken_file_is_refused(project: Path, content: bytes, message: str) -> None:
    (project / "pipeline.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load_configuration(project)


def test_a_folder_without_configuration_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a project"):
        load_configuration(tmp_path)


def test_a_missing_part_of_the_project_is_named(project: Path) -> None:
    (project / "feature_repo" / "label.sql").unlink()
    with pytest.raises(ConfigurationError, match=r"label.query names feature_repo/label.sql"):
        read_definitions(project, load_configuration(project))


def test_a_link_out_of_the_project_is_refused(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.yaml"
    secret.write_text("token: 1")
    (project / "expectations" / "rules.yaml").symlink_to(secret)
    with pytest.raises(ConfigurationError, match="is a link out of the project"):
        read_definitions(project, load_configuration(project))


def test_data_in_the_project_is_refused(project: Path) -> None:
    (project / "expectations" / "big.yaml").write_text("x" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="Keep data in the source"):
        read_definitions(project, load_configuration(project))


def test_defaults_need_no_mention() -> None:
    values = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    required = {
        key: values[key] for key in ("name", "title", "entity", "source", "label", "features", "gate", "deployment")
    }
    assert Configuration.model_validate(required).training.seed == 42
