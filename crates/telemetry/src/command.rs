//! What the command lines of all our binaries have in common: how a failure is told, and the
//! `healthcheck` subcommand.

use std::{error::Error, process::ExitCode, time::Duration};

use crate::{
    Chain,
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

/// Prints what `page` makes, within a runtime of its own, and ends with success if it was made.
pub fn print_page<E: Into<Box<dyn Error>>>(
    program: &str,
    page: impl FnOnce() -> Result<String, E>,
) -> ExitCode {
    use std::io::Write as _;

    let made = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(async { page() }).map_err(Into::into));
    match made.and_then(|page| Ok(std::io::stdout().lock().write_all(page.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(program, &*error),
    }
}
