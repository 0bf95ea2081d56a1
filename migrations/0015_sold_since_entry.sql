-- The stock ledger gets at most one entry a second for the sales of a product, instead of one for each batch: with many
-- products, a batch has one order of each. Only expands: the binaries of the version before serve beside it.
--
-- Units that are sold without an entry are counted in the product's row. The next entry includes them. So each entry
-- still follows from the one before, and the last one from the row: stock_after = stock + sold_since_entry.

ALTER TABLE products
    -- Units sold since the last entry, by orders alone. The product is in no flash sale meanwhile.
    ADD COLUMN sold_since_entry bigint NOT NULL DEFAULT 0,
    -- When a batch has written the last entry. NULL: never.
    ADD COLUMN entered_at timestamptz,
    ADD CONSTRAINT products_sold_since_entry_check CHECK (sold_since_entry >= 0) NOT VALID;

-- Writes the entry of those units before any other change of the product's stock, holds or sales. The statement that
-- writes a batch does so itself; all others, and the binaries of the version before, do not. Fires before the trigger
-- that writes the entry of a change with SQL.
CREATE FUNCTION enter_sold_units() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after, sold, created_at)
    VALUES (OLD.id, OLD.version, 'admission', -OLD.sold_since_entry, OLD.stock, OLD.held, OLD.sold_since_entry,
        OLD.updated_at);
    UPDATE products SET sold_since_entry = 0 WHERE id = OLD.id;
    RETURN NULL;
END $$;

CREATE TRIGGER enter_sold_units_first
    AFTER UPDATE ON products FOR EACH ROW
    WHEN (OLD.sold_since_entry <> 0
        AND NEW.sold_since_entry = OLD.sold_since_entry
        AND (NEW.stock <> OLD.stock OR NEW.held <> OLD.held OR NEW.sales IS DISTINCT FROM OLD.sales))
    EXECUTE FUNCTION enter_sold_units();
