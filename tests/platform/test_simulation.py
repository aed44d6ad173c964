"""The simulated business: a believable history, the same each time, wrong only where asked."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from simulation.business import CHUNK, INJECTIONS, SimulationSummary, simulate
from simulation.database import TABLES

CUSTOMERS, DAYS, END = 3_000, 730, date(2026, 6, 30)
TIMES = {
    "customers": "signed_up_at",
    "subscriptions": "billed_at",
    "logins": "logged_in_at",
    "purchases": "purchased_at",
    "support_tickets": "opened_at",
    "cancellations": "cancelled_at",
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SimulationSummary]:
    file = tmp_path_factory.mktemp("business") / "business.duckdb"
    return file, simulate(file, customers=CUSTOMERS, days=DAYS, end=END)


@pytest.fixture
def ask(business: tuple[Path, SimulationSummary]) -> Iterator[Callable[[str], list[Any]]]:
    with duckdb.connect(str(business[0]), read_only=True) as connection:
        yield lambda query: connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("injected")

    def make(name: str) -> Path:
        file = folder / f"{name}.duckdb"
        if not file.exists():
            simulate(file, customers=CUSTOMERS, days=DAYS, end=END, inject=[name])
        return file

    return make


@pytest.fixture
def compare(
    business: tuple[Path, SimulationSummary], injected: Callable[[str], Path]
) -> Iterator[Callable[[str, str], list[Any]]]:
    """Ask about `good` and `bad`, the business without and with an injection."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{business[0]}' AS good (READ_ONLY)")

        def query(name: str, sql: str) -> list[Any]:
            connection.execute("DETACH DATABASE IF EXISTS bad")
            connection.execute(f"ATTACH '{injected(name)}' AS bad (READ_ONLY)")
            return connection.execute(sql).fetchall()

        yield query


def differing_tables(compare: Callable[[str, str], list[Any]], name: str) -> set[str]:
    different = set()
    for table in TABLES:
        (count,) = compare(
            name,
            f"SELECT count(*) FROM ((FROM good.{table} EXCEPT ALL FROM bad.{table}) UNION ALL "
            f"(FROM bad.{table} EXCEPT ALL FROM good.{table}))",
        )[0]
        if count:
            different.add(table)
    return different


