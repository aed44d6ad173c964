"""One flat table of the simulated business: a row for each customer of a day, and whether they left within 30 days."""

from __future__ import annotations

import os
import tempfile
from datetime import date, timedelta
from pathlib import Path

import duckdb

from kfp_lifecycle.simulation.business import simulate
from kfp_lifecycle.simulation.market import HORIZON_DAYS

# What a spreadsheet that somebody exported would hold: no times, and all that was known at the end of that day.
TABLE = """
WITH recent AS (
    SELECT customer_id, arg_max(plan, billed_at) AS plan, arg_max(monthly_charge, billed_at) AS monthly_charge,
        arg_max(payment_method, billed_at) AS payment_method,
        count(*) FILTER (payment_status = 'failed' AND billed_at > $day - INTERVAL 120 DAY) AS failed_payments
    FROM subscriptions WHERE billed_at < $day GROUP BY customer_id
),
use AS (
    SELECT customer_id, count(*) FILTER (logged_in_at > $day - INTERVAL 30 DAY) AS logins_30_days,
        date_diff('day', max(logged_in_at), $day) AS days_since_login
    FROM logins WHERE logged_in_at < $day GROUP BY customer_id
),
bought AS (
    SELECT customer_id, count(*) AS purchases, round(sum(amount), 2) AS spent
    FROM purchases WHERE purchased_at < $day AND purchased_at > $day - INTERVAL 90 DAY GROUP BY customer_id
),
asked AS (
    SELECT customer_id, count(*) AS support_tickets, min(satisfaction) AS worst_satisfaction
    FROM support_tickets WHERE opened_at < $day AND opened_at > $day - INTERVAL 90 DAY GROUP BY customer_id
)
SELECT customer_id, age_band, gender, region, channel, date_diff('day', signed_up_at, $day) AS days_as_customer,
    plan, monthly_charge, payment_method, coalesce(failed_payments, 0) AS failed_payments,
    coalesce(logins_30_days, 0) AS logins_30_days, days_since_login,
    coalesce(purchases, 0) AS purchases_90_days, coalesce(spent, 0) AS spent_90_days,
    coalesce(support_tickets, 0) AS support_tickets_90_days, worst_satisfaction,
    CASE WHEN cancelled_at < $day + INTERVAL {horizon} DAY THEN 'yes' ELSE 'no' END AS churned
FROM customers
LEFT JOIN cancellations USING (customer_id)
LEFT JOIN recent USING (customer_id)
LEFT JOIN use USING (customer_id)
LEFT JOIN bought USING (customer_id)
LEFT JOIN asked USING (customer_id)
WHERE signed_up_at < $day AND (cancelled_at IS NULL OR cancelled_at >= $day)
ORDER BY customer_id
"""


def write_one_table(output: Path, *, customers: int = 10_000, days: int = 1095, seed: int = 7, end: date) -> int:
    """Simulate the business, and write its customers of 30 days before the end as one CSV file.

    The same arguments give the same bytes. The file appears when it is complete.

    Args:
        output: The file. Missing folders are made.
        customers, days, seed, end: As for `simulate`.

    Returns:
        The number of rows.

    Raises:
        ValueError: as `simulate`.
        OSError: the folder cannot be made or written to.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    day = end - timedelta(days=HORIZON_DAYS - 1)
    with tempfile.TemporaryDirectory() as folder:
        business = Path(folder) / "business.duckdb"
        simulate(business, customers=customers, days=days, seed=seed, end=end)
        with duckdb.connect(str(business), read_only=True) as connection:
            query = TABLE.format(horizon=HORIZON_DAYS).replace("$day", f"TIMESTAMP '{day}'")
            try:
                target = str(partial).replace("'", "''")
                written = connection.execute(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER)").fetchone()
                partial.replace(output)
            finally:
                partial.unlink(missing_ok=True)
    assert written is not None
    return int(written[0])
