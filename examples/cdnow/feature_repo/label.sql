-- Everyone who had bought by $snapshot, and whether nothing followed by $horizon.
SELECT
    customer_id,
    (count(*) FILTER (purchased_at > $snapshot AND purchased_at <= $horizon) = 0)::INTEGER AS lapsed
FROM purchases
GROUP BY customer_id
HAVING min(purchased_at) <= $snapshot
