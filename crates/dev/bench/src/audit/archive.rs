//! Orders that `holdfast-api archive` has archived: the record in the database, and the contents of the files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use sqlx::PgConnection;

use super::{CHUNK, Findings};

/// The archived orders.
#[derive(Debug, Default)]
pub struct Archived {
    /// The number of orders in the record.
    pub orders: i64,
    /// The number of completed orders among them.
    pub completed: i64,
    /// Their units by product in the record.
    pub units: BTreeMap<i64, i64>,
    /// The first line (product and units) of each order by its id, if the files were read.
    pub first_lines: Option<HashMap<i64, (i64, i32)>>,
}

/// The used part of a line of a file.
#[derive(Deserialize)]
struct ArchiveFileOrder {
    id: i64,
    status: String,
    items: Vec<ArchivedLine>,
}

#[derive(Deserialize)]
struct ArchivedLine {
    product_id: i64,
    quantity: i32,
}

/// The contents of the files.
#[derive(Default)]
struct ArchiveFiles {
    first_lines: HashMap<i64, (i64, i32)>,
    units: BTreeMap<i64, i64>,
    violations: Vec<String>,
}

impl Archived {
    /// Whether an order that is not in the tables is in the archive. Without its files, this is assumed.
    pub fn may_have(&self, id: i64) -> bool {
        self.first_lines.as_ref().map_or(self.orders > 0, |lines| lines.contains_key(&id))
    }

    /// The record in the database, compared with the files in `folder` if there is one.
    ///
    /// # Errors
    /// The database or the folder cannot be read. A missing or wrong file is a finding.
    pub async fn read(
        connection: &mut PgConnection,
        folder: Option<&Path>,
        findings: &mut Findings,
    ) -> anyhow::Result<Self> {
        let there: bool = sqlx::query_scalar("SELECT to_regclass('archive_files') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !there {
            // An older schema, in which nothing can be archived.
            return Ok(Self::default());
        }
        let units: Vec<(i64, i64)> = sqlx::query_as("SELECT product_id, units FROM archived_units")
            .fetch_all(&mut *connection)
            .await?;
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT name, orders, completed FROM archive_files ORDER BY name")
                .fetch_all(&mut *connection)
                .await?;
        let mut archived = Self { units: units.into_iter().collect(), ..Self::default() };
        let mut files = ArchiveFiles::default();
        for (name, orders, completed) in &rows {
            archived.orders += orders;
            archived.completed += completed;
            if let Some(folder) = folder {
                files.read(&folder.join(name), (*orders, *completed));
            }
        }
        findings.archived = archived.orders;
        if folder.is_some() {
            if files.violations.is_empty() && files.units != archived.units {
                files.violations.push(
                    "the units in the archive's files are not those that the database \
                    says are archived"
                        .into(),
                );
            }
            findings.violations.append(&mut files.violations);
            still_there(connection, &files.first_lines, findings).await?;
            archived.first_lines = Some(files.first_lines);
        } else if !rows.is_empty() {
            findings
                .unchecked
                .push(format!("{} archived orders: their folder was not given", archived.orders));
        }
        Ok(archived)
    }
}

impl ArchiveFiles {
    /// Reads a file that should have these numbers of orders and completed orders.
    fn read(&mut self, path: &Path, said: (i64, i64)) {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let orders = match read(path) {
            Ok(orders) => orders,
            Err(error) => return self.violations.push(format!("archive: {error:#}")),
        };
        let completed = orders.iter().filter(|order| order.status == "completed").count();
        if (i64::try_from(orders.len()), i64::try_from(completed)) != (Ok(said.0), Ok(said.1)) {
            self.violations.push(format!(
                "archive: {name} has {} orders, {completed} completed, and not {} and {}",
                orders.len(),
                said.0,
                said.1
            ));
        }
        for order in orders {
            if order.status != "cancelled" {
                for item in &order.items {
                    *self.units.entry(item.product_id).or_default() += i64::from(item.quantity);
                }
            }
            let first = order.items.first().map_or((0, 0), |item| (item.product_id, item.quantity));
            if self.first_lines.insert(order.id, first).is_some() {
                self.violations.push(format!("archive: order {} exists twice", order.id));
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<ArchiveFileOrder>> {
    let name = || path.display().to_string();
    let file = BufReader::new(File::open(path).with_context(name)?);
    file.lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<anyhow::Result<_>>()
        .with_context(name)
}

/// Archived orders that are also in the tables.
async fn still_there(
    connection: &mut PgConnection,
    archived: &HashMap<i64, (i64, i32)>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let ids: Vec<i64> = archived.keys().copied().collect();
    let mut doubled: Vec<i64> = Vec::new();
    for chunk in ids.chunks(CHUNK) {
        let mut found = sqlx::query_scalar("SELECT id FROM orders WHERE id = ANY($1)")
            .bind(chunk)
            .fetch_all(&mut *connection)
            .await?;
        doubled.append(&mut found);
    }
    let doubled = doubled.iter().map(ToString::to_string);
    findings.broken("archived orders are also in the tables", doubled.collect());
    Ok(())
}
