//! The baselines: orders without batches, written by PostgreSQL's own `pgbench` on the same server, tables and indexes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::process::Command;

/// The additional time for starting and stopping.
const EXTRA_TIME: Duration = Duration::from_secs(30);

/// The way in which an order is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// Five round trips; the second one locks the row. Most shops do this.
    ForUpdate,
    /// One statement, a data-modifying CTE, which is its own transaction: the fastest way to write one order at a time.
    SingleStatement,
}

impl Script {
    /// The name in tables and charts.
    pub fn title(self) -> &'static str {
        match self {
            Self::ForUpdate => "pgbench, SELECT … FOR UPDATE transaction",
            Self::SingleStatement => "pgbench, one statement (CTE)",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::ForUpdate => {
                "\\set product random(1, :products)\n\
                 BEGIN;\n\
                 SELECT stock, price_minor FROM products WHERE id = :product FOR UPDATE;\n\
                 UPDATE products SET stock = stock - 1, version = version + 1, updated_at = now() \
                 WHERE id = :product;\n\
                 INSERT INTO orders (product_id, quantity, unit_price_minor) \
                 VALUES (:product, 1, 49990) RETURNING id;\n\
                 COMMIT;\n"
            }
            Self::SingleStatement => {
                "\\set product random(1, :products)\n\
                 WITH taken AS (UPDATE products SET stock = stock - 1, version = version + 1, \
                 updated_at = now() WHERE id = :product AND stock >= 1 RETURNING id, price_minor) \
                 INSERT INTO orders (product_id, quantity, unit_price_minor) \
                 SELECT id, 1, price_minor FROM taken RETURNING id;\n"
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PgbenchResult {
    /// Orders per second, without the time for connecting.
    pub orders_per_s: f64,
    /// The mean time of an order.
    pub latency_mean_ms: f64,
}

/// The pgbench of this machine.
#[derive(Clone, Debug)]
pub struct Pgbench {
    program: PathBuf,
    pub version: String,
}

impl Pgbench {
    /// Finds pgbench beside the newest server, or on the `PATH`.
    ///
    /// # Errors
    /// It is not installed; the error says what to type.
    pub fn find() -> anyhow::Result<Self> {
        let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("bin"))
            .collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(major(folder)));
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let program = folders
            .into_iter()
            .map(|folder| folder.join("pgbench"))
            .find(|path| path.is_file())
            .context("pgbench is not installed; type: sudo apt-get install postgresql")?;
        let output = std::process::Command::new(&program).arg("--version").output()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { program, version })
    }

    /// Orders products 1 to `products` of a database with Holdfast's tables for `seconds`, with prepared statements.
    ///
    /// # Errors
    /// Pgbench fails, or one of its transactions does.
    pub async fn run(
        &self,
        database_url: &str,
        script: Script,
        products: u32,
        clients: u32,
        seconds: u32,
    ) -> anyhow::Result<PgbenchResult> {
        let database: PgConnectOptions = database_url.parse()?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), script.text())?;
        let threads = clients.min(std::thread::available_parallelism()?.get() as u32);
        let mut command = Command::new(&self.program);
        command
            .args(["--no-vacuum", "--protocol=prepared"])
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={threads}"))
            .arg(format!("--time={seconds}"))
            .arg(format!("--define=products={products}"))
            .arg(format!("--file={}", file.path().display()))
            .arg(format!("--host={}", database.get_host()))
            .arg(format!("--port={}", database.get_port()))
            .arg(format!("--username={}", database.get_username()))
            .arg(database.get_database().unwrap_or("postgres"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let limit = Duration::from_secs(u64::from(seconds)) + EXTRA_TIME;
        let output = tokio::time::timeout(limit, command.output())
            .await
            .context("pgbench did not end in time")??;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("pgbench failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        parse(&text).with_context(|| format!("the output of pgbench cannot be parsed:\n{text}"))
    }
}

/// Checks that the stock of each product matches the orders that pgbench has written.
///
/// # Errors
/// They do not match, or the database does not answer.
pub async fn check(database_url: &str, initial_stock: i64) -> anyhow::Result<()> {
    let mut connection = database_url.parse::<PgConnectOptions>()?.connect().await?;
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM products LEFT JOIN \
             (SELECT product_id, sum(quantity) AS ordered FROM orders GROUP BY product_id) AS sums \
             ON product_id = id \
         WHERE $1 - stock <> coalesce(ordered, 0)",
    )
    .bind(initial_stock)
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    if wrong > 0 {
        bail!("{wrong} products of the baseline do not add up: it measures something else");
    }
    Ok(())
}

/// Brings the tables into the state of a server that has run for some time, without dead rows.
///
/// # Errors
/// The database refuses.
pub async fn tidy(database_url: &str) -> anyhow::Result<()> {
    let mut connection = database_url.parse::<PgConnectOptions>()?.connect().await?;
    connection.execute("VACUUM (ANALYZE) products, orders").await?;
    // So that the next measurement does not include a checkpoint of earlier work.
    connection.execute("CHECKPOINT").await?;
    connection.close().await?;
    Ok(())
}

fn major(folder: &Path) -> Option<u32> {
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}

fn parse(text: &str) -> Option<PgbenchResult> {
    let after = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    // Only versions with retries print it. Others stop at a failure.
    let failed = after("number of failed transactions: ").unwrap_or(0.0);
    (failed == 0.0).then_some(PgbenchResult {
        orders_per_s: after("tps = ")?,
        latency_mean_ms: after("latency average = ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_pgbench_is_parsed() {
        let text = "transaction type: /tmp/x\nnumber of failed transactions: 0 (0.000%)\n\
            latency average = 0.612 ms\ninitial connection time = 3.4 ms\n\
            tps = 1633.123 (without initial connection time)\n";
        let outcome = parse(text).unwrap();
        assert!((outcome.orders_per_s - 1633.123).abs() < 1e-9);
        assert!((outcome.latency_mean_ms - 0.612).abs() < 1e-9);
        assert_eq!(parse(&text.replace(": 0 (", ": 3 (")), None);
        assert_eq!(parse("nothing"), None);
    }
}
