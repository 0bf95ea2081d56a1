-- Flash sales: when a product may be ordered, and how much of it one customer gets. Only expands: the
-- binaries of the version before serve beside it and sell as if there were no sale.

CREATE TABLE sales (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text        NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 320),
    starts_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL CHECK (ends_at > starts_at),
    -- The most units of one product for one customer; NULL for no limit.
    per_customer integer     CHECK (per_customer BETWEEN 1 AND 1000000),
    -- Not open at its start as long as this is true.
    held_back    boolean     NOT NULL DEFAULT false,
    -- Orders with greater ids may be of the sale, those before are not.
    after_order  bigint      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
-- Those that are not over, and the list.
CREATE INDEX sales_by_end ON sales (ends_at, id);

CREATE TABLE sale_products (
    sale_id    bigint NOT NULL REFERENCES sales ON DELETE CASCADE,
    product_id bigint NOT NULL,
    -- The report's sum, and up to where in the product's ledger it goes.
    sold       bigint NOT NULL DEFAULT 0,
    summed_to  bigint NOT NULL,
    PRIMARY KEY (sale_id, product_id)
);
CREATE INDEX sale_products_by_product ON sale_products (product_id);

-- What a replica has seen of a product in a sale within a second, for the report.
CREATE TABLE sale_seconds (
    product_id bigint      NOT NULL,
    second     timestamptz NOT NULL,
    replica    uuid        NOT NULL,
    accepted   bigint      NOT NULL,
    -- {"reason": count}
    refused    jsonb       NOT NULL,
    -- How many waits for the lock took less than 2^n microseconds, by n from 1.
    lock_waits bigint[]    NOT NULL,
    PRIMARY KEY (product_id, second, replica)
);
CREATE INDEX sale_seconds_by_age ON sale_seconds (second);

-- A product's sales, on its own row: whoever has the row locked knows them for sure, and a product
-- without any costs nothing. Written with the tables above, in one transaction, by nobody else.
ALTER TABLE products ADD COLUMN sales jsonb;
