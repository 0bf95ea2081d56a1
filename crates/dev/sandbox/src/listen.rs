//! The ports that a person knows by heart: checked before anything is started.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// What one was killed with -9 a moment ago may still hold its port.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// A port that somebody else may have taken, and the variable that chooses another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) port: u16,
    pub(crate) purpose: &'static str,
    pub(crate) variable: &'static str,
}

/// Errs with one sentence for the first port that is in use or wanted twice.
pub(crate) async fn check(host: IpAddr, wanted: &[Wanted]) -> anyhow::Result<()> {
    for (index, this) in wanted.iter().enumerate() {
        if let Some(other) = wanted[..index].iter().find(|other| other.port == this.port) {
            bail!(
                "Port {} is wanted for the {} and for the {}; choose another: {}={} make run",
                this.port,
                other.purpose,
                this.purpose,
                this.variable,
                suggestion(this.port, wanted)
            );
        }
        check_one(host, this, wanted).await?;
    }
    Ok(())
}

async fn check_one(host: IpAddr, this: &Wanted, all: &[Wanted]) -> anyhow::Result<()> {
    let address = SocketAddr::from((host, this.port));
    for _ in 0..TRIES {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
        }
    }
    bail!(
        "Port {} for the {} is in use by another program; choose another: {}={} make run",
        this.port,
        this.purpose,
        this.variable,
        suggestion(this.port, all)
    )
}

/// The next port that none of ours wants.
fn suggestion(port: u16, wanted: &[Wanted]) -> u16 {
    (port.saturating_add(1)..=u16::MAX)
        .find(|candidate| wanted.iter().all(|other| other.port != *candidate))
        .unwrap_or(8_000)
}
