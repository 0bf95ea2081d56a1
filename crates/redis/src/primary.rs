//! What one of those that are asked says about the primary.

use crate::url::HostPort;

/// The server that takes writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PrimaryAnswer {
    pub(crate) address: HostPort,
    /// Grows with each failover.
    pub(crate) epoch: u64,
}
