//! TCP ports that stay ours over a server's restart.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;

use anyhow::{Context as _, bail};
use rand::Rng as _;

use crate::folder;

/// Below the range from which Linux gives out ports by itself (32768 and up), so that no outgoing
/// connection takes the port while its server is down.
const FIRST: u16 = 23_000;
const LAST: u16 = 26_999;

/// A free port on 127.0.0.1, reserved among all sandboxes of this user until dropped.
///
/// Others can still take it: a server that cannot bind it takes another one.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Held, not read: closing the file gives the lock up.
    _lock: File,
}

impl Port {
    /// Reserves a port that nobody listens on now.
    ///
    /// # Errors
    /// When the lock files cannot be made, or no free port was found in 1,000 tries.
    pub fn lease() -> anyhow::Result<Self> {
        for _ in 0..1_000 {
            let number = rand::rng().random_range(FIRST..=LAST);
            if let Ok(Some(port)) = Self::take(Ipv4Addr::LOCALHOST.into(), number) {
                return Ok(port);
            }
        }
        bail!("no free port between {FIRST} and {LAST}")
    }

    /// Reserves this port; `None` if somebody listens on it, or another sandbox has reserved it.
    ///
    /// # Errors
    /// When its lock file cannot be made, or the address cannot be listened on for another reason.
    pub fn take(host: IpAddr, number: u16) -> anyhow::Result<Option<Self>> {
        let lock = lock_file(number)?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let address = SocketAddr::from((host, number));
        match TcpListener::bind(address) {
            Ok(_) => Ok(Some(Self { number, _lock: lock })),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
        }
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

fn lock_file(number: u16) -> anyhow::Result<File> {
    let locks = folder::base()?.join("ports");
    DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
    File::create(locks.join(number.to_string())).context("cannot make a port's lock file")
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("another process has taken the server's port")]
    AddressInUse,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
