"""Batch scores are the online scores of the same entities, with reasons that are true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.artifacts.prediction_log import hashed_key
from kfp_lifecycle.artifacts.scores import Scores
from kfp_lifecycle.components.scoring.score_batch.logged import BatchLog
from kfp_lifecycle.components.scoring.score_batch.reasons import contributions, top_reasons, usual_values
from kfp_lifecycle.config.deployment import LogSettings
from kfp_lifecycle.config.log_policy import LOG_SECRET_VARIABLE, LoggedKey
from kfp_lifecycle.modelling.dataset import TrainingSet, model_inputs
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.modelling.scoring import columns_of, decided
from kfp_lifecycle.monitoring.log_files import Window, log_files
from kfp_lifecycle.monitoring.log_window import open_log, write_table
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import build, materialize, score_batch, served
from tests.lending_library import some_readers_and_loans, write_project, write_tables
from tests.modelling.new_registry import new_registry
from tests.modelling.trained import train_model
from tests.prediction_logs import read_log
from tests.projects import load_locations, save_locations
from tests.registered import make_champion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, its tables, and a champion trained on them."""
    place = tmp_path_factory.mktemp("library")
    project = write_project(place / "project", {"pipeline.yaml": ("gate:", "training: {min_class_rows: 2}\ngate:")})
    stores = load_locations(project).model_copy(update={"tracking_uri": new_registry(place / "mlflow.db")})
    save_locations(stores, project)
    tables = write_tables(place / "validated", *some_readers_and_loans(count=120))
    build(project, tables, place / "training_set")
    Parameters(parameters={"max_iter": 20, "min_samples_leaf": 5}).write(place / "parameters.json")
    train_model(project, place / "training_set", place / "parameters.json", place / "model")
    make_champion(place / "model", stores.tracking_uri, "library")
    return place


@pytest.fixture(scope="module")
def scored(library: Path) -> tuple[Scores, pd.DataFrame]:
    found = score_batch(library / "project", library / "validated", library / "scores")
    return found, pd.read_parquet(library / "scores" / "scores.parquet")


def test_batch_scores_are_the_online_scores(library: Path, scored: tuple[Scores, pd.DataFrame]) -> None:
    _, table = scored
    materialize(library / "project", library / "validated")
    store = load_locations(library / "project").online_store
    as_of = table["as_of"][0].to_pydatetime()
    rows = served(library / "project", store).lookup(table["reader_id"].tolist(), as_of)
    model = ModelFolder(library / "model")
    online = model.scorer(threads=1).score(columns_of(rows, model.features))
    np.testing.assert_array_equal(table["score"], online)
    np.testing.assert_array_equal(table["decision"], decided(online, model.threshold))
    assert table["score"].nunique() > 1


def test_everyone_who_is_there_is_scored_once_and_the_figures_agree(
    scored: tuple[Scores, pd.DataFrame],
) -> None:
    found, table = scored
    assert table["reader_id"].is_unique
    assert found.rows == len(table) > 50
    assert found.above_threshold == pytest.approx(table["decision"].mean())
    assert set(table["model_version"]) == {found.version} == {"1"}
    assert list(table.columns) == [
        "reader_id", "as_of", "score", "decision", "reason_1", "reason_2", "reason_3", "model_version"
    ]  # fmt: skip


def test_scores_are_in_the_prediction_log_as_of_their_features_once_however_often_they_are_scored(
    library: Path, scored: tuple[Scores, pd.DataFrame], tmp_path: Path
) -> None:
    found, table = scored
    score_batch(library / "project", library / "validated", library / "again")
    window = Window(found.as_of, found.as_of + timedelta(hours=1), found.as_of)
    log = load_locations(library / "project").prediction_log
    model = ModelFolder(library / "model")
    files = log_files(log, "library", window, tmp_path)
    assert len(files) == 1
    with open_log(files, tmp_path, writable=tmp_path) as opened:
        read = write_table(opened, model.features, window, tmp_path / "read.parquet")
    assert (read.rows, read.broken.rows, read.broken.files) == (len(table), 0, 0)
    logged = pd.read_parquet(tmp_path / "read.parquet").sort_values("entity", key=lambda keys: keys.astype(int))
    np.testing.assert_array_equal(logged["score"], table["score"])
    np.testing.assert_array_equal(logged["decision"], table["decision"])
    # What was logged of the features gives the same scores.
    features = pd.DataFrame(logged["features"].tolist())
    again = model.scorer(threads=1).score(model_inputs(features, model.features, "the log"))
    np.testing.assert_array_equal(again, table["score"])


