//! `holdfast-api archive`: takes old orders out of the tables, and writes them into files.
//!
//! In steps, of which each is whole or nothing, wherever the process is killed: a file is on the disk
//! under a preliminary name before its orders are deleted, in a transaction that notes the file's name, and gets
//! its name after that. So a preliminary file is told by its name's being noted or not: the next run
//! finishes it, or throws it away.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use holdfast_domain::OrderId;
use holdfast_store::{ARCHIVED_AT_ONCE_MAX, Archive, ArchivePlace, CutoffReason, OldOrder, Store};
use holdfast_telemetry::{CommandLogs, command::Ended, settings::whole};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    output::{List, OutputSettings, Row},
    progress,
};
use crate::{
    holds::HoldBody,
    orders::{OrderHistoryBody, View},
    settings::{DatabaseConnections, DatabaseSettings},
};

mod folder;
use folder::ArchiveFolder;

const DAY: Duration = Duration::from_hours(24);

/// Settings of `archive`.
#[derive(Debug, Args)]
pub struct ArchiveSettings {
    /// Only orders that have been completed or cancelled for so many days (1 to 36500)
    #[arg(long, value_parser = whole(1..=36_500_u32))]
    older_than_days: u32,
    /// The folder for the files, always the same one; it must be there
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// The most orders in one file, and in one transaction (1 to 10000)
    #[arg(long, default_value = "1000", value_parser = whole(1..=ARCHIVED_AT_ONCE_MAX))]
    batch: u32,
    /// Stop after so many files; run it again to go on (1 to 1000000)
    #[arg(long, value_parser = whole(1..=1_000_000_u32))]
    max_batches: Option<u32>,
    /// How.
    #[command(flatten)]
    output: OutputSettings,
    /// PostgreSQL.
    #[command(flatten)]
    database: DatabaseSettings,
    /// Logs.
    #[command(flatten)]
    logs: CommandLogs,
    /// Connections to PostgreSQL.
    #[command(flatten)]
    connections: DatabaseConnections,
}

/// A line of a file: the order as `GET /orders/{id}` shows it, and the holds that became it.
#[derive(Serialize)]
struct ArchivedOrder {
    #[serde(flatten)]
    order: OrderHistoryBody,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldBody>,
}

/// What is printed for each file.
#[derive(Serialize)]
struct ArchivedFile<'a> {
    file: &'a str,
    orders: usize,
}

/// Does it.
pub(super) fn run(settings: ArchiveSettings) -> ExitCode {
    let ArchiveSettings {
        older_than_days,
        to,
        batch,
        max_batches,
        output,
        database,
        logs,
        connections,
    } = settings;
    let database = database.store(&connections);
    super::in_runtime(&logs, &database, async {
        let folder = ArchiveFolder::open(to)?;
        let store = Store::connect(&database);
        store.check_schema().await?;
        let Some(mut archive) = store.archive().await? else {
            bail!("this database is being archived already; wait for that to end");
        };
        folder.recover(&mut archive).await?;
        let work = ArchiveRun { age: DAY * older_than_days, batch, files_max: max_batches };
        let mut list = List::new(output.output, &["FILE", "ORDERS"]);
        let bar = progress::spinner("archiving");
        let (files, orders) = work.run(&mut archive, &folder, &mut list, &bar).await?;
        bar.finish_and_clear();
        list.end("No order is old enough.")?;
        tracing::info!(files, orders, "old orders are archived");
        archive.close().await?;
        store.close().await;
        Ok(Ended::Done)
    })
}

/// What a run is to do.
struct ArchiveRun {
    age: Duration,
    batch: u32,
    files_max: Option<u32>,
}

impl ArchiveRun {
    /// Says how many files were written, and how many orders are in them.
    async fn run(
        &self,
        archive: &mut Archive,
        folder: &ArchiveFolder,
        list: &mut List,
        bar: &ProgressBar,
    ) -> anyhow::Result<(u32, usize)> {
        let cutoff = archive.cutoff(self.age).await?;
        let stays = match cutoff.because {
            CutoffReason::Age => None,
            CutoffReason::Key => Some("an idempotency key of that time still stands"),
            CutoffReason::Sale => Some("a sale that is not over counts what was ordered since"),
        };
        if let Some(reason) = stays {
            tracing::warn!(since = %cutoff.at, reason, "orders stay though they are old enough");
        }
        let (mut files, mut orders) = (0, 0);
        let mut from = Some(ArchivePlace::default());
        while let Some(place) = from
            && self.files_max.is_none_or(|max| files < max)
        {
            let (old, next) = archive.next(cutoff, place, self.batch).await?;
            from = next;
            let ids: Vec<_> = old.iter().map(|old| old.order.id).collect();
            let Some(name) = file_name(&ids) else { continue };
            let file = folder.write(&name, archive.identity(), &json_lines(old)?)?;
            archive.remove(&name, cutoff, &ids).await.context(
                "the orders of the last file may be in the tables still; run this again, into the same folder",
            )?;
            file.keep()?;
            files += 1;
            orders += ids.len();
            let written = ArchivedFile { file: &name, orders: ids.len() };
            let cells = vec![name.clone().into(), ids.len().to_string().into()];
            bar.suspend(|| list.rows(&[Row::new(&name, cells, &written)?]))?;
            bar.set_message(format!("archiving: {orders} orders"));
        }
        Ok((files, orders))
    }
}

/// No order is in two files, so the lowest id alone makes the name unique.
fn file_name(ids: &[OrderId]) -> Option<String> {
    Some(format!("orders-{}-{}.jsonl", ids.iter().min()?, ids.iter().max()?))
}

fn json_lines(orders: Vec<OldOrder>) -> anyhow::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for OldOrder { order, holds } in orders {
        let order = ArchivedOrder {
            order: View::Shop.with_history(order),
            holds: holds.into_iter().map(HoldBody::from).collect(),
        };
        serde_json::to_writer(&mut lines, &order)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
