//! The rules for new migrations, which prevent them from blocking other sessions.

use super::FOLDER;

/// Migrations that were released before the rules, and cannot be changed. `src/migrate/released.rs` shows how they are
/// applied nevertheless.
const RELEASED: i64 = 5;

/// The violation in the text of a migration, if there is one.
#[allow(clippy::too_many_lines)] // a list of rules
fn breach(text: &str) -> Option<String> {
    let online = text.starts_with("-- no-transaction");
    let code = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join(" ");
    // The body of a function is not a statement.
    let code = code.split("$$").step_by(2).collect::<Vec<_>>().join(" ");
    let words =
        |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
    let statements: Vec<_> = code.split(';').map(words).filter(|it| !it.is_empty()).collect();
    if online {
        let index = [
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS ",
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ",
        ];
        return match &statements[..] {
            [only] if index.iter().any(|begin| only.starts_with(begin)) => None,
            _ => Some(
                "a file without a transaction builds one index concurrently, if it does not exist"
                    .to_owned(),
            ),
        };
    }
    let table_after = |statement: &str, words: &str| {
        let (_, rest) = statement.split_once(words)?;
        let rest = rest
            .trim_start_matches("IF NOT EXISTS ")
            .trim_start_matches("IF EXISTS ")
            .trim_start_matches("ONLY ");
        rest.split([' ', '(', ',']).next().map(ToOwned::to_owned)
    };
    let new: Vec<_> = statements.iter().filter_map(|it| table_after(it, "CREATE TABLE ")).collect();
    let mut locked = Vec::new();
    for statement in &statements {
        if statement.contains("CONCURRENTLY") {
            return Some(format!("concurrently, but within a transaction: {statement}"));
        }
        if statement.contains("LOCK_TIMEOUT") || statement.starts_with("LOCK ") {
            return Some(format!(
                "how long a migration waits is not its own business: {statement}"
            ));
        }
        let index =
            statement.starts_with("CREATE INDEX ") || statement.starts_with("CREATE UNIQUE INDEX ");
        if index && table_after(statement, " ON ").is_none_or(|table| !new.contains(&table)) {
            return Some(format!(
                "an index on an existing table holds up its writers: {statement}"
            ));
        }
        for long in [
            "REINDEX",
            "CLUSTER",
            "VACUUM",
            "REFRESH ",
            "DROP INDEX",
            "UPDATE ",
            "DELETE ",
            "INSERT ",
            "TRUNCATE",
        ] {
            let on_new = table_after(statement, "INTO ").is_some_and(|table| new.contains(&table));
            if statement.starts_with(long) && !on_new {
                return Some(format!(
                    "it takes long, or holds up others, in one transaction: {statement}"
                ));
            }
        }
        let Some(table) = table_after(statement, "ALTER TABLE ") else { continue };
        if new.contains(&table) {
            continue;
        }
        for scan in [
            "SET NOT NULL",
            " TYPE ",
            "PRIMARY KEY",
            " UNIQUE",
            " EXCLUDE ",
            "GENERATED",
            " STORED",
            "RANDOM(",
            "GEN_RANDOM_UUID(",
            "CLOCK_TIMESTAMP(",
            "VALIDATE CONSTRAINT",
            "ATTACH PARTITION",
        ] {
            if statement.contains(scan) {
                return Some(format!(
                    "it reads or writes the whole table under its lock: {statement}"
                ));
            }
        }
        let checks = statement.contains("ADD CONSTRAINT")
            || statement.contains("REFERENCES ")
            || statement.contains(" CHECK");
        if checks && !statement.contains("NOT VALID") {
            return Some(format!(
                "a new constraint on an existing table must be NOT VALID: {statement}"
            ));
        }
        if !locked.contains(&table) {
            locked.push(table);
        }
    }
    (locked.len() > 1).then(|| format!("it waits for one table with another locked: {locked:?}"))
}

#[test]
fn new_migrations_do_not_block_other_sessions() {
    let mut looked_at = 0;
    for file in std::fs::read_dir(FOLDER).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let version: i64 = name.split('_').next().unwrap().parse().unwrap();
        if version > RELEASED {
            assert_eq!(breach(&std::fs::read_to_string(&path).unwrap()), None, "{name}");
        }
        looked_at += 1;
    }
    assert!(looked_at >= RELEASED, "{looked_at}");
}

#[test]
fn the_rules_for_migrations_find_violations() {
    for good in [
        "ALTER TABLE orders ADD COLUMN note text;",
        "CREATE TABLE work (id bigint PRIMARY KEY CHECK (id > 0)); CREATE INDEX work_by ON work (id); INSERT INTO work DEFAULT VALUES;",
        "-- no-transaction\n-- Why.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON orders (id);",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE a SET b = 1; RETURN NULL; END $$;",
        "ALTER TABLE orders ADD CONSTRAINT a CHECK (id > 0) NOT VALID;",
    ] {
        assert_eq!(breach(good), None, "{good}");
    }
    for bad in [
        "CREATE INDEX a ON orders (id);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON orders (id);",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY a ON orders (id);",
        "-- no-transaction\nALTER TABLE orders ADD COLUMN a text;",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c); CREATE INDEX CONCURRENTLY IF NOT EXISTS d ON b (e);",
        "ALTER TABLE orders ADD COLUMN a text; ALTER TABLE products ADD COLUMN a text;",
        "ALTER TABLE orders ADD CONSTRAINT a CHECK (id > 0);",
        "ALTER TABLE orders ADD COLUMN a uuid DEFAULT gen_random_uuid();",
        "ALTER TABLE orders ADD COLUMN a bigint REFERENCES products;",
        "UPDATE orders SET status = 'pending';",
        "SET lock_timeout = 0; ALTER TABLE orders ADD COLUMN a text;",
        "LOCK TABLE orders;",
        "DROP INDEX orders_by_status;",
    ] {
        assert!(breach(bad).is_some(), "{bad}");
    }
}
