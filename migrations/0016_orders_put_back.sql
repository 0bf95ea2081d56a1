-- An order in `completed_orders` that a statement makes something else than completed moves to `orders`, where dead letters
-- are looked for, and orders that are to be done again. Holdfast has no such statement; people with psql may have one.

CREATE FUNCTION move_order_put_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH put_back AS (
        DELETE FROM completed_orders WHERE id = NEW.id RETURNING *
    )
    INSERT INTO orders OVERRIDING SYSTEM VALUE SELECT * FROM put_back;
    RETURN NULL;
END $$;

CREATE TRIGGER orders_put_back_move
    AFTER UPDATE ON completed_orders FOR EACH ROW
    WHEN (NEW.status <> 'completed')
    EXECUTE FUNCTION move_order_put_back();
