-- A change of stock by another program, which does not count the version, gets a ledger entry of its own: the one with the version that
-- the trigger `version_of_others` is about to give the product. It was added to the last entry before.

CREATE OR REPLACE FUNCTION keep_stock_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after)
    VALUES (NEW.id,
        CASE WHEN TG_OP = 'UPDATE' AND NEW.version <= OLD.version
            THEN OLD.version + 1 ELSE NEW.version END,
        CASE TG_OP WHEN 'INSERT' THEN 'opening' ELSE 'unknown' END,
        NEW.stock - CASE TG_OP WHEN 'INSERT' THEN 0 ELSE OLD.stock END, NEW.stock, NEW.held)
    ON CONFLICT (product_id, version) DO UPDATE
        SET delta = stock_ledger.delta + excluded.delta, stock_after = excluded.stock_after,
            held_after = excluded.held_after;
    RETURN NULL;
END $$;

-- The same, and `held`, which has ledger entries, too.
CREATE OR REPLACE TRIGGER version_of_others
    AFTER UPDATE OF name, description, price_minor, stock, held, retired_at, version ON products FOR EACH ROW
    WHEN (NEW.version <= OLD.version AND (
        NEW.version < OLD.version
        OR NEW.stock <> OLD.stock
        OR NEW.held <> OLD.held
        OR NEW.price_minor <> OLD.price_minor
        OR NEW.name <> OLD.name
        OR NEW.description IS DISTINCT FROM OLD.description
        OR NEW.retired_at IS DISTINCT FROM OLD.retired_at
    ))
    EXECUTE FUNCTION count_product_version();
