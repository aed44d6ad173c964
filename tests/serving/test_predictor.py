"""An entity key alone, or beside values: what is sent wins, the rest is looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve.errors import InvalidInput

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.features.settings import definition_settings
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.predictor import FeatureLookup, FeaturesUnavailable, Predictor

FEATURES = [Feature("temperature", "numeric"), Feature("site", "categorical")]


SETTINGS = {
    "name": "devices",
    "entity": {"name": "device", "key": "device_id"},
    "label": {"name": "failed", "title": "fails", "horizon_days": 7},
    "features": {"service": "devices"},
}


class Sum:
    """A model whose score shows its inputs."""

    features = FEATURES

    def score(self, columns: dict[str, Sequence[Any]]) -> Any:
        return np.nan_to_num(columns["temperature"]) / 100


class Store:
    """An online store of one device, which remembers when it was asked for."""

    def __init__(self) -> None:
        self.moments: list[datetime | None] = []

    async def lookup(self, entities: Sequence[Any], request_time: datetime | None) -> list[dict[str, Any]]:
        self.moments.append(request_time)
        known = {"d1": {"temperature": 20.0, "site": "north"}}
        return [known.get(entity, {"temperature": None, "site": None}) for entity in entities]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def predictor(tmp_path: Path, store: Store) -> Iterator[Predictor]:
    log = PredictionLog(tmp_path, "devices", "1")
    decoder = Decoder(FEATURES, "device_id", 100)
    yield Predictor(name="devices", version="1", scorer=Sum(), threshold=0.5, decoder=decoder, log=log, features=store)  # type: ignore[arg-type]
    log.close()


def scores(predictor: Predictor, *instances: dict[str, Any], **parameters: Any) -> list[float]:
    payload = {"instances": list(instances), "parameters": parameters}
    answer: Any = asyncio.run(predictor.predict(payload, {}))
    return [prediction["score"] for prediction in answer["predictions"]]


def test_rows_of_all_three_kinds_may_stand_in_one_request(predictor: Predictor) -> None:
    assert scores(
        predictor,
        {"device_id": "d1"},
        {"device_id": "d1", "temperature": 70},
        {"temperature": 40, "site": "south"},
        {"device_id": "d1", "temperature": None, "site": "south"},
    ) == [0.2, 0.7, 0.4, 0.0]


def test_a_request_may_name_its_moment(predictor: Predictor, store: Store) -> None:
    scores(predictor, {"device_id": "d1"})
    scores(predictor, {"device_id": "d1"}, request_time="2026-03-01T12:00:00+02:00")
    assert store.moments == [None, datetime(2026, 3, 1, 10, tzinfo=UTC)]


def test_an_entity_that_nobody_knows_is_named(predictor: Predictor) -> None:
    with pytest.raises(InvalidInput, match="nothing is known of device_id 'd9'"):
        scores(predictor, {"device_id": "d1"}, {"device_id": "d9"})


def test_a_store_that_cannot_be_opened_is_tried_again_and_is_not_the_sender_s_error(tmp_path: Path) -> None:
    # A model folder whose feature definitions are missing.
    lookup = FeatureLookup(
        "devices", tmp_path / "feature_repo", definition_settings(SETTINGS), str(tmp_path / "store.db")
    )
    for _ in range(2):
        with pytest.raises(FeaturesUnavailable, match="devices is not ready"):
            asyncio.run(lookup.lookup(["d1"], None))
    lookup.close()
