"""What can be injected into the simulated business: each does what it says, and only that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kfp_lifecycle.simulation.business import INJECTIONS, simulate
from kfp_lifecycle.simulation.database import TABLES

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    """Makes the business with an injection, or with none."""
    folder = tmp_path_factory.mktemp("injected")

    def make(name: str | None) -> Path:
        file = folder / f"{name or 'business'}.duckdb"
        if not file.exists():
            simulate(file, customers=CUSTOMERS, days=DAYS, end=END, inject=[name] if name else [])
        return file

    return make


@pytest.fixture
def compare(injected: Callable[[str | None], Path]) -> Iterator[Callable[[str, str], list[Any]]]:
    """Ask about `good` and `bad`, the business without and with an injection."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{injected(None)}' AS good (READ_ONLY)")

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
    compare: Callable[[str, str], list[Any]], injected: Callable[[str | None], Path]
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
