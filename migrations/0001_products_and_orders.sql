-- Products with stock, and the orders that take it.

CREATE TABLE products (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    description text        CHECK (char_length(description) <= 10000),
    -- Minor units (cents).
    price_minor bigint      NOT NULL CHECK (price_minor BETWEEN 0 AND 9999999999),
    -- The last line of defence of promise 1, under the admission lanes that keep it.
    stock       bigint      NOT NULL CHECK (stock BETWEEN 0 AND 1000000000),
    -- Grows by exactly one with each committed change, a sale included; the read cache is fenced
    -- by it.
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    -- Taken out of the shop. The row stays, for the sake of the orders that name it.
    retired_at  timestamptz
)
-- A hot row is updated hundreds of times a second: room on its page keeps those updates HOT.
WITH (fillfactor = 50);

CREATE TABLE orders (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key: its check costs a query for each row of a batch under the hot row's lock,
    -- and it could only ever fail if a product's row vanished, which the trigger below forbids.
    product_id       bigint      NOT NULL,
    quantity         integer     NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint      NOT NULL CHECK (unit_price_minor >= 0),
    status           text        NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    -- How often a worker has begun it; also the fence that keeps a late worker from writing.
    attempt          integer     NOT NULL DEFAULT 0,
    -- How many of those it gave back untried, because it was shutting down: they do not count
    -- against the order.
    handed_back      integer     NOT NULL DEFAULT 0,
    -- While it is processing: when its worker's claim ends unless it is renewed.
    lease_until      timestamptz,
    -- While it is pending: the sweeper leaves it alone until then.
    next_attempt_at  timestamptz,
    -- Why it failed, or why its last attempt did.
    failure          text,
    -- The W3C trace context of the request that placed it, if that was sampled.
    trace_context    text,
    -- Random, the same for all orders of one admission batch: tells whether a batch whose commit
    -- was not answered is here.
    batch_nonce      bigint,
    created_at       timestamptz NOT NULL DEFAULT now(),
    processing_at    timestamptz,
    finished_at      timestamptz
);

-- What the sweeper looks through: only orders that still have a way to go.
CREATE INDEX orders_unfinished ON orders (created_at) WHERE status IN ('pending', 'processing');

-- The orders of one product, newest first.
CREATE INDEX orders_by_product ON orders (product_id, id DESC);

CREATE FUNCTION refuse_to_forget_products() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'products are retired, never deleted: orders name them'
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER products_are_never_deleted
    BEFORE DELETE ON products FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget_products();
