//! Running a program until a signal ends it.

use std::{error::Error, io, process::ExitCode, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    TelemetrySettings,
    command::{Ended, failed},
};

/// The longest time for sending the last spans.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// Runs a program with logs and traces on a runtime of its own. The exit code says how `task` ended.
pub fn run<E: AsRef<dyn Error>>(
    program: &'static str,
    telemetry: &TelemetrySettings,
    runtime: &mut runtime::Builder,
    task: impl Future<Output = Result<Ended, E>>,
) -> ExitCode {
    // The allocator asks for huge pages. With them, the kernel backs memory that is not used, about 10 KiB for each
    // connection. Not every kernel can switch them off, and nothing depends on it.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    let guard = match crate::init(program, telemetry) {
        Ok(guard) => guard,
        Err(error) => return failed(program, &error),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(program, &error),
    };
    let ended = runtime.block_on(task);
    // Tasks that are still running are not waited for.
    runtime.shutdown_background();
    guard.shutdown(FLUSH_TIME);
    match ended {
        Ok(ended) => ended.into(),
        Err(error) => failed(program, error.as_ref()),
    }
}

/// The signals that stop a program: SIGTERM and SIGINT (Ctrl-C).
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on these signals do not end the process by themselves.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal. It may be dropped and called again: no signal is missed.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
