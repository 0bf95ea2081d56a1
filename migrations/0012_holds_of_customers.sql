-- no-transaction
-- The active holds of a customer for a product, which count for the limit of a flash sale. An expression, so that no other index
-- can serve the query, whatever the planner knows of the table.
CREATE INDEX CONCURRENTLY IF NOT EXISTS holds_of_customers ON holds ((customer_ref || ' ' || product_id::text)) WHERE ended_at IS NULL;
