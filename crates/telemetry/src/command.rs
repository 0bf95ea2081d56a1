//! What the command lines of all our binaries have in common: how a failure is told, and the
//! `healthcheck` subcommand.

use std::{error::Error, process::ExitCode, time::Duration};

use crate::{
    Chain, Registry,
    probe::{ProbeTarget, probe},
    settings::milliseconds,
};

/// One sentence on standard error for whoever typed the command, and the exit code to end with.
pub fn failed(program: &str, error: &(dyn Error + 'static)) -> ExitCode {
    // There may be no log yet, or none any more.
    eprintln!("{program}: {}", Chain(error));
    ExitCode::FAILURE
}

/// Prints [`crate::settings_page`] of a program.
pub fn print_settings(program: clap::Command) -> ExitCode {
    use std::io::Write as _;

    let name = program.get_name().to_owned();
    let page = crate::settings_page::render(program);
    match std::io::stdout().lock().write_all(page.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&name, &error),
    }
}

/// Settings of `healthcheck`.
#[derive(Clone, Debug, clap::Args)]
pub struct Healthcheck {
    /// Where the process's internal port is; also by the name of a host
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464")]
    pub metrics_addr: ProbeTarget,
    /// Ask /readyz (does it want work?) and not /livez (does it live?)
    #[arg(long)]
    pub ready: bool,
    /// The longest wait for an answer, in milliseconds (1 to 60000)
    #[arg(long = "timeout-ms", default_value = "2000", value_parser = milliseconds(1..=60_000))]
    pub timeout: Duration,
}

impl Healthcheck {
    /// Asks, and ends with success if all is well. Starts a runtime of its own.
    pub fn run(self, program: &str) -> ExitCode {
        let path = if self.ready { "/readyz" } else { "/livez" };
        let asked = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map(|runtime| runtime.block_on(probe(self.metrics_addr, path, self.timeout)));
        match asked {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => failed(program, &error),
            Err(error) => failed(program, &error),
        }
    }
}

/// Settings of `metrics`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PrintMetrics {
    /// Print the table of docs/metrics.md instead
    #[arg(long)]
    pub reference: bool,
}

impl PrintMetrics {
    /// Prints the metrics that `make` registers. It runs within a runtime of its own and must ask nobody.
    pub fn run(
        self,
        program: &str,
        make: impl FnOnce() -> Result<Registry, Box<dyn Error>>,
    ) -> ExitCode {
        use std::io::Write as _;

        let print = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let registry = runtime.block_on(async { make() })?;
            let page = if self.reference { registry.reference() } else { registry.page()? };
            Ok(std::io::stdout().lock().write_all(page.as_bytes())?)
        };
        match print() {
            Ok(()) => ExitCode::SUCCESS,
            Err::<(), Box<dyn Error>>(error) => failed(program, &*error),
        }
    }
}
