//! What a server reports about itself.

use std::collections::HashMap;

use redis::{RedisResult, aio::MultiplexedConnection};

/// The part of `INFO` that matters for a connection. Fields are empty if the user may not run `INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The id of the server process.
    pub run_id: String,
    /// `redis` or `valkey`.
    pub name: String,
    /// Its version, such as 7.0.15, or 8.1.1 for Valkey.
    pub version: String,
    /// The version of Redis that it is compatible with.
    pub redis_version: String,
    /// Whether it is a replica, which accepts no writes.
    pub replica: bool,
    /// Whether it is part of a Redis Cluster.
    pub cluster: bool,
    /// Whether it is a Sentinel.
    pub sentinel: bool,
}

impl ServerInfo {
    /// Reads the answer to `INFO`.
    pub fn read(info: &str) -> Self {
        let fields: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        // Valkey 8 has renamed this field.
        let mode = if text("redis_mode").is_empty() { "server_mode" } else { "redis_mode" };
        let name = if text("server_name").is_empty() { "redis" } else { text("server_name") };
        let own = format!("{name}_version");
        let version = if text(&own).is_empty() { text("redis_version") } else { text(&own) };
        Self {
            run_id: text("run_id").to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            redis_version: text("redis_version").to_owned(),
            replica: matches!(text("role"), "slave" | "replica"),
            cluster: text("cluster_enabled") == "1" || text(mode) == "cluster",
            sentinel: text(mode) == "sentinel" || text("role") == "sentinel",
        }
    }

    /// Asks the server.
    pub(crate) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let mut questions = redis::pipe();
        for section in ["server", "replication", "cluster"] {
            questions.cmd("INFO").arg(section);
        }
        questions.ignore_errors();
        let answers: Vec<RedisResult<String>> = questions.query_async(connection).await?;
        let mut text = String::new();
        for answer in answers {
            match answer {
                Ok(answer) => text.push_str(&answer),
                Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::read(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_and_valkey_are_told_apart_and_both_are_understood() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:ab\r\n\r\n\
            # Replication\r\nrole:master\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n";
        let expected = ServerInfo {
            run_id: "ab".to_owned(),
            name: "redis".to_owned(),
            version: "7.0.15".to_owned(),
            redis_version: "7.0.15".to_owned(),
            ..ServerInfo::default()
        };
        assert_eq!(ServerInfo::read(redis), expected);
        let valkey = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n\
            valkey_release_stage:ga\r\nserver_mode:cluster\r\nrun_id:cd\r\nrole:slave\r\ncluster_enabled:1\r\n";
        let expected = ServerInfo {
            run_id: "cd".to_owned(),
            name: "valkey".to_owned(),
            version: "8.1.1".to_owned(),
            redis_version: "7.2.4".to_owned(),
            replica: true,
            cluster: true,
            sentinel: false,
        };
        assert_eq!(ServerInfo::read(valkey), expected);
        let sentinel = "redis_version:7.0.15\r\nredis_mode:sentinel\r\n";
        assert!(ServerInfo::read(sentinel).sentinel);
        assert_eq!(ServerInfo::read("-ERR no").run_id, "");
    }
}
