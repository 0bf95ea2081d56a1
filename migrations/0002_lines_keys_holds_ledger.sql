-- Orders of several lines, idempotency keys, stock holds, and the ledger of stock.
-- Only expands: the binaries of the version before serve beside it.

ALTER TABLE products
    -- Units in active holds. They are not in `stock` any more and not sold yet.
    ADD COLUMN held bigint NOT NULL DEFAULT 0 CHECK (held >= 0);

-- `GET /products` by the beginning of a name, whatever the database's collation.
CREATE INDEX products_by_name ON products (lower(name) text_pattern_ops, id) WHERE retired_at IS NULL;
-- `GET /products`, however many were taken out of the shop.
CREATE INDEX products_on_sale ON products (id) WHERE retired_at IS NULL;

ALTER TABLE orders
    -- An order's first line stands in its own row, because nearly every order has just one; the
    -- second and further ones are in `order_lines`.
    ADD COLUMN line_count   smallint NOT NULL DEFAULT 1 CHECK (line_count >= 1),
    -- The shop's own name for the customer.
    ADD COLUMN customer_ref text CHECK (char_length(customer_ref) BETWEEN 1 AND 200),
    -- Whatever the shop wants to keep with the order.
    ADD COLUMN metadata     jsonb,
    -- What happened before the present status and is not told by the times above: retries, leases
    -- that ran out, replays and the like, as [{"status", "at", "detail"?, "by"?}, …], the oldest
    -- first. Empty for an order that went straight through.
    ADD COLUMN earlier      jsonb;

CREATE TABLE order_lines (
    -- No foreign keys, for the reason given at orders.product_id.
    order_id         bigint   NOT NULL,
    -- From 2; line 1 is in `orders`.
    line             smallint NOT NULL CHECK (line >= 2),
    product_id       bigint   NOT NULL,
    quantity         integer  NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint   NOT NULL CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, line)
);
CREATE INDEX order_lines_by_product ON order_lines (product_id, order_id DESC);

-- One index serves the sweeper, which wants the oldest of a status, and the lists, which want the
-- newest.
CREATE INDEX orders_by_status ON orders (status, created_at, id);
DROP INDEX orders_unfinished;
CREATE INDEX orders_by_customer ON orders (customer_ref, id DESC) WHERE customer_ref IS NOT NULL;

-- Which request has led to which result. Written in the transaction of the result.
CREATE TABLE idempotency_keys (
    -- The first half of the SHA-256 of the caller's scope and the key: keys may be long, and a row here is
    -- written for each order.
    key         uuid        NOT NULL PRIMARY KEY,
    -- The beginning of the SHA-256 of the request.
    fingerprint bigint      NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('order', 'hold', 'adjustment')),
    -- The order's id, the hold's, or the version that the product got.
    result_id   bigint      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
-- For the purge, which takes the oldest.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Units kept for a customer for a while. What ends a hold is `expires_at` and nothing else; a
-- sweep only tidies up.
CREATE TABLE holds (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id       bigint      NOT NULL,
    quantity         integer     NOT NULL CHECK (quantity > 0),
    -- The price at which the units are kept.
    unit_price_minor bigint      NOT NULL CHECK (unit_price_minor >= 0),
    status           text        NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'used', 'released', 'expired')),
    customer_ref     text        CHECK (char_length(customer_ref) BETWEEN 1 AND 200),
    expires_at       timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    -- The order that used it.
    order_id         bigint
);
CREATE INDEX holds_active ON holds (product_id, expires_at) WHERE status = 'active';
CREATE INDEX holds_expiring ON holds (expires_at) WHERE status = 'active';
CREATE INDEX holds_by_product ON holds (product_id, id DESC);
CREATE INDEX holds_by_status ON holds (status, id DESC);
CREATE INDEX holds_by_customer ON holds (customer_ref, id DESC) WHERE customer_ref IS NOT NULL;

-- Every change of a product's stock, one row for each version of the product that changed it. Each row
-- follows from the one before: stock_after = the former stock_after + delta.
CREATE TABLE stock_ledger (
    product_id  bigint      NOT NULL,
    version     bigint      NOT NULL,
    reason      text        NOT NULL
        CHECK (reason IN ('opening', 'set', 'adjustment', 'admission', 'unknown')),
    delta       bigint      NOT NULL,
    stock_after bigint      NOT NULL CHECK (stock_after >= 0),
    held_after  bigint      NOT NULL CHECK (held_after >= 0),
    -- With 'admission', which is a batch of orders, cancellations and holds: the units of each.
    sold        bigint      NOT NULL DEFAULT 0,
    returned    bigint      NOT NULL DEFAULT 0,
    -- Taken into holds less what came back from them.
    held        bigint      NOT NULL DEFAULT 0,
    -- With 'adjustment': what the caller said.
    note        text        CHECK (char_length(note) <= 500),
    -- Random, the same for all rows of one transaction: tells whether a batch whose commit was not
    -- answered is here.
    nonce       bigint,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (product_id, version)
);

INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after)
SELECT id, version, 'opening', stock, stock, 0 FROM products;

-- Whoever changes stock without saying that it writes the ledger itself gets an entry here: the
-- binaries of the version before, and people with psql.
CREATE FUNCTION keep_stock_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A change that forgot to count the version is put together with the entry that is there.
    INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after)
    VALUES (NEW.id, NEW.version, CASE TG_OP WHEN 'INSERT' THEN 'opening' ELSE 'unknown' END,
        NEW.stock - CASE TG_OP WHEN 'INSERT' THEN 0 ELSE OLD.stock END, NEW.stock, NEW.held)
    ON CONFLICT (product_id, version) DO UPDATE
        SET delta = stock_ledger.delta + excluded.delta, stock_after = excluded.stock_after,
            held_after = excluded.held_after;
    RETURN NULL;
END $$;

CREATE TRIGGER stock_ledger_of_new_products
    AFTER INSERT ON products FOR EACH ROW
    WHEN (current_setting('holdfast.writes_ledger', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION keep_stock_ledger();
CREATE TRIGGER stock_ledger_of_others
    AFTER UPDATE OF stock, held ON products FOR EACH ROW
    WHEN ((OLD.stock <> NEW.stock OR OLD.held <> NEW.held)
        AND current_setting('holdfast.writes_ledger', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION keep_stock_ledger();
