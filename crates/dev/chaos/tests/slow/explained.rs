//! What PostgreSQL's `auto_explain` says in the server's log of each statement that was run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use holdfast_sandbox::Postgres;
use serde_json::Value;

/// Has each new session of this database explain what it runs.
pub const EXPLAIN: &str = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I \
        SET session_preload_libraries = ''auto_explain''', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_analyze = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_buffers = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_timing = off', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_nested_statements = on', current_database()); \
    EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = ''json''', current_database()); \
    END $$";

/// A statement that was run.
#[derive(Debug)]
pub struct Explained {
    pub text: String,
    /// Pages of tables and indexes that it touched, in memory or on the disk, as often as it did.
    pub buffers: u64,
    /// Rows that any step of its plan has come by, those included that it then left out.
    pub rows: u64,
    /// Rows that it gave back.
    pub returned: u64,
    /// The tables that it looked into, or wrote to.
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
        // A node's pages contain those of the nodes below it. But a `WITH` that writes, and that nobody reads
        // from, is run when all else has ended: its pages are in no other node's.
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

/// What the log says from here on.
#[derive(Debug)]
pub struct Since(u64);

impl Since {
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
            // What belongs to an entry begins with a tab.
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json += line;
            }
            found.push(Explained::read(&serde_json::from_str(&json).unwrap()));
        }
        found
    }
}
