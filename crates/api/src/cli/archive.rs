//! `holdfast-api archive`: moves old orders from the database into files.
//!
//! Each step is atomic, even if the process is killed. A file is written to disk with a preliminary name. Then one
//! transaction deletes its orders and records the file's name. Then the file is renamed. If the next run finds a
//! preliminary file, it completes the file if its name is recorded, and deletes it otherwise.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use holdfast_domain::OrderId;
use holdfast_store::{ARCHIVED_AT_ONCE_MAX, Archive, ArchivePlace, CutoffReason, OldOrder};
use holdfast_telemetry::{
    command::Ended,
    settings::{MustBe, Together, whole},
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    CommandDatabase,
    output::{ListOutput, OutputRow, OutputSettings},
    progress,
};
use crate::{
    holds::HoldBody,
    orders::{OrderHistoryBody, View},
};

mod folder;
use folder::ArchiveFolder;

const DAY: Duration = Duration::from_hours(24);

/// Settings of `archive`.
#[derive(Debug, Args)]
pub struct ArchiveSettings {
    /// Archive orders that were completed or cancelled at least this many days ago (1 to 36500)
    #[arg(long, value_parser = whole(1..=36_500_u32))]
    older_than_days: u32,
    /// The folder for the files; it must exist, and be the same for every run
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// The most orders in one file, and in one transaction (1 to 10000)
    #[arg(long, default_value = "1000", value_parser = whole(1..=ARCHIVED_AT_ONCE_MAX))]
    batch: u32,
    /// Stop after this many files; the next run continues (1 to 1000000)
    #[arg(long, value_parser = whole(1..=1_000_000_u32))]
    max_batches: Option<u32>,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The database.
    #[command(flatten)]
    database: CommandDatabase,
}

/// A line of a file: the order as in `GET /orders/{id}`, and the holds that it used.
#[derive(Serialize)]
struct ArchivedOrder {
    #[serde(flatten)]
    order: OrderHistoryBody,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldBody>,
}

/// The output for a file.
#[derive(Serialize)]
struct ArchivedFile<'a> {
    file: &'a str,
    orders: usize,
}

impl Together for ArchiveSettings {
    fn check(&self) -> Result<(), MustBe> {
        self.database.check()
    }
}

/// Runs the command.
pub(super) fn run(settings: ArchiveSettings) -> ExitCode {
    let ArchiveSettings { older_than_days, to, batch, max_batches, output, database } = settings;
    database.run(async |store| {
        let folder = ArchiveFolder::open(to)?;
        store.check_schema().await?;
        let Some(mut archive) = store.archive().await? else {
            bail!("another run is archiving this database; wait until it ends");
        };
        folder.recover(&mut archive).await?;
        let work = ArchiveRun { age: DAY * older_than_days, batch, files_max: max_batches };
        let mut list = ListOutput::new(output.output, &["FILE", "ORDERS"]);
        let bar = progress::spinner("archiving");
        let (files, orders) = work.run(&mut archive, &folder, &mut list, &bar).await?;
        bar.finish_and_clear();
        list.end("No orders are old enough.")?;
        tracing::info!(files, orders, "old orders were archived");
        archive.close().await?;
        store.close().await;
        Ok(Ended::Done)
    })
}

/// A run.
struct ArchiveRun {
    age: Duration,
    batch: u32,
    files_max: Option<u32>,
}

impl ArchiveRun {
    /// Returns the number of files and of orders.
    async fn run(
        &self,
        archive: &mut Archive,
        folder: &ArchiveFolder,
        list: &mut ListOutput,
        bar: &ProgressBar,
    ) -> anyhow::Result<(u32, usize)> {
        let cutoff = archive.cutoff(self.age).await?;
        let stays = match cutoff.because {
            CutoffReason::Age => None,
            CutoffReason::Key => Some("an idempotency key of that time is still valid"),
            CutoffReason::Sale => Some("a sale that is not over yet counts orders since that time"),
        };
        if let Some(reason) = stays {
            tracing::warn!(since = %cutoff.at, reason, "some orders are old enough but cannot be archived yet");
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
                "the orders of the last file may still be in the database; run this again with the same folder",
            )?;
            file.keep()?;
            files += 1;
            orders += ids.len();
            let written = ArchivedFile { file: &name, orders: ids.len() };
            let cells = vec![name.clone().into(), ids.len().to_string().into()];
            bar.suspend(|| list.rows(&[OutputRow::new(&name, cells, &written)?]))?;
            bar.set_message(format!("archiving: {orders} orders"));
        }
        Ok((files, orders))
    }
}

/// An order is in only one file, so the lowest id makes the name unique.
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
