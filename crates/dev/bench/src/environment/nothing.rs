//! The do-nothing server as a process.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_sandbox::{Port, Process, ProcessOptions, Ready, workspace_binary};

use crate::processes::Watched;

/// A running do-nothing server. Dropping it ends it.
#[derive(Debug)]
pub struct Nothing {
    process: Process,
    port: Port,
}

impl Nothing {
    /// Starts `nothing` of this binary.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let port = Port::lease()?;
        let options = ProcessOptions::new(workspace_binary("holdfast-bench")?)
            .arg("nothing")
            .arg(format!("--addr={}", port.address()))
            .ready(Ready::Tcp(port.address()));
        Ok(Self { process: Process::start(options).await?, port })
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its processes, for measurements.
    pub fn watched(&self) -> Vec<Watched> {
        vec![
            Watched { name: "do-nothing server", pid: self.process.pid(), with_children: false },
            Watched { name: "load generator", pid: std::process::id(), with_children: false },
        ]
    }

    /// Ends it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Duration::from_secs(5)).await?;
        Ok(())
    }
}
