-- Frequency is purchases in 30 days, over the last 90.
WITH summary AS (
    SELECT
        customer_id,
        count(*) AS total_purchases,
        sum(amount) AS total_spent,
        count(*) FILTER (purchased_at > $as_of - INTERVAL 90 DAY) / 3 AS purchase_frequency,
        avg(amount) AS average_purchase,
        max(purchased_at) AS last_purchase_at
    FROM purchases
    GROUP BY customer_id
)
SELECT
    customers.customer_id,
    coalesce(total_purchases, 0) AS total_purchases,
    coalesce(total_spent, 0) AS total_spent,
    coalesce(purchase_frequency, 0) AS purchase_frequency,
    average_purchase,
    last_purchase_at
FROM customers
ANTI JOIN cancellations USING (customer_id)
LEFT JOIN summary USING (customer_id)
