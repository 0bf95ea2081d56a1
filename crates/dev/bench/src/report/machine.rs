//! The machine of a run, without names of hosts or folders.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::process::Command;
use std::time::Instant;

use procfs::{CpuInfo, Current as _, Meminfo};
use serde::{Deserialize, Serialize};

use crate::environment::{BenchEnvironment, POSTGRES_SETTINGS};

/// The number of flushes with which the disk is measured.
const FLUSHES: u32 = 200;

/// The machine and the versions of the programs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    /// The number of processors.
    pub cores: usize,
    pub memory_gib: f64,
    /// The version of the kernel.
    pub kernel: String,
    /// The mean time of writing a page and flushing it to the disk of the temporary folder.
    pub flush_us: f64,
    /// The version of PostgreSQL.
    pub postgres: String,
    /// The settings of PostgreSQL that differ from the defaults.
    pub postgres_settings: Vec<String>,
    /// The version of Redis or Valkey.
    pub redis: String,
    /// The version of pgbench.
    pub pgbench: String,
    /// The version of Holdfast.
    pub holdfast: String,
}

impl Machine {
    /// Collects all of it.
    ///
    /// # Errors
    /// A server does not answer, or the temporary folder cannot be written to.
    pub async fn look(environment: &BenchEnvironment) -> anyhow::Result<Self> {
        let processor = CpuInfo::current()?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            processor: processor.model_name(0).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (Meminfo::current()?.mem_total as f64 / f64::from(1 << 30)).round(),
            kernel: kernel.trim().to_owned(),
            flush_us: tokio::task::spawn_blocking(flush_us).await??,
            postgres: environment.postgres_version().await?,
            postgres_settings: POSTGRES_SETTINGS
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect(),
            redis: redis_version(),
            pgbench: environment.pgbench.version.clone(),
            holdfast: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// A commit cannot be faster.
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
