//! Facts about a Redis server that matter before a program uses it.

use std::collections::HashMap;

use holdfast_redis::ServerInfo;

use crate::{Queue, QueueError};

/// The state that Redis reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisDiagnosis {
    /// Which server it is.
    pub server: ServerInfo,
    /// Its policy when the memory is full, such as `noeviction`.
    pub eviction: String,
    /// The memory limit in bytes; 0 for no limit.
    pub memory_max: u64,
    /// The used memory in bytes.
    pub memory: u64,
    /// Whether it logs each write to its disk (AOF).
    pub append_only: bool,
    /// Whether its last snapshot (RDB) succeeded.
    pub snapshots: bool,
}

impl Queue {
    /// Queries Redis.
    ///
    /// # Errors
    /// It cannot be reached, refuses the command, or does not answer in time.
    pub async fn diagnose(&self) -> Result<RedisDiagnosis, QueueError> {
        let mut connection = self.connection.clone();
        let text: String = redis::cmd("INFO").query_async(&mut connection).await?;
        Ok(read(&text))
    }
}

fn read(info: &str) -> RedisDiagnosis {
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
    let number = |name: &str| text(name).parse().unwrap_or(0);
    RedisDiagnosis {
        server: ServerInfo::read(info),
        eviction: text("maxmemory_policy"),
        memory_max: number("maxmemory"),
        memory: number("used_memory"),
        append_only: text("aof_enabled") == "1",
        snapshots: text("rdb_last_bgsave_status") == "ok",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_redis_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nused_memory:1\r\nmaxmemory:2\r\n\
            maxmemory_policy:allkeys-lru\r\naof_enabled:0\r\nrdb_last_bgsave_status:ok\r\nrole:master\r\n";
        let expected = RedisDiagnosis {
            server: ServerInfo {
                name: "redis".to_owned(),
                version: "7.0.15".to_owned(),
                redis_version: "7.0.15".to_owned(),
                ..ServerInfo::default()
            },
            eviction: "allkeys-lru".to_owned(),
            memory_max: 2,
            memory: 1,
            append_only: false,
            snapshots: true,
        };
        assert_eq!(read(info), expected);
    }
}
