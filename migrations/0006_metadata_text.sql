-- Metadata as its client sent it, byte for byte: jsonb puts keys in another order, drops those that stand twice, and
-- writes a number such as 5e-324 with 300 digits. Only expands: the binaries of the version before serve beside it.
--
-- The binaries of this version write both columns and read this one first. Those of the version before write and read
-- `metadata`. The next version stops writing `metadata`.
--
-- A column without a default changes no row, and a constraint that is not validated reads none, however large the
-- table is.
ALTER TABLE orders ADD COLUMN metadata_text text;
ALTER TABLE orders ADD CONSTRAINT orders_metadata_text_check CHECK (octet_length(metadata_text) <= 4096) NOT VALID;
