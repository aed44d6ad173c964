"""What the model server is told about an entity, in the server's own environment: no DuckDB, no offline store."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from prometheus_client import REGISTRY, CollectorRegistry
from redis import Redis

from kfp_lifecycle.artifacts.entity_key import entity_key
from kfp_lifecycle.artifacts.quality import ViewQuality
from kfp_lifecycle.config.settings import settings_of
from kfp_lifecycle.features.online import reading as online_reading
from kfp_lifecycle.features.online.location import located
from kfp_lifecycle.features.online.prompt import on_own_disk, prompt_reader
from kfp_lifecycle.features.online.reading import EntityKeys, FeastReader
from kfp_lifecycle.features.online.servers import READERS, async_reader
from kfp_lifecycle.features.online.store import Materialization, OnlineStore
from kfp_lifecycle.features.settings import DEFINITION_SETTINGS
from kfp_lifecycle.runtime.contract import ContractViolation
from kfp_lifecycle.serving.server import feature_lookup, online_features
from kfp_lifecycle.serving.server.errors import InvalidRequest, TooManyRequests, Unavailable
from kfp_lifecycle.serving.server.feature_lookup import FeatureLookup
from kfp_lifecycle.serving.server.feature_metrics import FeatureMetrics
from kfp_lifecycle.serving.server.online_features import OnlineFeatures
from tests.feature_steps import definitions_of, served
from tests.lending_library import START, write_project
from tests.online_stores import place, places, store_places
from tests.projects import read_project
from tests.servers import PASSWORD, postgresql, running

__all__ = ["place", "store_places"]

AS_OF = START + timedelta(days=40)
LAST_LOAN = AS_OF - timedelta(hours=36)


def fill(project: Path, location: str, as_of: datetime = AS_OF, loans: int = 3, pages: float = 0.1 + 0.2) -> None:
    """What a materialization writes: one known reader, and one of whom nothing but the key is known."""
    definitions = definitions_of(project)
    store = OnlineStore(location, "library", definitions, create=True)
    columns = {
        "reader_id": pa.array([1, 2], pa.int64()),
        "loans": pa.array([loans, None], pa.int64()),
        "pages": pa.array([pages, None], pa.float64()),
        "average_pages": pa.array([1 / 3, None], pa.float64()),
        "likes_poetry": pa.array([True, None], pa.bool_()),
        "genre": pa.array(["crime", None], pa.string()),
        "last_loan_at": pa.array([LAST_LOAN, None], pa.timestamp("us", "UTC")),
        "event_timestamp": pa.array([as_of, as_of], pa.timestamp("us", "UTC")),
    }
    store.write("loans_so_far", pa.RecordBatch.from_pydict(columns))
    store.note(Materialization(definitions.version, as_of, "", {"loans_so_far": 2}, 1))


def looked_up(project: Path, online_store: str) -> FeatureLookup:
    """The store as a server asks it."""
    read = read_project(project)
    return FeatureLookup("library", read.feature_repo, settings_of(read.settings, DEFINITION_SETTINGS), online_store)


@pytest.fixture(autouse=True)
def news_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_features, "NEWS_SECONDS", -1.0)


@pytest.fixture
def store_of_three(project: Path, tmp_path: Path) -> str:
    """A store in which reader 1 has three loans."""
    fill(project, str(tmp_path / "online.db"))
    return str(tmp_path / "online.db")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def test_stored_and_on_demand_features_come_exactly_and_missing_ones_as_none(project: Path, place: str) -> None:
    fill(project, place)
    known, nothing, unknown = served(project, place).lookup([1, 2, 3], AS_OF)
    assert known == {
        "loans": 3.0,
        "pages": 0.1 + 0.2,
        "average_pages": 1 / 3,
        "likes_poetry": 1.0,
        "genre": "crime",
        "days_since_last_loan": 1.5,
    }
    assert set(nothing.values()) == set(unknown.values()) == {None}


def test_one_question_for_all_views_finds_what_feast_finds_view_by_view(project: Path, place: str) -> None:
    fill(project, place)
    definitions = definitions_of(project)
    store = OnlineStore(place, "library", definitions)
    store.date("loans_so_far", [1], [AS_OF - timedelta(days=1)])
    view = definitions.views["loans_so_far"]
    wanted = {view.name: [field.name for field in view.features]}
    by_feast = FeastReader(lambda: store.feast, store.configuration, [view], wanted, EntityKeys("reader_id", "BIGINT"))
    found = store.read(store.reader(wanted, READERS), [1, 2, 3, 1])
    assert found == store.read(by_feast, [1, 2, 3, 1])
    assert found[0]["loans_so_far"]["last_loan_at"] == LAST_LOAN
    assert set(found[2]["loans_so_far"].values()) == {None}
    if (prompt := prompt_reader(store.configuration, definitions, wanted)) is not None:
        assert prompt.read_at_once([1, 2, 3, 1]) == found
    if (later := async_reader(located(place).url, store.configuration, definitions, wanted)) is not None:
        assert asyncio.run(later.read_later([1, 2, 3, 1], 60.0)) == found


@pytest.mark.parametrize("entity", [0, 7, -1, 2**63 - 1, -(2**63), "", "7", "Ünï😀", "x" * 300])
def test_entities_are_named_as_feast_names_them(entity: int | str) -> None:
    keys = EntityKeys("reader_id", "VARCHAR" if isinstance(entity, str) else "BIGINT")
    assert keys.serialized(entity) == serialize_entity_key(keys.message(entity), 3)


def test_values_come_back_to_the_last_bit(project: Path, place: str) -> None:
    definitions = definitions_of(project)
    store = OnlineStore(place, "library", definitions, create=True)
    pages = [0.0, -0.0, 5e-324, 0.1 + 0.2, 1.7976931348623157e308, -1 / 3]
    loans = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 7]
    genres = ["", "a'b\"c", "Ünï😀", "\u202ertl", "x" * 100_000, "crime"]
    last = datetime(2025, 2, 1, 12, 30, 59, tzinfo=UTC)
    columns = {
        "reader_id": pa.array(range(6), pa.int64()),
        "loans": pa.array(loans, pa.int64()),
        "pages": pa.array(pages, pa.float64()),
        "average_pages": pa.array([None] * 6, pa.float64()),
        "likes_poetry": pa.array([True, False] * 3, pa.bool_()),
        "genre": pa.array(genres, pa.string()),
        "last_loan_at": pa.array([last, None] * 3, pa.timestamp("us", "UTC")),
        "event_timestamp": pa.array([AS_OF] * 6, pa.timestamp("us", "UTC")),
    }
    store.write("loans_so_far", pa.RecordBatch.from_pydict(columns))
    wanted = {"loans_so_far": [name for name in columns if name not in ("reader_id", "event_timestamp")]}
    rows = store.read(store.reader(wanted, READERS), range(6))
    if (prompt := prompt_reader(store.configuration, definitions, wanted)) is not None:
        assert repr(prompt.read_at_once(range(6))) == repr(rows)
    if (later := async_reader(located(place).url, store.configuration, definitions, wanted)) is not None:
        assert repr(asyncio.run(later.read_later(range(6), 60.0))) == repr(rows)
    found = [row["loans_so_far"] for row in rows]
    assert [struct.pack("<d", row["pages"]) for row in found] == [struct.pack("<d", value) for value in pages]
    assert [row["loans"] for row in found] == loans
    assert [row["genre"] for row in found] == genres
    assert [row["likes_poetry"] for row in found] == [True, False] * 3
    assert [row["last_loan_at"] for row in found] == [last, None] * 3
    assert {row["average_pages"] for row in found} == {None}


def test_a_dated_value_is_as_old_as_it_says_until_that_is_taken_back(project: Path, place: str) -> None:
    fill(project, place)
    store = OnlineStore(place, "library", definitions_of(project))
    features = served(project, place)
    later = AS_OF + timedelta(days=6)
    assert features.lookup([1], later)[0]["loans"] == 3
    store.date("loans_so_far", [1], [AS_OF - timedelta(days=2)])
    assert set(features.lookup([1], later)[0].values()) == {None}
    assert features.lookup([1], AS_OF + timedelta(days=5))[0]["loans"] == 3
    store.date("loans_so_far", [1], [None])
    assert features.lookup([1], later)[0]["loans"] == 3


def test_a_forgotten_entity_leaves_no_values_behind(project: Path, place: str) -> None:
    fill(project, place)
    OnlineStore(place, "library", definitions_of(project)).forget("loans_so_far", [1])
    assert set(served(project, place).lookup([1], AS_OF)[0].values()) == {None}


def test_more_entities_than_a_query_takes_are_all_found(
    project: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_reading, "ENTITIES_AT_ONCE", 1)
    fill(project, place)
    known, _, again = served(project, place).lookup([1, 2, 1], AS_OF)
    assert known == again
    assert known["loans"] == 3


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39, -3.5e38])
def test_a_number_that_no_request_may_send_is_not_served_from_the_store_either(
    project: Path, tmp_path: Path, value: float
) -> None:
    place = str(tmp_path / "online.db")
    fill(project, place, pages=value)
    with pytest.raises(ContractViolation, match=r"holds of reader_id 1 cannot be used: pages is .*32-bit"):
        served(project, place).lookup([1], AS_OF)
    lookup = looked_up(project, place)
    with pytest.raises(Unavailable, match="pages is"):
        asyncio.run(lookup.lookup([1], AS_OF))
    lookup.close()
    # What was written of others can be served.
    assert served(project, place).lookup([2], AS_OF)[0]["pages"] is None


def test_not_a_number_is_missing_as_it_is_in_training(project: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "online.db")
    fill(project, place, pages=math.nan)
    assert served(project, place).lookup([1], AS_OF)[0]["pages"] is None


def test_the_largest_number_of_a_model_is_served(project: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "online.db")
    fill(project, place, pages=-3.4028234663852886e38)
    assert served(project, place).lookup([1], AS_OF)[0]["pages"] == -3.4028234663852886e38


NO_KEYS = [
    " 3 ", "3 ", "\n3", "0_3", "1_000", "３", "٣", "+3", "03", "003", "-0", "--3", "- 3", "3.0", "3e0", "0x3", "", " ",
    "three", "9223372036854775808", 9223372036854775808, -9223372036854775809, "9" * 5000,
    10**400, 3.0, True, None, b"3",
]  # fmt: skip


@pytest.mark.parametrize("key", NO_KEYS, ids=lambda key: repr(key)[:20])
def test_a_key_that_is_written_otherwise_is_nobody_s(project: Path, store_of_three: str, key: Any) -> None:
    with pytest.raises(ValueError, match=r"reader_id must be a whole number, not .{1,70}: plain digits, in 64 bits"):
        served(project, store_of_three).lookup([key], AS_OF)


@pytest.mark.parametrize("key", [1, "1"])
def test_a_key_may_come_as_a_number_or_as_its_digits(project: Path, store_of_three: str, key: Any) -> None:
    assert served(project, store_of_three).lookup([key], AS_OF)[0]["loans"] == 3


@pytest.mark.parametrize("key", [-(2**63), 2**63 - 1, "-9223372036854775808", "9223372036854775807", 0, "0", "-7"])
def test_any_whole_number_of_64_bits_may_be_asked_for(project: Path, store_of_three: str, key: Any) -> None:
    assert set(served(project, store_of_three).lookup([key], AS_OF)[0].values()) == {None}


def test_keys_of_other_types_have_one_way_too() -> None:
    assert [entity_key("id", "INTEGER", key) for key in (-(2**31), "2147483647")] == [-(2**31), 2**31 - 1]
    assert [entity_key("id", "VARCHAR", key) for key in ("003", " 3", "３", 3, -1)] == ["003", " 3", "３", "3", "-1"]
    for key_type, key in [
        ("INTEGER", 2**31), ("INTEGER", "2147483648"), ("VARCHAR", ""), ("VARCHAR", 3.5), ("VARCHAR", True),
        ("VARCHAR", None), ("VARCHAR", "\ud800"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="id must be a"):
            entity_key("id", key_type, key)


def test_a_value_older_than_the_freshness_is_missing(project: Path, place: str) -> None:
    fill(project, place)
    features = served(project, place)
    assert features.lookup([1], AS_OF + timedelta(days=7))[0]["days_since_last_loan"] == 8.5
    assert set(features.lookup([1], AS_OF + timedelta(days=7, seconds=1))[0].values()) == {None}


@pytest.fixture
def few_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop may read what the thread has found prompt a few times, and a busy machine counts as prompt."""
    monkeypatch.setattr(online_features, "NEWS_SECONDS", 3600.0)
    monkeypatch.setattr(feature_lookup, "PROMPT_SECONDS", math.inf)
    monkeypatch.setattr(feature_lookup, "PROMPT_IN_A_ROW", 3)