def test_keys_that_are_to_be_hashed_need_the_servers_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOG_SECRET_VARIABLE, raising=False)
    as_of = datetime(2026, 5, 1, tzinfo=UTC)
    settings = LogSettings(key=LoggedKey.hashed, features=False)
    with pytest.raises(ContractViolation, match=r"this step has no secret to hash keys with.*LIFECYCLE_LOG_SECRET"):
        BatchLog(settings, "library", "1", as_of, [], tmp_path)
    monkeypatch.setenv(LOG_SECRET_VARIABLE, "a secret")
    log = BatchLog(settings, "library", "1", as_of, [], tmp_path)
    scored = pa.table({"reader_id": [7], "score": [0.25], "decision": [True]})
    log.write(scored, pd.DataFrame(index=[0]))
    log.finish(str(tmp_path / "log"))
    [row] = read_log(tmp_path / "log")
    assert row["entity"] == hashed_key(b"a secret", "7")
    assert (row["score"], row["time"], row["caller"], "features" in row) == (0.25, as_of, "batch", False)


def test_a_reason_is_what_the_model_says_with_that_feature_as_usual(library: Path) -> None:
    model = ModelFolder(library / "model")
    training_set = TrainingSet(library / "training_set")
    inputs = model_inputs(training_set.part("test").frame, model.features, "test")
    scorer = model.scorer()
    usual = usual_values(pd.read_parquet(library / "model" / "baseline" / "reference.parquet"), model.features)
    differences = contributions(scorer, inputs, scorer.score(inputs), usual)
    reasons = top_reasons(inputs, differences, model.features, usual, {})
    row, position = np.unravel_index(np.abs(differences).argmax(), differences.shape)
    name = model.features[position].name
    changed = inputs.iloc[[row]].assign(**{name: usual[name]})
    expected = float(scorer.score(inputs.iloc[[row]])[0] - scorer.score(changed)[0])
    assert float(differences[row, position]) == pytest.approx(expected, abs=1e-7)
    reason = reasons["reason_1"][row]
    assert reason is not None
    assert reason.startswith(f"{name} is ")
    assert reason.endswith(f"{'raises' if expected > 0 else 'lowers'} the score by {abs(expected):.3f}")


def test_a_missing_value_and_a_feature_without_influence_are_put_in_words() -> None:
    inputs = pd.DataFrame({"pages": [np.nan, 3.0], "genre": ["", "poetry"]})
    features = [Feature("pages", "numeric"), Feature("genre", "categorical")]
    differences = np.array([[0.25, -0.5], [0.0002, 0.0]], dtype=np.float32)
    usual, titles = {"pages": np.float32(12), "genre": "crime"}, {"pages": "Länge (Seiten)"}
    reasons = top_reasons(inputs, differences, features, usual, titles)
    assert reasons == {
        "reason_1": ["genre is missing (usually crime): lowers the score by 0.500", None],
        "reason_2": ["Länge (Seiten) is missing (usually 12): raises the score by 0.250", None],
        "reason_3": [None, None],
    }


def test_a_champion_of_other_feature_definitions_is_refused(library: Path, tmp_path: Path) -> None:
    changed = write_project(
        tmp_path / "project",
        {
            "pipeline.yaml": ("gate:", "training: {min_class_rows: 2}\ngate:"),
            "feature_repo/features.py": ("/ 86400", "/ 3600"),
        },
    )
    save_locations(load_locations(library / "project"), changed)
    with pytest.raises(ContractViolation, match=r"library version 1, the champion, was trained on .*lifecycle run"):
        score_batch(changed, library / "validated", tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


def test_without_a_champion_nothing_is_scored(library: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    stores = load_locations(project).model_copy(update={"tracking_uri": f"sqlite:///{tmp_path / 'empty.db'}"})
    save_locations(stores, project)
    with pytest.raises(ContractViolation, match="No version of library is in production yet"):
        score_batch(project, library / "validated", tmp_path / "scores")
