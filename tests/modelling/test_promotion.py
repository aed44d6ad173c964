"""Promotion: the alias `champion` moves by compare-and-set, and who was overtaken is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kfp_lifecycle.artifacts.deployment import Deployment
from kfp_lifecycle.artifacts.promotion import Promotion
from kfp_lifecycle.components.deployment.promote_model.promotion import promote
from kfp_lifecycle.config.locations import Locations
from kfp_lifecycle.registry import versions as registry_versions
from kfp_lifecycle.registry.tracking import connect
from kfp_lifecycle.registry.versions import champion_version, refuse_overtaken, set_champion
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.modelling.new_registry import new_registry
from tests.modelling.verdicts import verdict

pytestmark = pytest.mark.slow


class Registry:
    """Three registered versions, each of a run of its own, and promotions of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = new_registry(folder / "mlflow.db")
        client = connect(self.uri)
        client.create_registered_model("leaving")
        experiment = client.create_experiment("leaving", artifact_location=(folder / "files").as_uri())
        self.runs = [client.create_run(experiment).info.run_id for _ in range(3)]
        for run in self.runs:
            client.create_model_version("leaving", source=folder.as_uri(), run_id=run)
        self.locations = Locations(
            tracking_uri=self.uri, dataset_remote="-", online_store="-", prediction_log="-", serving="local:-"
        )

    @property
    def champion(self) -> str | None:
        return champion_version(self.uri, "leaving")

    def promote(self, version: str, judged_against: str | None) -> Promotion:
        """What the step does with a version that was released."""
        deployment, approval, promotion = (self.folder / name for name in ("deployment", "verdict", "promotion"))
        promotion.unlink(missing_ok=True)
        Deployment(
            model="leaving", version=version, previous_version=None, strategy="canary", url="http://here", grpc=""
        ).write(deployment)
        verdict(champion_version=judged_against).write(approval)
        promote(self.locations, deployment, approval, promotion)
        return Promotion.read(promotion)

    def roll_back(self, version: str, left: str) -> Promotion:
        """What the step does with what `rollback_model` wrote."""
        deployment, promotion = self.folder / "deployment", self.folder / "promotion"
        promotion.unlink(missing_ok=True)
        Deployment(
            model="leaving", version=version, previous_version=left, strategy="rollback", url="http://here", grpc=""
        ).write(deployment)
        promote(self.locations, deployment, None, promotion)
        return Promotion.read(promotion)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


def test_of_two_runs_that_were_judged_against_one_champion_the_second_is_told(registry: Registry) -> None:
    assert registry.champion is None
    assert registry.promote("1", judged_against=None).previous_version is None
    assert registry.promote("3", judged_against="1").previous_version == "1"
    with pytest.raises(ContractViolation, match=r"judged against version 1, .* now names version 3") as told:
        registry.promote("2", judged_against="1")
    assert "lifecycle rollback" in str(told.value)
    assert registry.champion == "3"
    assert not (registry.folder / "promotion").exists()


def test_the_alias_follows_a_rollback_which_nobody_judged(registry: Registry) -> None:
    assert registry.champion == "3"
    assert registry.roll_back("1", left="3").previous_version == "3"
    assert registry.champion == "1"
    # Another version became the champion meanwhile: it is not taken for the one that was left.
    with pytest.raises(ContractViolation, match="now names version 1"):
        registry.roll_back("2", left="3")
    registry.roll_back("3", left="1")


def test_of_many_at_the_same_moment_one_is_promoted_and_all_others_are_told(registry: Registry) -> None:
    client, before = connect(registry.uri), registry.champion
    source = client.get_model_version("leaving", "1").source
    versions = [str(client.create_model_version("leaving", source=source).version) for _ in range(5)]
    outcomes: dict[str, str] = {}

    def promote_one(version: str) -> None:
        try:
            set_champion(registry.uri, "leaving", version, expected=before)
            outcomes[version] = "promoted"
        except ContractViolation as violation:
            outcomes[version] = str(violation)

    threads = [threading.Thread(target=promote_one, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [version for version, outcome in outcomes.items() if outcome == "promoted"]
    champion = registry.champion
    # Whatever came of it, the next test begins as this one did.
    client.set_registered_model_alias("leaving", "champion", before)
    assert champion == won
    told = {version: outcome for version, outcome in outcomes.items() if version != won}
    assert all(f"now names version {won}" in outcome for outcome in told.values()), told
    assert [model.name for model in client.search_registered_models()] == ["leaving"]


def test_what_a_killed_promotion_left_holds_nobody_up_for_long(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_versions, "LOCK_SECONDS", 1.0)
    connect(registry.uri).create_registered_model("leaving.promotion")
    assert registry.promote("3", judged_against="1").version == "3"


def test_a_promotion_that_is_done_again_changes_nothing(registry: Registry) -> None:
    assert registry.promote("3", judged_against="1").previous_version == "1"
    assert registry.champion == "3"


def test_what_was_judged_against_nothing_does_not_replace_a_first_champion(registry: Registry) -> None:
    with pytest.raises(ContractViolation, match="judged against no model in production"):
        registry.promote("2", judged_against=None)


def test_a_candidate_that_was_overtaken_is_refused_before_it_is_registered(registry: Registry) -> None:
    refuse_overtaken(registry.uri, "leaving", registry.runs[1], expected="3")
    # Its own version is the champion already: the steps after the gate are done again.
    refuse_overtaken(registry.uri, "leaving", registry.runs[2], expected="1")
    with pytest.raises(ContractViolation, match="Version 3 of leaving became the champion while this run went"):
        refuse_overtaken(registry.uri, "leaving", registry.runs[1], expected="1")
    refuse_overtaken(registry.uri, "nobody", registry.runs[1], expected=None)


def test_where_the_alias_was_taken_away_nobody_is_overtaken(registry: Registry) -> None:
    connect(registry.uri).delete_registered_model_alias("leaving", "champion")
    assert registry.promote("2", judged_against="3").previous_version is None
    assert registry.champion == "2"
