//! Released migrations that take long on a large table, although they run in one transaction.
//!
//! If the table has rows, the slow part runs before the migration, in steps, while programs write. The migration
//! then skips that part. The file of the migration, and so its checksum, stays as it was released. A step that has
//! already been done does nothing, so an interrupted migration can continue.

/// The part of a migration that is about one table.
pub(super) struct InSteps {
    pub version: i64,
    pub table: &'static str,
    pub steps: &'static [MigrationStep],
    /// What the migration skips in addition to the texts of the steps.
    pub left_out: &'static [MigrationPart],
}

/// The words with which a part of a migration's text begins, and those with which it ends.
pub(super) type MigrationPart = (&'static str, &'static str);

pub(super) enum MigrationStep {
    /// Changes the table without reading its rows, unless this query says that it has been done.
    Change { unless: &'static str, sql: &'static str },
    /// Executes parts of the migration that read no rows, unless this query says that it has been done.
    Parts { unless: &'static str, parts: &'static [MigrationPart] },
    /// Validates a constraint. No other session waits behind it.
    Validate { constraint: &'static str },
    /// Builds an index concurrently instead of in the migration: its name, and the rest of its definition.
    Index { name: &'static str, on: &'static str },
    /// Writes the opening entries of products into the stock ledger, for a limited number of products at a time.
    OpeningEntries,
}

pub(super) const IN_STEPS: [InSteps; 3] = [
    InSteps {
        version: 2,
        table: "products",
        steps: &[
            MigrationStep::Change {
                unless: r"SELECT EXISTS (
                    SELECT FROM pg_attribute
                    WHERE attrelid = 'products'::regclass AND attname = 'held'
                )",
                sql: r"ALTER TABLE products
                    ADD COLUMN held bigint NOT NULL DEFAULT 0,
                    ADD CONSTRAINT products_held_check CHECK (held >= 0) NOT VALID",
            },
            // From here on, each change of stock has its entry, including changes by the previous release.
            MigrationStep::Parts {
                unless: "SELECT to_regclass('stock_ledger') IS NOT NULL",
                parts: &[
                    ("CREATE TABLE stock_ledger (", "PRIMARY KEY (product_id, version)\n);"),
                    ("CREATE FUNCTION keep_stock_ledger()", "END $$;"),
                    (
                        "CREATE TRIGGER stock_ledger_of_new_products",
                        "EXECUTE FUNCTION keep_stock_ledger();",
                    ),
                    (
                        "CREATE TRIGGER stock_ledger_of_others",
                        "EXECUTE FUNCTION keep_stock_ledger();",
                    ),
                ],
            },
            MigrationStep::OpeningEntries,
            MigrationStep::Validate { constraint: "products_held_check" },
            MigrationStep::Index {
                name: "products_by_name",
                on: "products (lower(name) text_pattern_ops, id) WHERE retired_at IS NULL",
            },
            MigrationStep::Index {
                name: "products_on_sale",
                on: "products (id) WHERE retired_at IS NULL",
            },
        ],
        left_out: &[
            ("ALTER TABLE products", "CHECK (held >= 0);"),
            (
                "INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after)\nSELECT",
                "FROM products;",
            ),
        ],
    },
    InSteps {
        version: 2,
        table: "orders",
        steps: &[
            MigrationStep::Change {
                unless: r"SELECT EXISTS (
                    SELECT FROM pg_attribute
                    WHERE attrelid = 'orders'::regclass AND attname = 'line_count'
                )",
                sql: r"ALTER TABLE orders
                    ADD COLUMN line_count smallint NOT NULL DEFAULT 1,
                    ADD COLUMN customer_ref text,
                    ADD COLUMN metadata jsonb,
                    ADD COLUMN earlier jsonb,
                    ADD CONSTRAINT orders_line_count_check CHECK (line_count >= 1) NOT VALID,
                    ADD CONSTRAINT orders_customer_ref_check
                        CHECK (char_length(customer_ref) BETWEEN 1 AND 200) NOT VALID",
            },
            MigrationStep::Validate { constraint: "orders_line_count_check" },
            MigrationStep::Validate { constraint: "orders_customer_ref_check" },
            MigrationStep::Index {
                name: "orders_by_status",
                on: "orders (status, created_at, id)",
            },
            MigrationStep::Index {
                name: "orders_by_customer",
                on: "orders (customer_ref, id DESC) WHERE customer_ref IS NOT NULL",
            },
        ],
        left_out: &[("ALTER TABLE orders", "ADD COLUMN earlier      jsonb;")],
    },
    InSteps {
        version: 5,
        table: "holds",
        steps: &[MigrationStep::Index {
            name: "holds_by_order",
            on: "holds (order_id) WHERE order_id IS NOT NULL",
        }],
        left_out: &[],
    },
];

impl InSteps {
    /// The migration's text without what the steps have done.
    pub fn rest(&self, text: &str) -> String {
        let mut rest = text.to_owned();
        for part in self.left_out.iter().chain(self.steps.iter().flat_map(MigrationStep::parts)) {
            rest = without(&rest, part);
        }
        for step in self.steps {
            if let MigrationStep::Index { name, on } = step {
                rest = rest.replace(&format!("CREATE INDEX {name} ON {on};"), "");
            }
        }
        rest
    }
}

impl MigrationStep {
    fn parts(&self) -> &'static [MigrationPart] {
        match self {
            Self::Parts { parts, .. } => parts,
            _ => &[],
        }
    }
}

/// The part of the text between these words, including them.
pub(super) fn part<'t>(text: &'t str, (first, last): &MigrationPart) -> Option<&'t str> {
    let begin = text.find(first)?;
    let end = begin + text[begin..].find(last)? + last.len();
    text.get(begin..end)
}

fn without(text: &str, words: &MigrationPart) -> String {
    part(text, words).map_or_else(|| text.to_owned(), |part| text.replacen(part, "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: i64) -> &'static str {
        match version {
            2 => include_str!("../../../../migrations/0002_lines_keys_holds_ledger.sql"),
            _ => include_str!("../../../../migrations/0005_archive.sql"),
        }
    }

    #[test]
    fn steps_of_a_migration_are_part_of_its_file() {
        for released in IN_STEPS {
            let text = text(released.version);
            for words in
                released.left_out.iter().chain(released.steps.iter().flat_map(MigrationStep::parts))
            {
                assert!(part(text, words).is_some(), "{words:?}");
            }
            for step in released.steps {
                if let MigrationStep::Index { name, on } = step {
                    assert!(text.contains(&format!("CREATE INDEX {name} ON {on};")), "{name}");
                    assert!(on.starts_with(released.table));
                }
            }
        }
    }

    #[test]
    fn the_rest_of_a_migration_reads_no_existing_table() {
        let mut rest = text(2).to_owned();
        for released in IN_STEPS.iter().filter(|it| it.version == 2) {
            rest = released.rest(&rest);
        }
        for reading in ["ALTER TABLE", "FROM products", "ON products", "ON orders", "INSERT"] {
            assert!(!rest.contains(reading), "{reading}: {rest}");
        }
        for made in
            ["CREATE TABLE order_lines", "CREATE TABLE holds", "DROP INDEX orders_unfinished"]
        {
            assert!(rest.contains(made), "{made}: {rest}");
        }
    }
}
