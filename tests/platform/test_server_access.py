"""A release to servers that ask who asks: it comes in itself, and lets nobody else in who has no key."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_release import Load, make_model
from served_place import serving_place

from kfp_lifecycle.environments.locks import interpreter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not interpreter("modelling").exists() or not interpreter("serving").exists(),
        reason="the environments modelling and serving are not built",
    ),
]

KEY, OTHER, BURST = "0123456789abcdef", "fedcba9876543210", 5


def test_a_release_goes_through_where_people_need_keys_and_may_not_ask_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEOPLE", f"anna:{KEY}\nben:{OTHER}\n")
    server = {"api_keys": "${PEOPLE}", "rate_limit": {"per_second": 0.001, "burst": BURST}}
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1", 1.1), server=server)
        with Load(place.port, clients=1) as nobody:
            record = place.release(make_model(tmp_path / "v2", "2", 1.2), server=server)
        assert {status for status, _ in nobody.answers} == {401}
        assert record["version"] == "2"
        asked = [place.ask(headers={"x-api-key": KEY}).status for _ in range(BURST + 1)]
        assert asked == [200] * BURST + [429]
        assert place.ask(headers={"x-api-key": OTHER, "x-model-version": "2"}).status == 200


def test_people_without_keys_are_told_apart_by_the_address_that_the_front_sees(tmp_path: Path) -> None:
    with serving_place(tmp_path) as place:
        place.release(make_model(tmp_path / "v1", "1"), server={"rate_limit": {"per_second": 0.001, "burst": 1}})
        assert place.ask().status == 200
        assert place.ask(headers={"x-forwarded-for": "192.0.2.1"}).status == 429
