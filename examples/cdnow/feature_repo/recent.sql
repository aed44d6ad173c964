SELECT
    customer_id,
    count(*) FILTER (purchased_at > $as_of - INTERVAL 30 DAY) AS purchases_30_days,
    count(*) FILTER (purchased_at > $as_of - INTERVAL 90 DAY) AS purchases_90_days,
    count(*) FILTER (purchased_at > $as_of - INTERVAL 180 DAY) AS purchases_180_days,
    coalesce(sum(amount) FILTER (purchased_at > $as_of - INTERVAL 90 DAY), 0) AS amount_90_days
FROM purchases
GROUP BY customer_id
