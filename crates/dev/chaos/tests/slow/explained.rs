//! Reads from the server's log what PostgreSQL's `auto_explain` reports about each statement.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use holdfast_sandbox::Postgres;
use serde_json::Value;

/// Enables `auto_explain` for new sessions of this database.
pub const EXPLAIN: &str = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I \
        SET session_preload_libraries = ''auto_explain''', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_analyze = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_buffers = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_timing = off', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_nested_statements = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = ''json''', current_database()); \
    END $$";

/// A statement.
#[derive(Debug)]
pub struct Explained {
    pub text: String,
    /// The number of accesses to pages of tables and indexes, in memory or on disk.
    pub buffers: u64,
    /// The number of rows that the steps of its plan read, including those that were then filtered out.
    pub rows: u64,
    /// The number of rows that it returned.
    pub returned: u64,
    /// The tables that it read or wrote.
    pub tables: BTreeSet<String>,
}

fn number(node: &Value, name: &str) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    node[name].as_f64().map_or(0, |number| number as u64)
}

fn children(node: &Value) -> &[Value] {
    node["Plans"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn nodes(node: &Value) -> Vec<&Value> {
    std::iter::once(node).chain(children(node).iter().flat_map(nodes)).collect()
}

fn buffers(node: &Value) -> u64 {
    number(node, "Shared Hit Blocks") + number(node, "Shared Read Blocks")
}

impl Explained {
    fn read(explained: &Value) -> Self {
        let plan = &explained["Plan"];
        let nodes = nodes(plan);
        // The pages of a node include those of the nodes below it. But a `WITH` that writes and is not referenced runs
        // at the end, and its pages are not included in another node.
        let read_from: BTreeSet<_> =
            nodes.iter().filter_map(|it| it["CTE Name"].as_str()).collect();
        let unread = nodes.iter().filter(|node| {
            node["Subplan Name"].as_str().is_some_and(|name| {
                name.strip_prefix("CTE ").is_some_and(|name| !read_from.contains(name))
            })
        });
        let rows = |node: &&Value| {
            let all = number(node, "Actual Rows") + number(node, "Rows Removed by Filter");
            all * number(node, "Actual Loops")
        };
        Self {
            text: explained["Query Text"].as_str().unwrap().to_owned(),
            buffers: buffers(plan) + unread.map(|node| buffers(node)).sum::<u64>(),
            rows: nodes.iter().map(rows).sum(),
            returned: number(plan, "Actual Rows"),
            tables: nodes
                .iter()
                .filter_map(|node| node["Relation Name"].as_str().map(ToOwned::to_owned))
                .collect(),
        }
    }
}

/// The position in the log, from which statements are read.
#[derive(Debug)]
pub struct Since(u64);

impl Since {
    /// The current end of the log.
    pub fn now(postgres: &Postgres) -> Self {
        Self(std::fs::metadata(postgres.log_path()).unwrap().len())
    }

    /// The statements since then.
    pub fn read(&self, postgres: &Postgres) -> Vec<Explained> {
        let mut log = File::open(postgres.log_path()).unwrap();
        log.seek(SeekFrom::Start(self.0)).unwrap();
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        let mut found = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if !line.ends_with("plan:") {
                continue;
            }
            // The continuation lines of an entry begin with a tab.
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json += line;
            }
            found.push(Explained::read(&serde_json::from_str(&json).unwrap()));
        }
        found
    }
}
