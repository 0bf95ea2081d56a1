-- Orders that are not finished have a table of their own, and so do those that were completed. Only expands: the binaries
-- of the version before serve beside it.
--
-- An order is inserted into the first when it is accepted, claimed there, and moved into the second when it is completed:
-- one row, written once into the indexes of the large table. `orders` is the parent: what reads, locks, updates or
-- deletes `orders` reaches all three, so the binaries of the version before work on all orders. Theirs are inserted into
-- `orders` and stay there. Orders that have failed or were cancelled go there, too.

CREATE TABLE unfinished_orders (PRIMARY KEY (id)) INHERITS (orders) WITH (
    -- Room on the page for the claim of each of its orders: no index has a column that a claim changes, so it is HOT.
    fillfactor = 45,
    -- Each order leaves a dead row behind. Its place is needed again soon.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 1000000,
    autovacuum_vacuum_cost_delay = 0,
    -- The end of the table is needed again, too, and cutting it off locks out all others.
    vacuum_truncate = off
);

COMMENT ON TABLE unfinished_orders IS
    'Orders that are pending or processing. Part of `orders`.';

-- As those of `orders`, but by age instead of status, which changes with each claim. Orders of one batch have one age,
-- so they share an entry.
CREATE INDEX unfinished_orders_by_product ON unfinished_orders (product_id, id DESC);
CREATE INDEX unfinished_orders_by_customer ON unfinished_orders (customer_ref, id DESC) WHERE customer_ref IS NOT NULL;
CREATE INDEX unfinished_orders_by_age ON unfinished_orders (created_at);

CREATE TABLE completed_orders (PRIMARY KEY (id)) INHERITS (orders);

COMMENT ON TABLE completed_orders IS
    'Orders that were completed. Part of `orders`, which itself has those that have failed or were cancelled, and those of schema version 13 and before.';

CREATE INDEX completed_orders_by_product ON completed_orders (product_id, id DESC);
CREATE INDEX completed_orders_by_customer ON completed_orders (customer_ref, id DESC) WHERE customer_ref IS NOT NULL;
CREATE INDEX completed_orders_by_age ON completed_orders (created_at);

-- Moves an order that a statement has ended in its place. The statement that writes the outcomes of claims moves them
-- itself; cancellations, and the binaries of the version before, do not.
CREATE FUNCTION move_ended_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH ended AS (
        DELETE FROM unfinished_orders WHERE id = NEW.id RETURNING *
    ), completed AS (
        INSERT INTO completed_orders SELECT * FROM ended WHERE status = 'completed'
    )
    INSERT INTO orders OVERRIDING SYSTEM VALUE SELECT * FROM ended WHERE status <> 'completed';
    RETURN NULL;
END $$;

CREATE TRIGGER ended_orders_move
    AFTER UPDATE ON unfinished_orders FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled'))
    EXECUTE FUNCTION move_ended_order();
