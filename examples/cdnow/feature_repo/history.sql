-- The file knows the day of a purchase, not the hour, so a day counts once; without a second day there is no rhythm.
SELECT
    customer_id,
    count(DISTINCT purchased_at) AS purchase_days,
    sum(quantity) AS total_quantity,
    sum(amount) AS total_amount,
    avg(amount) AS average_amount,
    arg_max(amount, purchase_id) AS last_amount,
    date_diff('day', min(purchased_at), max(purchased_at)) / nullif(count(DISTINCT purchased_at) - 1, 0)
        AS days_between_purchases,
    min(purchased_at) AS first_purchase_at,
    max(purchased_at) AS last_purchase_at
FROM purchases
GROUP BY customer_id
