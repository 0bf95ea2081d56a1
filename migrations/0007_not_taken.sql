-- Whether an order may have reached the one who fulfils it. Only expands: the binaries of the version before serve
-- beside it.

ALTER TABLE orders
    -- How many of its attempts were certainly not taken by the one who fulfils it: not sent, or refused.
    -- While `attempt` is greater, the order may be fulfilled, and a cancellation could sell its units twice.
    -- NULL is none; so attempts from before this column, and those of workers that do not know it, count as
    -- taken.
    ADD COLUMN not_taken integer;

COMMENT ON COLUMN orders.batch_nonce IS
    'Random, the same for all orders of one batch. With the id it names the order for ever, to receivers too. NULL in orders that a release before schema version 7 has accepted.';
