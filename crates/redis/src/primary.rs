//! The answer of a Sentinel or cluster server about the primary.

use crate::url::HostPort;

/// The server that accepts writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PrimaryAnswer {
    pub(crate) address: HostPort,
    /// The epoch, which each failover raises.
    pub(crate) epoch: u64,
}
