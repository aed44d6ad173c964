-- Bills come every 30 days. The increase compares the newest with the oldest of the last four, so that a rise stays
-- visible for three months.
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY billed_at DESC, subscription_id DESC) AS age
    FROM subscriptions
    WHERE billed_at > $as_of - INTERVAL 125 DAY
),
summary AS (
    SELECT
        customer_id,
        max(plan) FILTER (age = 1) AS plan,
        max(payment_method) FILTER (age = 1) AS payment_method,
        max(monthly_charge) FILTER (age = 1) AS monthly_charge,
        max(discount) FILTER (age = 1) AS discount,
        max(monthly_charge) FILTER (age = 1) / arg_max(monthly_charge, age) FILTER (age <= 4) - 1 AS charge_increase,
        max(discount) FILTER (age <= 4) - max(discount) FILTER (age = 1) AS discount_lost,
        count(*) FILTER (age <= 4 AND payment_status = 'failed') AS failed_payments,
        count(*) FILTER (age = 1 AND payment_status = 'failed') AS last_payment_failed,
        max(billed_at) AS last_billed_at
    FROM numbered
    GROUP BY customer_id
)
SELECT customers.customer_id, summary.* EXCLUDE (customer_id)
FROM customers
ANTI JOIN cancellations USING (customer_id)
LEFT JOIN summary USING (customer_id)
