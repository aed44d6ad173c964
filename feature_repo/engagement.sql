-- The trend compares the last 30 days with the 30 before: 1 is all in the last, 0 no change, -1 silence since.
WITH summary AS (
    SELECT
        customer_id,
        count(*) FILTER (logged_in_at > $as_of - INTERVAL 7 DAY) AS logins_7_days,
        count(*) FILTER (logged_in_at > $as_of - INTERVAL 30 DAY) AS logins_30_days,
        count(*) FILTER (logged_in_at > $as_of - INTERVAL 60 DAY) AS logins_60_days,
        count(DISTINCT logged_in_at::DATE) FILTER (logged_in_at > $as_of - INTERVAL 30 DAY) AS active_days_30_days,
        avg(session_minutes) FILTER (logged_in_at > $as_of - INTERVAL 30 DAY) AS session_minutes_30_days,
        max(logged_in_at) AS last_login_at
    FROM logins
    GROUP BY customer_id
)
SELECT
    customers.customer_id,
    coalesce(logins_7_days, 0) AS logins_7_days,
    coalesce(logins_30_days, 0) AS logins_30_days,
    2 * logins_30_days / nullif(logins_60_days, 0) - 1 AS login_trend,
    coalesce(active_days_30_days, 0) AS active_days_30_days,
    session_minutes_30_days,
    last_login_at
FROM customers
ANTI JOIN cancellations USING (customer_id)
LEFT JOIN summary USING (customer_id)
