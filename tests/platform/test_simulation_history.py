"""What the simulated business tells: a believable history, and the truth about who leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from kfp_lifecycle.simulation.business import SimulationSummary, simulate
from kfp_lifecycle.simulation.database import TABLES

CUSTOMERS, DAYS, END = 3_000, 730, date(2026, 6, 30)
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


def test_a_bill_says_how_old_the_account_is(ask: Callable[[str], list[Any]]) -> None:
    assert ask(
        "SELECT DISTINCT account_age_days - date_diff('day', signed_up_at::DATE, billed_at::DATE) "
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
    injection: str | None, business: tuple[Path, SimulationSummary], tmp_path: Path
) -> None:
    file = business[0]
    if injection:
        file = tmp_path / "injected.duckdb"
        simulate(file, customers=CUSTOMERS, days=DAYS, end=END, inject=[injection])
    with duckdb.connect(str(file), read_only=True) as connection:
        columns = connection.execute(LABELLED).fetchnumpy()
    probability, left = np.asarray(columns["probability"]), np.asarray(columns["has_left"]).astype(bool)
    groups = np.digitize(probability, [0.01, 0.02, 0.04, 0.07, 0.12, 0.25])
    everyone = np.ones(len(left), bool)
    for chosen in [everyone, *(groups == group for group in range(7))]:
        expected = probability[chosen]
        deviation = left[chosen].sum() - expected.sum()
        assert abs(deviation) < 3.5 * np.sqrt((expected * (1 - expected)).sum()), (expected.mean(), left[chosen].mean())


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


def test_a_business_goes_on_a_later_day_has_the_same_rows_and_those_that_came_since(tmp_path: Path) -> None:
    days = (date(2026, 3, 31), date(2026, 5, 15), END)
    views = [tmp_path / f"{day}.duckdb" for day in days]
    for view, day in zip(views, days, strict=True):
        simulate(view, customers=800, days=365, end=END, until=day, inject=["price_rise@2026-05-01"])
    with duckdb.connect() as connection:
        for number, view in enumerate(views):
            connection.execute(f"ATTACH '{view}' AS view_{number} (READ_ONLY)")
        for table in TIMES:
            for earlier, later, day in ((0, 1, days[0]), (1, 2, days[1])):
                known = f"SELECT * FROM view_{later}.{table} WHERE recorded_at < DATE '{day}' + INTERVAL 1 DAY"
                here = f"SELECT * FROM view_{earlier}.{table}"
                gone, new = (
                    connection.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchall()[0][0]
                    for one, other in ((here, known), (known, here))
                )
                assert (table, gone, new) == (table, 0, 0)
        rows = [
            connection.execute(f"SELECT count(*) FROM view_{number}.logins").fetchall()[0][0] for number in range(3)
        ]
    assert rows == sorted(set(rows))


def test_two_worlds_are_the_same_until_prices_rise(tmp_path: Path) -> None:
    twins = [tmp_path / "quiet.duckdb", tmp_path / "risen.duckdb"]
    for twin, inject in zip(twins, ([], ["price_rise@2026-05-01"]), strict=True):
        simulate(twin, customers=800, days=365, end=END, inject=inject)
    with duckdb.connect() as connection:
        for name, twin in zip(("quiet", "risen"), twins, strict=True):
            connection.execute(f"ATTACH '{twin}' AS {name} (READ_ONLY)")
        charge = (
            "SELECT round(avg(monthly_charge / (1 - discount)), 2) FROM {}.subscriptions "
            "WHERE billed_at {} TIMESTAMP '2026-05-01'"
        )
        before = [connection.execute(charge.format(name, "<")).fetchall() for name in ("quiet", "risen")]
        after = [connection.execute(charge.format(name, ">=")).fetchall()[0][0] for name in ("quiet", "risen")]
    assert before[0] == before[1]
    assert after[1] > 1.1 * after[0]


def test_prices_rise_by_the_share_that_is_given(tmp_path: Path) -> None:
    simulate(tmp_path / "risen.duckdb", customers=200, days=400, end=END, inject=["price_rise@2026-05-01=0.4"])
    with duckdb.connect(str(tmp_path / "risen.duckdb"), read_only=True) as connection:
        highest = "SELECT max(monthly_charge) FROM subscriptions WHERE billed_at {} TIMESTAMP '2026-05-01'"
        before, after = (connection.execute(highest.format(sign)).fetchall()[0][0] for sign in ("<", ">="))
    assert after == pytest.approx(1.4 * before, rel=0.001)


@pytest.mark.parametrize(
    ("until", "inject", "refused"),
    [
        (date(2026, 7, 1), [], "until must be from 2024-10-28 to 2026-06-30"),
        (None, ["outage@2026-05-01"], "only price_rise can have a day"),
        (None, ["price_rise@May"], "its day must be like"),
        (None, ["price_rise@2026-05-01=much"], "with the share by which prices rise"),
        (None, ["price_rise@2026-05-01=-0.1"], "by a share above 0, up to 1, not by -0.1"),
        (None, ["price_rise@2026-05-01=nan"], "by a share above 0, up to 1, not by nan"),
    ],
)
def test_a_day_that_cannot_be_is_refused(tmp_path: Path, until: date | None, inject: list[str], refused: str) -> None:
    with pytest.raises(ValueError, match=refused):
        simulate(tmp_path / "business.duckdb", customers=10, days=DAYS, end=END, until=until, inject=inject)
    assert list(tmp_path.iterdir()) == []
