//! The settings of read replicas.

use std::time::Duration;

use clap::Args;
use holdfast_store::{DatabaseReadUrl, StoreSettings};
use holdfast_telemetry::settings::{milliseconds, whole};

/// Read replicas.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Read replicas")]
pub struct ReadReplicaSettings {
    /// Standbys of the PostgreSQL database that serve lists, order look-ups and histories, such as
    /// `postgres://user:password@host1:5432,host2:5432/holdfast`; each is used while it is not behind, and the
    /// primary serves the other reads. If not set, the primary serves all
    #[arg(long, env = "DATABASE_READ_URL", hide_env_values = true)]
    pub database_read_url: Option<DatabaseReadUrl>,
    /// Connections to each read replica (1 to 1000)
    #[arg(long, env = "HOLDFAST_READ_REPLICA_CONNECTIONS", default_value = "8", value_parser = whole(1..=1000_u32))]
    pub read_replica_connections: u32,
    /// The longest time that a read waits until a read replica can serve it, before the primary does, in milliseconds
    /// (10 to 10000)
    #[arg(long = "read-replica-wait-ms", env = "HOLDFAST_READ_REPLICA_WAIT_MS", default_value = "100", value_parser = milliseconds(10..=10_000))]
    pub read_replica_wait: Duration,
}

impl ReadReplicaSettings {
    /// These settings of a store, with others from `settings`.
    pub fn store(&self, settings: StoreSettings) -> StoreSettings {
        StoreSettings {
            read_replicas: self.database_read_url.clone(),
            read_replica_connections: self.read_replica_connections,
            read_replica_wait: self.read_replica_wait,
            ..settings
        }
    }

    /// The most connections that they open, also to the primary.
    pub fn connections(&self) -> usize {
        let each = usize::try_from(self.read_replica_connections).unwrap_or(usize::MAX);
        let standbys = self.database_read_url.as_ref().map_or(0, DatabaseReadUrl::count);
        // A standby is also asked on a connection of its own, and the primary on two.
        let asked = if standbys > 0 { 2 } else { 0 };
        standbys.saturating_mul(each.saturating_add(1)).saturating_add(asked)
    }
}