# --- the same each time ---


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{n}.duckdb" for n in (1, 2, 3))
    # Two chunks and several row groups: small files hide what a database decides at random.
    arguments: dict[str, Any] = {"customers": CHUNK + 2_000, "days": 240, "seed": 11}
    simulate(first, **arguments)
    simulate(second, **arguments)
    code = (
        "from pathlib import Path; from simulation.business import simulate; "
        f"simulate(Path({str(third)!r}), **{arguments})"
    )
    # Memory that was never written to holds something else there: none of it may reach the file.
    environment = {"PATH": "/usr/bin:/bin", "MALLOC_PERTURB_": "90", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() == third.read_bytes()


def test_another_seed_gives_another_history(tmp_path: Path) -> None:
    for seed in (1, 2):
        simulate(tmp_path / f"{seed}.duckdb", customers=50, days=120, seed=seed)
    assert (tmp_path / "1.duckdb").read_bytes() != (tmp_path / "2.duckdb").read_bytes()


def test_the_first_customers_live_the_same_however_many_follow(tmp_path: Path) -> None:
    simulate(tmp_path / "few.duckdb", customers=CHUNK, days=120)
    simulate(tmp_path / "many.duckdb", customers=CHUNK + 700, days=120)
    with duckdb.connect() as connection:
        for name in ("few", "many"):
            connection.execute(f"ATTACH '{tmp_path / name}.duckdb' AS {name} (READ_ONLY)")
        for table in TABLES:
            few, many = (
                connection.execute(
                    f"SELECT count(*), sum(hash(t)) FROM {name}.{table} t WHERE customer_id <= {CHUNK}"
                ).fetchall()
                for name in ("few", "many")
            )
            assert few == many, table


# --- a believable history ---


def test_the_readme_describes_the_tables_as_they_are(ask: Callable[[str], list[Any]]) -> None:
    described: dict[str, dict[str, str]] = {}
    for line in (ROOT / "simulation" / "README.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"### (\w+)", line):
            described[heading[1]] = {}
        elif described and (row := re.match(r"\| `(\w+)` \| ([A-Z]+) \|", line)):
            list(described.values())[-1][row[1]] = row[2]
    real = {table: {name: kind for name, kind, *_ in ask(f"DESCRIBE {table}")} for (table,) in ask("SHOW TABLES")}
    assert described == real


def test_the_summary_counts_what_is_in_the_file(
    business: tuple[Path, SimulationSummary], ask: Callable[[str], list[Any]]
) -> None:
    summary = business[1]
    assert summary.rows == {table: ask(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert (summary.customers, summary.cancelled) == (CUSTOMERS, summary.rows["cancellations"])
    assert (summary.first_day, summary.last_day) == (date(2024, 7, 1), END)


@pytest.mark.parametrize("table", TIMES)
def test_a_row_arrives_after_it_happened_and_before_the_data_ends(table: str, ask: Callable[[str], list[Any]]) -> None:
    early, late = ask(
        f"SELECT count(*) FILTER (recorded_at <= {TIMES[table]}), count(*) FILTER (recorded_at >= '2026-07-01') "
        f"FROM {table}"
    )[0]
    assert (early, late) == (0, 0)


@pytest.mark.parametrize("table", TIMES)
def test_every_row_has_its_own_key(table: str, ask: Callable[[str], list[Any]]) -> None:
    key = next(iter(TABLES[table]))
    assert ask(f"SELECT count(*) = count(DISTINCT {key}) AND min({key}) >= 1 FROM {table}") == [(True,)]


@pytest.mark.parametrize("table", ["subscriptions", "logins", "purchases", "support_tickets", "cancellations"])
def test_nothing_happens_to_a_customer_before_sign_up_or_after_leaving(
    table: str, ask: Callable[[str], list[Any]]
) -> None:
    outside = ask(
        f"SELECT count(*) FROM {table} e JOIN customers c USING (customer_id) "
        "LEFT JOIN cancellations x USING (customer_id) "
        f"WHERE e.{TIMES[table]} < c.signed_up_at OR e.{TIMES[table]} > x.cancelled_at"
    )
    assert outside == [(0,)]


def test_the_newest_row_is_from_the_last_day_so_that_snapshots_meet_the_truth(
    ask: Callable[[str], list[Any]],
) -> None:
    assert ask("SELECT max(logged_in_at)::DATE FROM logins") == [(END,)]
    (days,) = zip(*ask("SELECT DISTINCT day FROM truth ORDER BY day DESC"), strict=True)
    assert [(END - day).days for day in days] == list(range(0, DAYS, 30))


NULLS = {
    ("customers", "age_band"): 0.08,
    ("customers", "gender"): 0.06,
    ("customers", "channel"): 0.04,
    ("logins", "device"): 0.02,
    ("logins", "session_minutes"): 0.05,
    ("support_tickets", "resolved_at"): 0.005,
    ("support_tickets", "satisfaction"): 0.45,
    ("cancellations", "reason"): 0.35,
}


def test_values_are_missing_where_the_readme_says_so_and_nowhere_else(ask: Callable[[str], list[Any]]) -> None:
    for table, columns in TABLES.items():
        for column in columns:
            (share,) = ask(f"SELECT avg(({column} IS NULL)::INT) FROM {table}")[0]
            assert share == pytest.approx(NULLS.get((table, column), 0.0), rel=0.35), (table, column)


def test_some_rows_arrive_days_late(ask: Callable[[str], list[Any]]) -> None:
    for table, least, most, days in (("subscriptions", 0.015, 0.025, 5), ("purchases", 0.04, 0.06, 2)):
        share, longest = ask(
            f"SELECT avg((recorded_at > {TIMES[table]} + INTERVAL 1 HOUR)::INT), "
            f"max(recorded_at - {TIMES[table]}) FROM {table}"
        )[0]
        assert least < share < most
        assert days - 0.5 < longest.total_seconds() / 86400 <= days


def test_what_a_ticket_says_is_known_when_it_is_recorded(ask: Callable[[str], list[Any]]) -> None:
    assert ask("SELECT count(*) FROM support_tickets WHERE resolved_at > recorded_at") == [(0,)]
    assert ask("SELECT count(satisfaction) FROM support_tickets WHERE resolved_at IS NULL") == [(0,)]


def test_a_customer_is_billed_every_30_days(ask: Callable[[str], list[Any]]) -> None:
    assert ask(
        "SELECT DISTINCT date_diff('day', signed_up_at::DATE, billed_at::DATE) % 30 "
        "FROM subscriptions JOIN customers USING (customer_id)"
    ) == [(0,)]


def test_numbers_keep_the_ranges_of_the_readme(ask: Callable[[str], list[Any]]) -> None:
    assert ask("SELECT min(quantity), max(quantity) <= 9, min(amount) > 0 FROM purchases") == [(1, True, True)]
    assert ask("SELECT min(monthly_charge) > 0, min(discount), max(discount) FROM subscriptions") == [(True, 0.0, 0.2)]
    assert ask("SELECT min(session_minutes) > 0 FROM logins") == [(True,)]
    assert ask("SELECT min(satisfaction), max(satisfaction) FROM support_tickets") == [(1, 5)]
    assert ask("SELECT min(probability) >= 0, max(probability) < 1 FROM truth") == [(True, True)]


def test_weeks_and_years_have_seasons(ask: Callable[[str], list[Any]]) -> None:
    weekend, weekday = ask(
        "SELECT count(*) FILTER (isodow(logged_in_at) > 5) / 2, count(*) FILTER (isodow(logged_in_at) <= 5) / 5 "
        "FROM logins"
    )[0]
    assert weekend > 1.2 * weekday
    december, november = ask(
        "SELECT count(*) FILTER (month(purchased_at) = 12), count(*) FILTER (month(purchased_at) = 11) FROM purchases"
    )[0]
    assert december > 1.3 * november


def test_prices_rise_and_campaigns_discount(ask: Callable[[str], list[Any]]) -> None:
    before, after = ask(
        "SELECT mode(monthly_charge) FILTER (billed_at < '2025-02-01'), "
        "mode(monthly_charge) FILTER (billed_at >= '2026-02-01') FROM subscriptions WHERE plan = 'basic'"
    )[0]
    assert before == 9.99
    assert after == pytest.approx(9.99 * 1.04**2, abs=0.01)
    (months,) = zip(
        *ask(
            "SELECT DISTINCT month(signed_up_at) FROM subscriptions JOIN customers USING (customer_id) "
            "WHERE discount > 0 ORDER BY 1"
        ),
        strict=True,
    )
    assert months == (3, 10)


# --- leaving, and the truth about it ---

LABELLED = """
    SELECT t.probability, x.customer_id IS NOT NULL AS has_left, t.customer_id, t.day + 1 AS midnight
    FROM truth t LEFT JOIN cancellations x ON x.customer_id = t.customer_id
        AND x.cancelled_at >= t.day + 1 AND x.cancelled_at < t.day + 31
    WHERE t.day <= DATE '2026-06-30' - 60
"""


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties shared (Mann and Whitney 1947)."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = label.sum()
    return float((rank[label].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def test_the_truth_is_there_for_exactly_the_customers_of_that_evening(ask: Callable[[str], list[Any]]) -> None:
    assert ask(
        "SELECT count(*) FROM (SELECT DISTINCT day FROM truth WHERE day < DATE '2026-06-01') d "
        "JOIN customers c ON c.signed_up_at < d.day + 1 "
        "LEFT JOIN cancellations x ON x.customer_id = c.customer_id "
        "FULL JOIN (FROM truth WHERE day < DATE '2026-06-01') t ON t.customer_id = c.customer_id AND t.day = d.day "
        "WHERE (t.day IS NULL) = (x.cancelled_at IS NULL OR x.cancelled_at >= d.day + 1)"
    ) == [(0,)]


@pytest.mark.parametrize("injection", [None, "price_rise"])
def test_the_truth_is_a_probability(
    injection: str | None, business: tuple[Path, SimulationSummary], injected: Callable[[str], Path]
) -> None:
    file = business[0] if injection is None else injected(injection)
    with duckdb.connect(str(file), read_only=True) as connection:
        columns = connection.execute(LABELLED).fetchnumpy()
    probability, left = np.asarray(columns["probability"]), np.asarray(columns["has_left"]).astype(bool)
    groups = np.digitize(probability, [0.01, 0.02, 0.04, 0.07, 0.12, 0.25])
    for group in range(7):
        expected = probability[groups == group]
        deviation = left[groups == group].sum() - expected.sum()
        assert abs(deviation) < 3.5 * np.sqrt((expected * (1 - expected)).sum()), (group, expected.mean())


def test_no_model_of_the_tables_beats_the_truth_but_a_good_one_comes_near(ask: Callable[[str], list[Any]]) -> None:
    rows = np.array(
        ask(f"""
        WITH labelled AS ({LABELLED}),
        seen AS (
            SELECT customer_id, midnight, count(*) AS month, count(*) FILTER (logged_in_at >= midnight - 7) AS week,
                avg(session_minutes) AS minutes
            FROM labelled JOIN logins USING (customer_id)
            WHERE recorded_at < midnight AND logged_in_at >= midnight - 30 GROUP BY ALL),
        bills AS (
            SELECT customer_id, midnight, count(*) FILTER (payment_status = 'failed') AS failed
            FROM labelled JOIN subscriptions USING (customer_id)
            WHERE recorded_at < midnight AND billed_at >= midnight - 60 GROUP BY ALL),
        tickets AS (
            SELECT customer_id, midnight, count(*) AS tickets FROM labelled JOIN support_tickets USING (customer_id)
            WHERE recorded_at < midnight AND opened_at >= midnight - 60 GROUP BY ALL)
        SELECT has_left, probability, midnight > '2026-01-01', ln(1 + coalesce(month, 0)), ln(1 + coalesce(week, 0)),
            ln(coalesce(minutes, 25)), coalesce(failed, 0), coalesce(tickets, 0),
            exp(-date_diff('day', signed_up_at, midnight) / 100), date_diff('day', signed_up_at, midnight) < 31
        FROM labelled JOIN customers USING (customer_id) LEFT JOIN seen USING (customer_id, midnight)
            LEFT JOIN bills USING (customer_id, midnight) LEFT JOIN tickets USING (customer_id, midnight)
        """),
        float,
    )
    label, truth, test = rows[:, 0] > 0, rows[:, 1], rows[:, 2] > 0
    features = np.column_stack([np.ones(len(rows)), rows[:, 3:]])
    model = logistic_regression(features[~test], label[~test])
    reached, possible = roc_auc(label[test], features[test] @ model), roc_auc(label[test], truth[test])
    assert 0.72 < reached < possible < 0.88


def logistic_regression(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Coefficients by Newton's method, slightly ridged."""
    weights = np.zeros(features.shape[1])
    for _ in range(15):
        probability = 1 / (1 + np.exp(-features @ weights))
        curvature = (features * (probability * (1 - probability))[:, None]).T @ features + np.eye(len(weights))
        weights += np.linalg.solve(curvature, features.T @ (label - probability) - weights)
    return weights


# --- what can be injected ---


def test_a_price_rise_is_charged_and_makes_customers_leave_and_buy_less(
    compare: Callable[[str, str], list[Any]],
) -> None:
    sql = """
        SELECT (SELECT max(monthly_charge) FROM {0}.subscriptions WHERE billed_at < '2026-05-02'),
            (SELECT max(monthly_charge) FROM {0}.subscriptions WHERE billed_at >= '2026-05-03'),
            (SELECT count(*) FROM {0}.cancellations WHERE cancelled_at >= '2026-05-02'),
            (SELECT count(*) FROM {0}.purchases WHERE purchased_at >= '2026-05-02')
    """
    (before, charge, left, bought), (usual_before, usual_charge, usually_left, usually_bought) = (
        compare("price_rise", sql.format(database))[0] for database in ("bad", "good")
    )
    assert before == usual_before
    assert charge == pytest.approx(1.25 * usual_charge, abs=0.01)
    assert left > 1.5 * usually_left
    assert bought < 0.9 * usually_bought


def test_until_the_price_rise_the_same_happens_on_the_same_days(compare: Callable[[str, str], list[Any]]) -> None:
    for table, time in TIMES.items():
        days = "SELECT customer_id, {1}::DATE FROM {0}.{2} WHERE {1} < '2026-05-02'"
        good, bad = (days.format(database, time, table) for database in ("good", "bad"))
        assert compare(
            "price_rise", f"SELECT count(*) FROM (({good} EXCEPT ALL {bad}) UNION ALL ({bad} EXCEPT ALL {good}))"
        ) == [(0,)]


def test_a_marketing_campaign_brings_other_customers_and_leaves_the_old_ones_alone(
    compare: Callable[[str, str], list[Any]],
) -> None:
    for table in TABLES:
        (good,), (bad,) = compare(
            "marketing_campaign",
            f"SELECT sum(hash(t)) FROM good.{table} t UNION ALL "
            f"SELECT sum(hash(t)) FROM bad.{table} t WHERE customer_id <= {CUSTOMERS}",
        )
        assert good == bad, table
    count, first, social, young = compare(
        "marketing_campaign",
        "SELECT count(*), min(signed_up_at)::DATE, avg((channel = 'social')::INT), avg((age_band = '18-24')::INT) "
        f"FROM bad.customers WHERE customer_id > {CUSTOMERS}",
    )[0]
    assert (count, first) == (CUSTOMERS // 4, date(2026, 5, 2))
    assert social > 0.7
    assert young > 0.4


def test_a_migration_renames_a_column_and_nothing_else(
    compare: Callable[[str, str], list[Any]], injected: Callable[[str], Path]
) -> None:
    assert differing_tables(compare, "column_renamed") == set()
    with duckdb.connect(str(injected("column_renamed")), read_only=True) as connection:
        names = [name for name, *_ in connection.execute("DESCRIBE subscriptions").fetchall()]
    assert names == [name.replace("monthly_charge", "monthly_fee") for name in TABLES["subscriptions"]]


def test_a_refund_bug_makes_recent_amounts_negative_and_changes_nothing_else(
    compare: Callable[[str, str], list[Any]],
) -> None:
    assert differing_tables(compare, "refund_bug") == {"purchases"}
    share, first, others = compare(
        "refund_bug",
        "SELECT avg((b.amount < 0)::INT) FILTER (purchased_at >= '2026-05-02'), "
        "min(purchased_at) FILTER (b.amount < 0)::DATE, count(*) FILTER (abs(b.amount) <> g.amount) "
        "FROM bad.purchases b JOIN good.purchases g "
        "USING (purchase_id, customer_id, purchased_at, category, quantity, recorded_at)",
    )[0]
    assert share == pytest.approx(0.2, abs=0.03)
    assert first >= date(2026, 5, 2)
    assert others == 0


def test_a_loader_swaps_two_columns_of_15_percent_and_changes_nothing_else(
    compare: Callable[[str, str], list[Any]],
) -> None:
    assert differing_tables(compare, "columns_swapped") == {"subscriptions"}
    share, rows, others = compare(
        "columns_swapped",
        "SELECT avg((b.plan = g.payment_method AND b.payment_method = g.plan)::INT), count(*), "
        "count(*) FILTER (b.plan NOT IN (g.plan, g.payment_method)) "
        "FROM bad.subscriptions b JOIN good.subscriptions g USING (subscription_id, customer_id, billed_at, "
        "monthly_charge, discount, payment_status, recorded_at)",
    )[0]
    assert share == pytest.approx(0.15, abs=0.01)
    assert (rows, others) == (compare("columns_swapped", "SELECT count(*) FROM good.subscriptions")[0][0], 0)


def test_an_outage_loses_a_week_of_logins_and_changes_nothing_else(compare: Callable[[str, str], list[Any]]) -> None:
    assert differing_tables(compare, "outage") == {"logins"}
    columns = ", ".join(name for name in TABLES["logins"] if name != "login_id")
    lost = compare(
        "outage",
        f"SELECT DISTINCT logged_in_at::DATE FROM (SELECT {columns} FROM good.logins EXCEPT ALL "
        f"SELECT {columns} FROM bad.logins) ORDER BY 1",
    )
    assert lost == [(date(2026, 6, day),) for day in range(19, 26)]
    assert compare(
        "outage", "SELECT count(*) FROM bad.logins WHERE logged_in_at BETWEEN '2026-06-19' AND '2026-06-25'"
    ) == [(0,)]


def test_injections_add_up(tmp_path: Path) -> None:
    simulate(tmp_path / "all.duckdb", customers=400, days=200, inject=list(INJECTIONS))
    with duckdb.connect(str(tmp_path / "all.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM customers").fetchone() == (500,)
        assert connection.execute("SELECT min(amount) < 0 FROM purchases").fetchone() == (True,)
        assert connection.execute("SELECT count(monthly_fee) > 0 FROM subscriptions").fetchone() == (True,)


# --- bad requests, interruptions, size ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"customers": 0}, "customers must be at least 1, not 0"),
        ({"days": 119}, "days must be at least 120, not 119"),
        ({"days": 900_000}, "before the year 1"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"inject": ["outage", "flood"]}, "unknown injection flood; there are: price_rise, marketing_campaign"),
    ],
)
def test_an_impossible_request_is_refused_in_plain_words(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        simulate(tmp_path / "never.duckdb", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder; name a file"):
        simulate(tmp_path, customers=10, days=120)


def test_an_interruption_leaves_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    file = tmp_path / "business.duckdb"
    file.write_bytes(b"precious")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(file, customers=100, days=120, progress=interrupt)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"precious"


def test_an_old_file_is_replaced_with_the_journal_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "it's a business.duckdb"
    for name in (file.name, f"{file.name}.wal"):
        (tmp_path / name).write_bytes(b"left by an interrupted writer")
    simulate(file, customers=100, days=120)
    assert list(tmp_path.iterdir()) == [file]
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM customers").fetchone() == (100,)


def test_progress_counts_customers(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    simulate(tmp_path / "b.duckdb", customers=CHUNK + 1, days=120, progress=lambda *step: steps.append(step))
    assert steps == [(CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK + 1)]


def test_a_single_customer_makes_a_business(tmp_path: Path) -> None:
    assert simulate(tmp_path / "b.duckdb", customers=1, days=120).rows["customers"] == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_customers(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from simulation.business import simulate; "
        "simulate(Path(sys.argv[1]), customers=int(sys.argv[2]), days=365); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    one, eight = (
        int(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / f"{chunks}.duckdb"), str(chunks * CHUNK)],
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
            ).stdout
        )
        for chunks in (1, 8)
    )
    assert eight < 2 * one
