-- A product that another program changes with SQL gets a new version even if that program does not count it: caches
-- compare nothing but versions. Holdfast's own statements count it themselves, and cost one more comparison.

CREATE FUNCTION count_product_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('UPDATE %s SET version = $1 WHERE id = $2', TG_RELID::regclass)
        USING greatest(OLD.version, NEW.version) + 1, NEW.id;
    RETURN NULL;
END $$;

-- After the update: a trigger before it would lock each row once more, in every batch.
CREATE TRIGGER version_of_others
    AFTER UPDATE OF name, description, price_minor, stock, retired_at, version ON products FOR EACH ROW
    WHEN (NEW.version <= OLD.version AND (
        NEW.version < OLD.version
        OR NEW.stock <> OLD.stock
        OR NEW.price_minor <> OLD.price_minor
        OR NEW.name <> OLD.name
        OR NEW.description IS DISTINCT FROM OLD.description
        OR NEW.retired_at IS DISTINCT FROM OLD.retired_at
    ))
    EXECUTE FUNCTION count_product_version();

COMMENT ON COLUMN products.version IS
    'Greater after each change of what is shown of the product; caches are fenced by it. Counted for programs that do not count it.';
