//! Failovers of a real Patroni under load.
//!
//! | file | subject |
//! |---|---|
//! | `cluster` | a complete Holdfast on a cluster of three nodes |
//! | `load` | clients that order at a fixed rate with keys, and repeat what has no answer |
//! | `trial` | one failover: the fault, the times, the repair |
//! | `losses` | what is lost, doubled, oversold, or done twice after a failover |
//! | `table` | the table in `docs/reliability.md` |

mod cluster;
mod load;
mod losses;
pub mod table;
mod trial;

use std::fmt;

use holdfast_sandbox::PatroniMode;

pub use cluster::FailoverCluster;
pub use load::{KeyedLoad, LoadRecord};
pub use losses::Losses;
pub use trial::{FailoverTrial, run};

/// What happens to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FailoverFault {
    /// PostgreSQL and Patroni get SIGKILL, and are started again later.
    Killed,
    /// `patronictl switchover`.
    Switchover,
    /// PostgreSQL and Patroni get SIGSTOP for longer than the primary's lease, and then SIGCONT.
    Frozen,
    /// Nothing passes between the primary and the clients, the other nodes, and etcd, for longer than its lease.
    Cut,
}

impl FailoverFault {
    /// All faults.
    pub const ALL: [Self; 4] = [Self::Killed, Self::Switchover, Self::Frozen, Self::Cut];
}

impl fmt::Display for FailoverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "the primary is killed",
            Self::Switchover => "`patronictl switchover`",
            Self::Frozen => "the primary freezes past its lease, and continues",
            Self::Cut => "the primary is cut off from the network",
        })
    }
}

/// The words of a mode.
pub fn words(mode: PatroniMode) -> &'static str {
    match mode {
        PatroniMode::Synchronous => "synchronous",
        PatroniMode::Asynchronous => "asynchronous",
    }
}
