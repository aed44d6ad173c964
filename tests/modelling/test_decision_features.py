"""A champion of other feature definitions is compared all the same: its features are computed by its own, anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from kfp_lifecycle.artifacts.parameters import Parameters
from kfp_lifecycle.components.evaluation.decide_promotion.comparison import compare
from kfp_lifecycle.components.evaluation.decide_promotion.incumbent import Incumbent
from kfp_lifecycle.components.features.build_training_set.training_set import build
from kfp_lifecycle.config.configuration import Configuration
from kfp_lifecycle.config.loading import load_configuration
from kfp_lifecycle.modelling.dataset import TrainingSet, model_inputs
from kfp_lifecycle.modelling.model_folder import ModelFolder
from kfp_lifecycle.registry.champion import Champion, find_champion
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.lending_library import LOANS_SO_FAR, PIPELINE, some_readers_and_loans, write_project, write_tables
from tests.modelling.new_registry import new_registry
from tests.modelling.trained import train_model
from tests.projects import keep_records_at, read_project
from tests.registered import make_champion

pytestmark = pytest.mark.slow

# Loans are counted twice: a feature of the same name that is another number.
DOUBLED = LOANS_SO_FAR.replace("count(*) AS loans", "2 * count(*) AS loans")
SMALL = PIPELINE + "training: {min_class_rows: 5, parameters: {max_iter: 15, min_samples_leaf: 5}}\n"


@dataclass(frozen=True)
class Succession:
    """A champion, and a candidate that other feature definitions were made for; both read the same tables."""

    place: Path
    champion: Champion

    def incumbent(self, folder: Path) -> Incumbent:
        return Incumbent(
            self.champion,
            folder,
            self.training_set("candidate"),
            self.place / "tables",
            self.configuration.source.tables,
        )

    def training_set(self, whose: str) -> TrainingSet:
        return TrainingSet(self.place / whose / "set")

    @property
    def configuration(self) -> Configuration:
        return load_configuration(self.place / "candidate" / "project")


def train(place: Path, tables: Path, tracking_uri: str, sql: str) -> None:
    """A project, its training set and its model."""
    changes = {"pipeline.yaml": SMALL, "feature_repo/loans_so_far.sql": sql}
    project = write_project(place / "project", changes)
    keep_records_at(project, tracking_uri)
    given = read_project(project)
    build(given.settings, given.locations, given.feature_repo, given.label_query, tables, place / "set")
    Parameters(parameters={"max_iter": 15, "min_samples_leaf": 5}).write(place / "parameters.json")
    train_model(project, place / "set", place / "parameters.json", place / "model")


@pytest.fixture(scope="module")
def succession(tmp_path_factory: pytest.TempPathFactory) -> Succession:
    place = tmp_path_factory.mktemp("succession")
    uri = new_registry(place / "mlflow.db")
    tables = write_tables(place / "tables", *some_readers_and_loans(300))
    train(place / "champion", tables, uri, LOANS_SO_FAR)
    train(place / "candidate", tables, uri, DOUBLED)
    make_champion(place / "champion" / "model", uri, "library")
    champion = find_champion(uri, "library")
    assert champion is not None
    return Succession(place, champion)


def test_it_scores_the_candidates_rows_as_it_scored_them_in_its_own_training_set(
    succession: Succession, tmp_path: Path
) -> None:
    theirs, ours = (succession.training_set(name).part("test").frame for name in ("champion", "candidate"))
    assert (ours.loans == 2 * theirs.loans).all()
    assert ours.loans.max() > 0
    shuffled = ours.sample(frac=1, random_state=1)
    own = ModelFolder(succession.place / "champion" / "model")
    expected = own.scorer().score(model_inputs(theirs, own.features, "its test part"))
    scored = pd.Series(succession.incumbent(tmp_path).score(shuffled), shuffled.index).sort_index()
    assert np.array_equal(scored, expected)
    assert not np.array_equal(own.scorer().score(model_inputs(ours, own.features, "the other")), expected)


def test_the_verdict_says_so(succession: Succession) -> None:
    candidate = ModelFolder(succession.place / "candidate" / "model")
    found = compare(
        succession.champion,
        candidate,
        succession.configuration,
        succession.training_set("candidate"),
        succession.place / "tables",
    )
    assert found.compared
    assert found.notes[0].startswith("Version 1 was trained on other feature definitions (")
    assert found.comparisons


def test_where_todays_tables_no_longer_give_its_features_the_policy_decides(
    succession: Succession, tmp_path: Path
) -> None:
    tables = write_tables(tmp_path / "tables", *some_readers_and_loans(30))
    loans = pd.read_parquet(tables / "loans.parquet").drop(columns="pages")
    loans.to_parquet(tables / "loans.parquet", index=False)
    candidate = ModelFolder(succession.place / "candidate" / "model")
    training_set = succession.training_set("candidate")
    for policy, passed in (("refuse", False), ("judge_absolutely", True)):
        project = write_project(
            tmp_path / policy, {"pipeline.yaml": yaml.safe_dump(with_policy(policy), sort_keys=False)}
        )
        found = compare(succession.champion, candidate, load_configuration(project), training_set, tables)
        assert not found.compared
        assert found.passed is passed
        assert "by its own definitions they cannot be computed from today's tables: " in found.sentence
        assert "loans_so_far.sql failed" in found.sentence


def with_policy(policy: str) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(SMALL)
    rules = [{"metric": "performance.roc_auc", "min": 0.5}]
    return {**content, "gate": {"rules": rules, "champion": {"unreachable": policy}}}


def test_a_champion_without_its_definitions_is_named(succession: Succession, tmp_path: Path) -> None:
    incumbent = succession.incumbent(tmp_path)
    (incumbent.model.folder / "feature_repo" / "features.py").write_text("raise RuntimeError('gone')", "utf-8")
    with pytest.raises(ContractViolation, match=r"cannot be computed from today's tables: .*RuntimeError: gone"):
        incumbent.score(succession.training_set("candidate").part("test").frame)
