//! What the command lines of all binaries share.

use std::{error::Error, io::Write as _, process::ExitCode, time::Duration};

use crate::{
    Chain, Registry,
    probe::{ProbeTarget, probe},
    settings::milliseconds,
};

/// How a command ended. The number is the exit code, the same for all our programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done = 0,
    Failed = 1,
    /// The command line or a setting is wrong. Nothing was tried.
    Usage = 2,
    /// A part of the work is done; the output says which.
    Partly = 3,
    /// PostgreSQL or Redis cannot be reached. The same command may work later.
    Unreachable = 4,
}

/// The end of a program's help.
pub const HELP_END: &str = "Each setting is a flag or an environment variable; the flag takes \
                            precedence. A variable that is set must be valid.\n\nExit codes: 0 \
                            done; 1 failed; 2 wrong command line or setting; 3 partly done; 4 \
                            PostgreSQL or Redis cannot be reached.";

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended as u8)
    }
}

/// Prints an error to standard error, and returns the exit code.
pub fn failed(program: &str, error: &(dyn Error + 'static)) -> ExitCode {
    ended(program, error, Ended::Failed)
}

/// The same for a wrong setting.
pub fn refused(program: &str, error: &(dyn Error + 'static)) -> ExitCode {
    ended(program, error, Ended::Usage)
}

fn ended(program: &str, error: &(dyn Error + 'static), ended: Ended) -> ExitCode {
    // Logs may not be set up.
    eprintln!("{program}: {}", Chain(error));
    ended.into()
}

/// Settings of `completion`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl Completion {
    /// Prints a script that completes the commands and flags of a program in a shell.
    pub fn run(self, mut program: clap::Command) -> ExitCode {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, &name, &mut script);
        // clap_complete 4.6 writes the hyphen of a program's name in two ways, and bash then finds no subcommand.
        let script = String::from_utf8_lossy(&script).replace(
            &format!("{}__subcmd__", name.replace('-', "__subcmd__")),
            &format!("{}__subcmd__", name.replace('-', "__")),
        );
        print(&name, script.as_bytes())
    }
}

/// Prints the settings of a program as Markdown.
pub fn print_settings(program: clap::Command) -> ExitCode {
    let name = program.get_name().to_owned();
    print(&name, crate::settings_page::render(program).as_bytes())
}

/// Prints the output of a program. If the reader closes it early, that is not an error.
pub fn print(program: &str, output: &[u8]) -> ExitCode {
    match write_output(output) {
        Ok(()) | Err(OutputError::Closed) => ExitCode::SUCCESS,
        Err(error @ OutputError::Failed(_)) => failed(program, &error),
    }
}

/// The output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed it, as `head` does. An error of the system is not enough to know this, because a connection to
    /// a server can break in the same way.
    #[error("the output is closed")]
    Closed,
    /// Another error of the system.
    #[error("the output cannot be written")]
    Failed(#[source] std::io::Error),
}

/// Writes to standard output.
///
/// # Errors
/// See [`OutputError`].
pub fn write_output(output: &[u8]) -> Result<(), OutputError> {
    std::io::stdout().lock().write_all(output).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => OutputError::Closed,
        _ => OutputError::Failed(error),
    })
}

/// Settings of `healthcheck`.
#[derive(Clone, Debug, clap::Args)]
pub struct Healthcheck {
    /// The address of the program's internal port; a host name is allowed
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464")]
    pub metrics_addr: ProbeTarget,
    /// Check /readyz (ready for work) instead of /livez (alive)
    #[arg(long)]
    pub ready: bool,
    /// How long to wait for an answer, in milliseconds (1 to 60000)
    #[arg(long = "timeout-ms", default_value = "2000", value_parser = milliseconds(1..=60_000))]
    pub timeout: Duration,
}

impl Healthcheck {
    /// Returns success if the program is healthy. Starts its own runtime.
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
    /// Prints the metrics that `make` registers. `make` runs within its own runtime and must not connect to anything.
    pub fn run(
        self,
        program: &str,
        make: impl FnOnce() -> Result<Registry, Box<dyn Error>>,
    ) -> ExitCode {
        let page = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let registry = runtime.block_on(async { make() })?;
            Ok(if self.reference { registry.reference() } else { registry.page()? })
        };
        match page() {
            Ok(page) => print(program, page.as_bytes()),
            Err::<String, Box<dyn Error>>(error) => failed(program, &*error),
        }
    }
}
