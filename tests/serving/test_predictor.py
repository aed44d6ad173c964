"""An entity key alone, or beside values: what is sent wins, the rest is looked up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kfp_lifecycle.artifacts.feature import Feature
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server import feature_lookup
from kfp_lifecycle.serving.server.decoding import Decoder
from kfp_lifecycle.serving.server.errors import InvalidRequest, TooManyRequests, Unavailable
from kfp_lifecycle.serving.server.feature_lookup import FeatureLookup
from kfp_lifecycle.serving.server.prediction_log import PredictionLog
from kfp_lifecycle.serving.server.predictor import MOST_BATCHES_WAITING, Prediction, Predictor

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

    def run(self, feed: dict[str, Any]) -> Any:
        return np.nan_to_num(feed["temperature"][:, 0]) / 100


class Store:
    """An online store of one device, which remembers when it was asked for."""

    def __init__(self) -> None:
        self.moments: list[datetime | None] = []

    def at_once(self, keys: Sequence[Any], request_time: datetime | None) -> list[dict[str, Any]] | None:
        return None

    async def lookup(self, keys: Sequence[Any], request_time: datetime | None) -> list[dict[str, Any]]:
        self.moments.append(request_time)
        known = {
            "d1": {"temperature": 20.0, "site": "north"},
            "d2": {"temperature": None, "site": "north"},
        }
        return [known.get(key, {"temperature": None, "site": None}) for key in keys]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def predictor(tmp_path: Path, store: Store) -> Iterator[Predictor]:
    log = PredictionLog(tmp_path, "devices", "1", ["temperature"], ["site"])
    log.start()
    decoder = Decoder(FEATURES, "device_id", 100)
    made = Predictor(name="devices", version="1", model=Sum(), threshold=0.5, decoder=decoder, log=log, features=store)  # type: ignore[arg-type]
    yield made
    made.close()
    log.close()


class Refusing(Sum):
    """A model that cannot score a row of zeros."""

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        if not feed["temperature"].any():
            raise RuntimeError("division by zero")
        return super().run(feed)


class Double(Sum):
    """A model that gives two scores for each row."""

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        return np.repeat(super().run(feed), 2)


def test_a_model_that_refuses_a_row_of_zeros_is_served_all_the_same(predictor: Predictor) -> None:
    predictor.model = Refusing()
    predictor.warm_up()
    assert predicted(predictor, {"temperature": 30, "site": "north"}).scores == pytest.approx([0.3])


def test_a_model_that_gives_no_score_for_each_row_is_not_served(predictor: Predictor) -> None:
    predictor.model = Double()
    with pytest.raises(ContractViolation, match="gives 2 scores for one row"):
        predictor.warm_up()


def predicted(predictor: Predictor, *instances: dict[str, Any], **parameters: Any) -> Prediction:
    request = predictor.decoder.v1(json.dumps({"instances": list(instances), "parameters": parameters}).encode())
    return asyncio.run(predictor.predict_later(request, time.perf_counter(), shadow=False))


def scores(predictor: Predictor, *instances: dict[str, Any], **parameters: Any) -> list[float]:
    return [round(score, 6) for score in predicted(predictor, *instances, **parameters).scores.tolist()]


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


def test_a_request_knows_which_of_its_features_were_looked_up_in_vain(predictor: Predictor) -> None:
    assert predicted(predictor, {"temperature": None, "site": "south"}).request.missing is None
    assert predicted(predictor, {"device_id": "d1"}).request.missing == []
    assert predicted(predictor, {"device_id": "d2"}).request.missing == ["temperature"]


def test_an_entity_that_nobody_knows_is_named(predictor: Predictor) -> None:
    with pytest.raises(InvalidRequest, match="nothing is known of device_id 'd9'"):
        scores(predictor, {"device_id": "d1"}, {"device_id": "d9"})


def test_a_row_without_features_or_key_is_named(predictor: Predictor) -> None:
    with pytest.raises(InvalidRequest, match="row 1 lacks `site`"):
        scores(predictor, {"device_id": "d1"}, {"temperature": 3})


def test_more_large_batches_than_may_wait_are_turned_away(predictor: Predictor) -> None:
    async def crowd() -> list[Any]:
        release = threading.Event()
        waiting = [asyncio.ensure_future(predictor.elsewhere(release.wait)) for _ in range(MOST_BATCHES_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="ask again later"):
            await predictor.elsewhere(lambda: None)
        release.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(crowd()) == [True] * MOST_BATCHES_WAITING


@pytest.fixture
def lookup(tmp_path: Path) -> Iterator[FeatureLookup]:
    # A model folder whose feature definitions are missing.
    made = FeatureLookup("devices", tmp_path / "feature_repo", SETTINGS, str(tmp_path / "store.db"))
    yield made
    made.close()


def test_a_store_that_cannot_be_opened_is_tried_again_and_is_not_the_sender_s_error(lookup: FeatureLookup) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="features of devices cannot be looked up now"):
            asyncio.run(lookup.lookup(["d1"], None))


def test_more_lookups_than_may_wait_are_turned_away(lookup: FeatureLookup, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(lookup, "_ask", lambda keys, moment: release.wait() and [{}])

    async def crowd() -> None:
        most = feature_lookup.MOST_WAITING
        waiting = [asyncio.ensure_future(lookup.lookup(["d1"], None)) for _ in range(most)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match=f"{most} requests are waiting"):
            await lookup.lookup(["d1"], None)
        release.set()
        assert await asyncio.gather(*waiting) == [[{}]] * most

    asyncio.run(crowd())


def test_a_store_that_hangs_is_not_waited_for_and_opened_anew(
    lookup: FeatureLookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = threading.Event(), []

    def ask(keys: list[Any], moment: object) -> list[dict[str, Any]]:
        asked.append(threading.current_thread())
        if len(asked) == 1:
            release.wait()
        return [{"by": len(asked)}]

    monkeypatch.setattr(lookup, "_imported_at", 0.0)
    monkeypatch.setattr(lookup, "_ask", ask)
    monkeypatch.setattr(feature_lookup, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(feature_lookup, "STUCK_SECONDS", 60.0)
    with pytest.raises(Unavailable, match="did not answer within"):
        asyncio.run(lookup.lookup(["d1"], None))
    monkeypatch.setattr(feature_lookup, "STUCK_SECONDS", 0.05)
    with pytest.raises(Unavailable, match="did not answer within"):
        asyncio.run(lookup.lookup(["d1"], None))
    monkeypatch.setattr(feature_lookup, "LOOKUP_SECONDS", 5.0)
    assert asyncio.run(lookup.lookup(["d1"], None)) == [{"by": 2}]
    assert asked[0] is not asked[1]
    # What answers after all disturbs nobody.
    release.set()
    asked[0].join(20)
    assert not asked[0].is_alive()
    assert asyncio.run(lookup.lookup(["d1"], None)) == [{"by": 3}]


def test_what_hangs_keeps_no_server_from_ending() -> None:
    script = (
        "import threading; from kfp_lifecycle.serving.server.worker import Worker; worker = Worker('hangs');"
        "worker.submit(threading.Event().wait); print(worker.submit(int).done()); worker.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"
