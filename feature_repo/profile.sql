SELECT customer_id, age_band, gender, region
FROM customers
ANTI JOIN cancellations USING (customer_id)
