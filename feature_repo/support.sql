-- A ticket is known when it is closed or given up, so one that is still open is not counted yet.
WITH summary AS (
    SELECT
        customer_id,
        count(*) AS support_tickets,
        count(*) FILTER (category = 'billing') AS billing_tickets,
        count(*) FILTER (resolved_at IS NULL) AS unsolved_tickets,
        min(satisfaction) AS worst_satisfaction
    FROM support_tickets
    WHERE opened_at > $as_of - INTERVAL 90 DAY
    GROUP BY customer_id
)
SELECT
    customers.customer_id,
    coalesce(support_tickets, 0) AS support_tickets,
    coalesce(billing_tickets, 0) AS billing_tickets,
    coalesce(unsolved_tickets, 0) AS unsolved_tickets,
    worst_satisfaction
FROM customers
ANTI JOIN cancellations USING (customer_id)
LEFT JOIN summary USING (customer_id)