@pytest.fixture
def prompt(project: Path, tmp_path: Path, few_lookups: None) -> Iterator[FeatureLookup]:
    """A store in a file."""
    fill(project, str(tmp_path / "online.db"))
    made = looked_up(project, str(tmp_path / "online.db"))
    yield made
    made.close()


def found_prompt(lookup: FeatureLookup) -> list[Any]:
    """What the thread finds, as often as it takes until the event loop may read."""
    for _ in range(feature_lookup.PROMPT_IN_A_ROW):
        found = asyncio.run(lookup.lookup([1, 2], AS_OF))
    return found


def test_a_file_that_is_prompt_is_read_on_the_event_loop(prompt: FeatureLookup, project: Path, tmp_path: Path) -> None:
    assert prompt.at_once([1, 2], AS_OF) is None
    before = found_prompt(prompt)
    assert prompt.at_once([1, 2], AS_OF) == before
    assert prompt.at_once([1] * (feature_lookup.ENTITIES_AT_ONCE + 1), AS_OF) is None
    with pytest.raises(InvalidRequest, match="must be a whole number"):
        prompt.at_once(["x"], AS_OF)
    fill(project, str(tmp_path / "online.db"), loans=4)
    assert (prompt.at_once([1], AS_OF) or [])[0]["loans"] == 4


