-- What the archive command has taken out of the tables. Only expands: the binaries of the version before
-- serve beside it.

-- By which the files of this database are told from those of another in the same folder. One row.
CREATE TABLE archive_identity (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO archive_identity DEFAULT VALUES;

-- Each file, written in the transaction that deletes what stands in it: a file that is named here is
-- the only place of its orders, and the orders of any other are still in the tables.
CREATE TABLE archive_files (
    name       text        NOT NULL PRIMARY KEY,
    orders     bigint      NOT NULL CHECK (orders > 0),
    -- Of those, completed; the others were cancelled.
    completed  bigint      NOT NULL CHECK (completed BETWEEN 0 AND orders),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Units that archived orders have, so that the sums over a product still add up.
CREATE TABLE archived_units (
    product_id bigint NOT NULL PRIMARY KEY,
    units      bigint NOT NULL CHECK (units > 0)
);

-- A hold that was used goes with its order.
CREATE INDEX holds_by_order ON holds (order_id) WHERE order_id IS NOT NULL;
