-- Active customers, as known at $as_of: every view starts from them, so that each has a row for each.
SELECT customer_id, channel, signed_up_at
FROM customers
ANTI JOIN cancellations USING (customer_id)