def test_a_file_that_is_locked_keeps_no_event_loop_waiting(project: Path, tmp_path: Path, few_lookups: None) -> None:
    fill(project, str(tmp_path / "online.db"))
    copy = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(tmp_path / "online.db", isolation_level=None)) as original:
        # As a file has it that was not made here: whoever writes keeps readers out.
        original.execute("VACUUM INTO ?", (str(copy),))
    lookup = looked_up(project, str(copy))
    found_prompt(lookup)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert lookup.at_once([1], AS_OF) is None
        writer.execute("ROLLBACK")
        assert lookup.at_once([1], AS_OF) is not None
    lookup.close()


def waits() -> None:
    time.sleep(0.05)


def works() -> None:
    began = time.thread_time()
    while time.thread_time() - began < 0.05:
        pass


@pytest.mark.parametrize("slow", [waits, works])
def test_what_has_kept_the_event_loop_for_long_is_looked_up_by_the_thread_until_it_is_prompt_again(
    prompt: FeatureLookup, monkeypatch: pytest.MonkeyPatch, slow: Callable[[], None]
) -> None:
    found_prompt(prompt)
    read = OnlineFeatures.lookup_at_once
    with monkeypatch.context() as while_slow:
        while_slow.setattr(feature_lookup, "PROMPT_SECONDS", 0.01)
        while_slow.setattr(OnlineFeatures, "lookup_at_once", lambda *asked: slow() or read(*asked))
        assert prompt.at_once([1], AS_OF) is not None
        assert prompt.at_once([1], AS_OF) is None
    found_prompt(prompt)
    assert prompt.at_once([1], AS_OF) is not None


