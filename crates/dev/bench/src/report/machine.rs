//! What a run ran on, as far as it matters for its figures. No names of hosts or folders.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::stage::{POSTGRES_SETTINGS, Stage};

/// Flushes that the disk is tried with.
const FLUSHES: u32 = 200;

/// The machine and the versions of what ran on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Processors that Linux has.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The kernel.
    pub kernel: String,
    /// The mean time to write a page and flush it to the disk under the temporary folder.
    pub flush_us: f64,
    /// PostgreSQL.
    pub postgres: String,
    /// Its settings that are not its defaults.
    pub postgres_settings: Vec<String>,
    /// Redis or Valkey.
    pub redis: String,
    /// pgbench.
    pub pgbench: String,
    /// Ours.
    pub holdfast: String,
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// When a server does not answer, or the temporary folder cannot be written to.
    pub async fn look(stage: &Stage) -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let after = |text: &str, key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))
                .map(|value| value.trim().to_owned())
        };
        let memory_kib: f64 = after(&meminfo, "MemTotal")
            .and_then(|value| value.split(' ').next()?.parse().ok())
            .unwrap_or(0.0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            processor: after(&cpuinfo, "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (memory_kib / 1024.0 / 1024.0).round(),
            kernel: kernel.trim().to_owned(),
            flush_us: tokio::task::spawn_blocking(flush_us).await??,
            postgres: stage.postgres_version().await?,
            postgres_settings: POSTGRES_SETTINGS
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect(),
            redis: redis_version(),
            pgbench: stage.pgbench.version.clone(),
            holdfast: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// A commit cannot be faster than this.
fn flush_us() -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile()?;
    let page = [7_u8; 8192];
    file.write_all(&page)?;
    file.sync_data()?;
    let started = Instant::now();
    for _ in 0..FLUSHES {
        file.rewind()?;
        file.write_all(&page)?;
        file.sync_data()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(FLUSHES))
}

fn redis_version() -> String {
    // `Redis server v=7.0.15 sha=… …`
    ["redis-server", "valkey-server"]
        .iter()
        .find_map(|program| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            let version = text.split(' ').find_map(|word| word.strip_prefix("v="))?;
            Some(version.to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned())
}
