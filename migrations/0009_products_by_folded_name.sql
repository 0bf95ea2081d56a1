-- no-transaction
-- Products by the beginning of their name, without regard to case in any language, whatever the locale of the database.
-- `crates/store/src/folded.rs` has the same expression, and says what it does. products_by_name, which folds as the
-- database's locale does, stays for programs of the release before.
CREATE INDEX CONCURRENTLY IF NOT EXISTS products_by_folded_name ON products (
    normalize(replace(replace(replace(
        lower(upper(name COLLATE "und-x-icu")), 'ß', 'ss'), 'ς', 'σ'), E'i\u0307', 'i'), NFC) text_pattern_ops,
    id
) WHERE retired_at IS NULL;