def test_the_event_loop_leaves_it_to_the_thread_to_ask_for_news(
    prompt: FeatureLookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_prompt(prompt)
    monkeypatch.setattr(online_features, "NEWS_SECONDS", -1.0)
    assert prompt.at_once([1], AS_OF) is None


def test_a_file_on_a_network_is_told_from_one_on_this_machine_s_disk(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n"
        "/dev/vdb /data ext4 rw 0 0\n"
        "store:/features /data/shared\\040features nfs4 rw,hard 0 0\n"
        "bucket /data/bucket fuse.gcsfuse rw 0 0\n"
        "proc /proc proc rw 0 0\n"
    )
    for file, own in (
        ("/online.db", True),
        ("/data/online.db", True),
        ("/data/shared features/online.db", False),
        ("/data/shared features and more/online.db", True),
        ("/data/bucket/a/online.db", False),
    ):
        assert on_own_disk(Path(file), mounts) == own, file
    assert on_own_disk(Path("/online.db"), tmp_path / "no such list")


@dataclass
class OfRedis:
    """A Redis server, and a lookup that has found it prompt."""

    client: Redis
    lookup: FeatureLookup
    before: list[Any]
    """Of readers 1 to 3, by the thread."""

    async def find(self, *keys: Any) -> list[Any]:
        """What the event loop finds."""
        return await self.lookup.lookup(keys, AS_OF)


@pytest.fixture
def of_redis(project: Path, tmp_path: Path, few_lookups: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[OfRedis]:
    monkeypatch.setattr(feature_lookup, "LOOKUP_SECONDS", 60.0)
    monkeypatch.setenv("ONLINE_STORE_PASSWORD", PASSWORD)
    for new_place in running(places("redis")):
        url = new_place(tmp_path)
        client = Redis.from_url(url)
        client.acl_setuser("reader", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+@all"])
        location = url.replace("//", "//reader:${ONLINE_STORE_PASSWORD}@")
        fill(project, location)
        lookup = looked_up(project, location)
        for _ in range(feature_lookup.PROMPT_IN_A_ROW):
            before = asyncio.run(lookup.lookup([1, 2, 3], AS_OF))
        # From now on no thread may ask.
        monkeypatch.setattr(OnlineFeatures, "stored", None)
        yield OfRedis(client, lookup, before)
        lookup.close()


def test_a_server_is_asked_by_the_event_loop_s_own_socket_many_requests_at_once(of_redis: OfRedis) -> None:
    async def ask() -> None:
        found = await asyncio.gather(*(of_redis.find(1, 2, 3) for _ in range(50)))
        assert found == [of_redis.before] * 50
        assert found[0][0]["days_since_last_loan"] == 1.5
        with pytest.raises(InvalidRequest, match="must be a whole number"):
            await of_redis.find("x")
        # What the server refuses to one is no answer to another.
        key = EntityKeys("reader_id", "BIGINT").serialized(2)
        [of_2] = [name for name in of_redis.client.scan_iter() if name.startswith(key)]
        of_redis.client.delete(of_2)
        of_redis.client.set(of_2, "no hash")
        refused, found = await asyncio.gather(of_redis.find(2), of_redis.find(1), return_exceptions=True)
        assert isinstance(refused, Unavailable)
        assert "WRONGTYPE" in str(refused)
        assert found == of_redis.before[:1]

    asyncio.run(ask())


def test_a_connection_of_the_event_loop_that_broke_off_is_made_again_and_nobody_notices(of_redis: OfRedis) -> None:
    async def ask() -> None:
        assert await of_redis.find(1, 2, 3) == of_redis.before
        of_redis.client.client_kill_filter(_type="normal", skipme=True)
        assert await of_redis.find(1, 2, 3) == of_redis.before

    asyncio.run(ask())


def test_a_server_that_is_silent_fails_each_request_after_a_while_and_answers_again(
    of_redis: OfRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_lookup, "MOST_WAITING", 20)
    process = of_redis.client.info()["process_id"]

    async def ask() -> None:
        assert await of_redis.find(1, 2, 3) == of_redis.before
        os.kill(process, signal.SIGSTOP)
        try:
            with monkeypatch.context() as impatient:
                impatient.setattr(feature_lookup, "LOOKUP_SECONDS", 0.5)
                refused = await asyncio.gather(*(of_redis.find(1) for _ in range(21)), return_exceptions=True)
        finally:
            os.kill(process, signal.SIGCONT)
        assert [type(one) for one in refused] == [Unavailable] * 20 + [TooManyRequests]
        assert {"no answer within 0.5 s" in str(one) for one in refused[:20]} == {True}
        assert await of_redis.find(1, 2, 3) == of_redis.before
        os.kill(process, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, process, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Unavailable, match=r"reader:\*\*\*@127.*cannot be used: .*failed"):
            await of_redis.find(1)

    asyncio.run(ask())


def test_a_later_materialization_is_seen_without_a_restart(project: Path, place: str) -> None:
    fill(project, place)
    features = served(project, place)
    fill(project, place, AS_OF + timedelta(days=1), loans=4)
    assert features.lookup([1], AS_OF + timedelta(days=1))[0]["loans"] == 4


def test_another_version_is_refused_at_the_start(project: Path, place: str, tmp_path: Path) -> None:
    fill(project, place)
    other = write_project(tmp_path / "other", {"feature_repo/person.sql": "SELECT 1 AS reader_id, NULL AS town"})
    with pytest.raises(ContractViolation, match=r"no features of version \w+.*it holds version \w+, as of 2025-02-10"):
        served(other, place)


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_a_connection_that_broke_off_is_made_again(project: Path, tmp_path: Path, kind: str) -> None:
    for new_place in running(places(kind)):
        location = new_place(tmp_path)
        fill(project, location)
        features = served(project, location)
        before = features.lookup([1], AS_OF)
        url = located(location).url
        if kind == "redis":
            Redis.from_url(url).client_kill_filter(_type="normal", skipme=True)
        else:
            with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
        # The request that finds it broken may fail; those after it do not.
        with contextlib.suppress(ContractViolation):
            features.lookup([1], AS_OF)
        assert features.lookup([1], AS_OF) == before


def test_a_store_that_nobody_filled_is_refused_at_the_start(project: Path, place: str) -> None:
    with pytest.raises(ContractViolation, match=r"no features of version|There is no online store|no such table"):
        served(project, place)


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_store_that_is_down_is_named_without_its_password(project: Path, scheme: str) -> None:
    with pytest.raises(
        ContractViolation, match=rf"{scheme}://me:\*\*\*@127\.0\.0\.1:1/0 cannot be used: (.|\n)*[Cc]onnection refused"
    ) as refused:
        served(project, f"{scheme}://me:s3cr%40t@127.0.0.1:1/0")
    assert "s3cr" not in str(refused.value)


def test_a_password_that_no_variable_holds_is_asked_for_by_its_name(project: Path) -> None:
    with pytest.raises(ContractViolation, match=r"needs NOT_SET_ANYWHERE, which the environment does not have"):
        served(project, "redis://:${NOT_SET_ANYWHERE}@127.0.0.1:6379")


def test_settings_that_feast_does_not_know_are_refused_without_the_password(project: Path) -> None:
    with pytest.raises(
        ContractViolation, match=r"Feast refuses the online store postgresql://me:\*\*\*@h/d"
    ) as refused:
        served(project, "postgresql://me:s3cr%40t@h/d?colour=blue")
    assert "colour" in str(refused.value)
    assert "s3cr" not in str(refused.value)


def test_a_server_over_the_wrong_store_says_so_when_it_starts(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lookup = looked_up(project, str(tmp_path / "online.db"))
    lookup.start()
    with pytest.raises(Unavailable, match="There is no online store"):
        asyncio.run(lookup.lookup([1], None))
    lookup.close()
    assert (
        "library answers only requests that bring all features along, so far: There is no online store" in caplog.text
    )


def test_a_store_that_falls_silent_keeps_nobody_waiting(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_lookup, "LOOKUP_SECONDS", 0.5)
    monkeypatch.setenv("ONLINE_STORE_PASSWORD", PASSWORD)
    for server in running(postgresql()):
        location = f"postgresql://postgres:${{ONLINE_STORE_PASSWORD}}@127.0.0.1:{server.port}/postgres?sslmode=disable"
        fill(project, location)
        lookup = looked_up(project, location)
        before = asyncio.run(lookup.lookup([1], AS_OF))
        server.pause()
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"the online store did not answer within 0\.5 s"):
                asyncio.run(lookup.lookup([1], AS_OF))
        server.resume()
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(Unavailable):
                assert asyncio.run(lookup.lookup([1], AS_OF)) == before
                break
            assert time.monotonic() < deadline
        lookup.close()


def test_prometheus_learns_how_fresh_and_how_often_missing_features_are(project: Path, place: str) -> None:
    def metric(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    fill(project, place)
    counted = {
        "online_features_entities_total": {},
        "online_features_unknown_total": {},
        "online_features_missing_total": {"feature": "genre"},
    }
    before = {name: metric(name, **labels) for name, labels in counted.items()}
    features = served(project, place)
    features.lookup([1, 2, 3], AS_OF)
    # Of an entity that nothing is known of, no feature is missing more than another.
    features.lookup([1], AS_OF + timedelta(days=30))
    assert {name: metric(name, **labels) - before[name] for name, labels in counted.items()} == {
        "online_features_entities_total": 2,
        "online_features_unknown_total": 2,
        "online_features_missing_total": 1,
    }


def test_prometheus_learns_what_the_store_holds_and_forgets_what_it_no_longer_does(project: Path, place: str) -> None:
    fill(project, place)
    store = OnlineStore(place, "library", definitions_of(project))
    loans = {"feature": "loans", "missing": 0.5, "mean": 3.0, "quantiles": [3.0, 3.0, 3.0, 3.0, 4.0]}
    genre = {"feature": "genre", "missing": 0.0, "distinct": 1, "most_frequent": [{"value": "crime", "share": 1.0}]}
    described = {"view": "loans_so_far", "newest_row": LAST_LOAN.isoformat(), "features": [loans, genre]}
    quality = ViewQuality.model_validate(described)
    materialized = store.materialized()
    assert materialized is not None
    store.note(replace(materialized, quality=[quality]))
    features = served(project, place)
    prometheus = CollectorRegistry()
    prometheus.register(FeatureMetrics(features, features.look_for_news))

    def metric(name: str, **labels: str) -> float | None:
        return prometheus.get_sample_value(f"online_features_{name}", labels)

    assert metric("as_of_seconds") == AS_OF.timestamp()
    assert metric("freshness_seconds") == timedelta(days=7).total_seconds()
    assert metric("newest_row_seconds", view="loans_so_far") == LAST_LOAN.timestamp()
    assert metric("missing_ratio", view="loans_so_far", feature="loans") == 0.5
    assert metric("mean", view="loans_so_far", feature="loans") == 3
    assert metric("quantile", view="loans_so_far", feature="loans", quantile="1") == 4
    assert metric("category_ratio", view="loans_so_far", feature="genre", category="crime") == 1
    without_genre = ViewQuality.model_validate({**described, "features": [loans]})
    store.note(replace(materialized, as_of=AS_OF + timedelta(days=1), quality=[without_genre]))
    assert metric("category_ratio", view="loans_so_far", feature="genre", category="crime") is None
    assert metric("as_of_seconds") == (AS_OF + timedelta(days=1)).timestamp()


def test_a_project_on_historical_data_has_no_age_at_which_its_features_expire(tmp_path: Path) -> None:
    change = {"pipeline.yaml": ("freshness_days: 7", "freshness_days: 7, present: data")}
    project = write_project(tmp_path / "project", change)
    fill(project, str(tmp_path / "online.db"))
    assert served(project, str(tmp_path / "online.db")).freshness_seconds == math.inf


def test_the_server_tells_how_fresh_its_store_is_also_when_nobody_asks_for_features(
    project: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "online.db")
    fill(project, place)
    lookup = looked_up(project, place)
    asyncio.run(lookup.lookup([1], AS_OF))
    fill(project, place, AS_OF + timedelta(days=1))
    deadline = time.monotonic() + 20
    while REGISTRY.get_sample_value("online_features_as_of_seconds") == AS_OF.timestamp():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert REGISTRY.get_sample_value("online_features_as_of_seconds") == (AS_OF + timedelta(days=1)).timestamp()
    lookup.close()
    assert REGISTRY.get_sample_value("online_features_as_of_seconds") is None
