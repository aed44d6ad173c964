"""Features are the same whenever they are computed: SQL and on-demand code that look at the clock are found out."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kfp_lifecycle.features.frozen_clock import frozen_clock
from kfp_lifecycle.features.offline.point_in_time import checked_query
from kfp_lifecycle.runtime.contract import ContractViolation
from tests.feature_steps import build
from tests.lending_library import some_readers_and_loans, write_project, write_tables

FEATURES = "feature_repo/features.py"
SINCE = "[None if t is None else (now - t).total_seconds() / 86400 for t, now in pairs]"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("library") / "tables", *some_readers_and_loans(15))


def file_with(folder: Path, sql: str) -> Path:
    (folder / "view.sql").write_text(sql)
    return folder / "view.sql"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, age(born) AS years FROM people",
        "SELECT id, born.age() AS years FROM people",
        "SELECT id, list_transform(births, lambda born: age(born)) AS years FROM people",
        "SELECT id, born > ago(INTERVAL 1 DAY) AS fresh FROM people",
        "SELECT id FROM people WHERE born < today()",
        "SELECT id FROM people WHERE born < localtimestamp",
        "SELECT id FROM people WHERE born < CURRENT_TIME",
        'SELECT id FROM people WHERE born < "Now"()',
        "SELECT id FROM people WHERE born < main.get_current_timestamp()",
        "SELECT id, pg_postmaster_start_time() AS started FROM people",
        "SELECT id FROM people ORDER BY random()",
        "SELECT id, uuidv7() AS number FROM people",
        "SELECT * FROM (PIVOT (SELECT id, kind, now() AS moment FROM people) ON kind IN ('a', 'b') USING max(moment))",
        "SELECT * FROM (PIVOT people ON kind IN ('a', 'b') USING max(age(born)))",
        "SELECT id FROM people TABLESAMPLE 10%",
        "SELECT id FROM people USING SAMPLE 5 ROWS",
        "FROM query('SELECT now() AS moment')",
    ],
)
def test_sql_that_depends_on_when_it_runs_is_refused(tmp_path: Path, sql: str) -> None:
    with pytest.raises(ContractViolation, match=r"view\.sql uses .* the same data give other values"):
        checked_query(file_with(tmp_path, sql), ["as_of"])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, age($as_of, born) AS years FROM people",
        "SELECT id, date_diff('day', born, $as_of) AS days, people.now FROM people",
        "SELECT id, $as_of - INTERVAL 30 DAY < born AS fresh FROM people",
        "SELECT * FROM (PIVOT people ON kind IN ('a', 'b') USING max(age(seen, born))) -- not now()",
        "SELECT id FROM people TABLESAMPLE reservoir(10) REPEATABLE (42)",
        "SELECT id, 'now' AS word FROM people",
        "SELECT id, json_group_object(kind, id) AS kinds FROM people GROUP BY id",
    ],
)
def test_sql_that_depends_on_its_rows_alone_is_taken(tmp_path: Path, sql: str) -> None:
    checked_query(file_with(tmp_path, sql), ["as_of"])


@pytest.mark.parametrize(
    ("top", "line"),
    [
        ("from datetime import datetime, timezone\nTODAY = datetime.now(timezone.utc)", "now = TODAY"),
        ("import datetime as d\nTODAY = d.date.today().toordinal()", "return TODAY"),
        ("import pandas as pd", "return pd.Timestamp('today').timestamp()"),
        ("import pandas as pd\nYEAR = pd.to_datetime('now').year", "return YEAR"),
        ("import time", "return getattr(time, 'ti' + 'me')()"),
        ("from email.utils import formatdate", "return float(len(formatdate()) + hash(formatdate()) % 7919)"),
        ("import os", "return float(int.from_bytes(os.urandom(4), 'big'))"),
        ("from random import Random\nCHANCE = Random().random()", "return CHANCE"),
        ("import time\n\n\nclass Clock:\n    at = time.time()\n\n\nCLOCK = Clock()", "return CLOCK.at"),
    ],
)  # fmt: skip
def test_an_on_demand_feature_that_depends_on_when_it_is_computed_is_refused(
    tmp_path: Path, tables: Path, top: str, line: str
) -> None:
    each = f"def each(t, now):\n    {line}\n    return None if t is None else (now - t).total_seconds() / 86400"
    project = write_project(tmp_path / "project", {FEATURES: (SINCE, "[each(t, now) for t, now in pairs]")})
    (project / FEATURES).write_text(f"{top}\n\n\n{each}\n\n\n{(project / FEATURES).read_text()}")
    with pytest.raises(
        ContractViolation,
        match=r"recency:days_since_last_loan depends on when it is computed: for reader_id \d+ it is .* 2001-02-03 "
        r"and .* 2034-10-23.*request_time|the on-demand view recency uses",
    ):
        build(project, tables, tmp_path / "training_set")


def test_numpy_s_clock_is_refused_though_nothing_can_freeze_it(tmp_path: Path, tables: Path) -> None:
    project = write_project(tmp_path / "project", {FEATURES: (SINCE, "[float(TODAY.astype(int)) for _ in pairs]")})
    text = (project / FEATURES).read_text()
    (project / FEATURES).write_text(f"import numpy as np\n\nTODAY = np.datetime64('today')\n{text}")
    with pytest.raises(ContractViolation, match=r"features\.py: line 3 asks numpy for the present.*request_time"):
        build(project, tables, tmp_path / "training_set")


@pytest.mark.parametrize(
    ("owner", "name", "arguments"),
    [
        (datetime, "now", ()), (datetime, "now", (UTC,)), (datetime, "utcnow", ()), (datetime, "today", ()),
        (date, "today", ()), (time, "time", ()), (time, "time_ns", ()), (time, "gmtime", ()), (time, "ctime", ()),
        (time, "localtime", ()), (time, "asctime", ()), (time, "strftime", ("%Y-%m-%d %H:%M:%S",)),
        (pd.Timestamp, "now", ()), (pd.Timestamp, "today", ()), (pd, "Timestamp", ("today",)),
        (pd, "to_datetime", ("now",)),
    ],
)  # fmt: skip
def test_the_clock_stands_still_however_it_is_asked_and_goes_on_afterwards(
    owner: Any, name: str, arguments: tuple[Any, ...]
) -> None:
    with frozen_clock(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)):
        first = repr(getattr(owner, name)(*arguments))
        time.sleep(0.002)
        assert repr(getattr(owner, name)(*arguments)) == first
        assert datetime.now(UTC).year == 2001
    assert datetime.now(UTC).year > 2001
    assert abs(datetime.now(UTC).timestamp() - time.time()) < 1
