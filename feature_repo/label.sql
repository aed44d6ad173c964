-- Who was a customer at $snapshot and known to be one, and whether they left by $horizon. `best_possible` is the
-- simulation's own probability of that: no model can rank better than by it.
SELECT
    customers.customer_id,
    (cancelled_at IS NOT NULL AND cancelled_at <= $horizon)::INTEGER AS churned,
    truth.probability AS best_possible
FROM customers
LEFT JOIN cancellations USING (customer_id)
LEFT JOIN truth ON truth.customer_id = customers.customer_id AND truth.day = $snapshot::DATE
WHERE customers.signed_up_at <= $snapshot
  AND customers.recorded_at <= $snapshot
  AND (cancelled_at IS NULL OR cancelled_at > $snapshot)
