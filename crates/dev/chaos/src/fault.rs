//! The faults. Each is injected into a running [`Environment`] and repaired.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use holdfast_sandbox::{Clock, Disk, Proxy, Redis, RedisSentinels};
use sqlx::{Connection as _, Executor as _};

use crate::environment::{Clocks, Environment, EnvironmentOptions, RedisSetup};

const STREAM: &str = "holdfast:{orders}:stream";
/// More segments than the log has in store.
const LOG_SEGMENTS_MAX: u32 = 100;

/// A statement that writes only to PostgreSQL's log (WAL).
const WRITE: &str = "SELECT pg_logical_emit_message(true, 'fault', '')";
/// Switches the log to its next segment, which is created if it does not exist.
const NEXT_SEGMENT: &str =
    "SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'fault', '')";

/// The time for a server to react.
const PATIENCE: Duration = Duration::from_mins(1);

/// How far clocks jump.
const JUMP: Duration = Duration::from_hours(1);

/// The delay in each direction, so that a request and its answer take twice as long.
const DELAY: Duration = Duration::from_millis(50);

const GROUP: &str = "fulfilment";

macro_rules! faults {
    ($($name:ident: $slug:literal, $text:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $text] $name,)+
        }

        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name on the command line.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }
        }

        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)+ })
            }
        }
    };
}

faults! {
    ApiKilled: "api-killed", "one API replica killed with SIGKILL under load";
    ApiHung: "api-hung", "one API replica frozen";
    WorkerKilled: "worker-killed", "one worker killed with SIGKILL under load";
    WorkerHung: "worker-hung", "one worker frozen for longer than its leases";
    RedisKilled: "redis-killed", "Redis killed and restarted empty";
    RedisHung: "redis-hung", "Redis frozen";
    RedisFlushed: "redis-flushed", "Redis emptied with FLUSHALL";
    RedisReadOnly: "redis-read-only", "Redis a read-only replica";
    RedisFull: "redis-full", "Redis out of memory under noeviction";
    RedisFailedOver: "redis-failed-over", "Redis killed, and an empty replica takes its place";
    SentinelPrimaryKilled: "sentinel-primary-killed", "the primary of Redis killed, and Sentinels replace it";
    SentinelFailover: "sentinel-failover", "the primary of Redis replaced with SENTINEL FAILOVER";
    SentinelPrimaryFrozen: "sentinel-primary-frozen", "the primary of Redis frozen until Sentinels have replaced it";
    ClusterPrimaryKilled: "cluster-primary-killed", "the server of a Redis Cluster that has the queue killed";
    RedisUnreachable: "redis-unreachable", "packets to Redis dropped";
    GroupDestroyed: "group-destroyed", "the queue's consumer group deleted";
    PostgresKilled: "postgres-killed", "PostgreSQL killed with SIGKILL, backends included";
    PostgresHung: "postgres-hung", "PostgreSQL frozen";
    PostgresRestarted: "postgres-restarted", "PostgreSQL restarted gracefully";
    PostgresUnreachable: "postgres-unreachable", "packets to PostgreSQL dropped";
    PostgresFull: "postgres-full", "PostgreSQL out of connections, and the open ones cut";
    PostgresDiskFull: "postgres-disk-full", "PostgreSQL's disk full";
    PostgresLogFull: "postgres-log-full", "PostgreSQL's disk full when its log (WAL) needs room";
    ClockAhead: "clock-ahead", "the clocks of one replica and one worker an hour ahead";
    ClockBehind: "clock-behind", "the clocks of one replica and one worker an hour behind";
    PostgresClockAhead: "postgres-clock-ahead", "PostgreSQL's clock an hour ahead";
    PostgresClockBehind: "postgres-clock-behind", "PostgreSQL's clock an hour behind";
    ConnectionsCut: "connections-cut", "all connections to both servers cut";
    ConnectionsHalfClosed: "connections-half-closed", "all connections to both servers half-closed";
    ServersSlow: "servers-slow", "each message to and from both servers delayed by 50 ms";
    RowLocked: "row-locked", "one product's row locked by another session";
}

/// What must still work during a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct During {
    /// Orders are accepted.
    pub orders: bool,
    /// Products and orders can be read.
    pub reads: bool,
    /// `/readyz` succeeds after some time.
    pub ready: bool,
}

impl Fault {
    /// What still works on replica 1 (faults affect replica 0).
    pub fn during(self) -> During {
        match self {
            Self::PostgresKilled
            | Self::PostgresHung
            | Self::PostgresRestarted
            | Self::PostgresUnreachable
            | Self::PostgresFull
            | Self::PostgresLogFull => During { orders: false, reads: false, ready: false },
            // It answers, and reads work. If all replicas were not ready, no replica would serve them.
            Self::PostgresDiskFull => During { orders: false, reads: true, ready: true },
            _ => During { orders: true, reads: true, ready: true },
        }
    }

    /// The environment that the fault needs.
    pub fn environment(self) -> EnvironmentOptions {
        let disk = matches!(self, Self::PostgresDiskFull | Self::PostgresLogFull);
        let clocks = matches!(
            self,
            Self::ClockAhead
                | Self::ClockBehind
                | Self::PostgresClockAhead
                | Self::PostgresClockBehind
        );
        let redis = match self {
            Self::SentinelPrimaryKilled | Self::SentinelFailover | Self::SentinelPrimaryFrozen => {
                RedisSetup::Sentinels
            }
            Self::ClusterPrimaryKilled => RedisSetup::Cluster,
            _ => RedisSetup::One,
        };
        EnvironmentOptions { disk, clocks, redis, ..EnvironmentOptions::default() }
    }

    /// Its duration if it is measured alone. Hung servers and locks last longer than all time limits of the API and of the
    /// workers.
    pub fn hold(self) -> Duration {
        Duration::from_secs(match self {
            Self::RedisHung | Self::PostgresHung => 30,
            Self::RowLocked => 20,
            _ => 4,
        })
    }

    /// Checks whether the fault is possible on this machine.
    ///
    /// # Errors
    /// The reason why it is not possible.
    pub fn possible(self) -> anyhow::Result<()> {
        let EnvironmentOptions { disk, clocks, .. } = self.environment();
        if disk {
            Disk::mount(1 << 20)?;
        }
        if clocks {
            Clock::new()?;
        }
        Ok(())
    }

    /// Injects the fault. Some last until [`Self::heal`], others are over at once.
    ///
    /// # Errors
    /// The fault cannot be injected.
    pub async fn inflict(self, environment: &Environment) -> anyhow::Result<()> {
        let api = environment.apis.first().context("no replica")?;
        let worker = environment.workers.first().context("no worker")?;
        match self {
            Self::ApiKilled => api.kill9().await,
            Self::ApiHung => api.with(async |it| it.pause()).await,
            Self::WorkerKilled => worker.kill9().await,
            Self::WorkerHung => worker.with(async |it| it.pause()).await,
            Self::RedisKilled => environment.redis().kill9().await,
            Self::RedisHung => environment.redis().pause(),
            Self::RedisFlushed => environment.redis().flush().await,
            Self::RedisReadOnly => redis(environment, "REPLICAOF 127.0.0.1 1").await,
            Self::RedisFull => redis(environment, "CONFIG SET maxmemory 1").await,
            Self::RedisFailedOver => environment.fail_redis_over().await,
            Self::SentinelPrimaryKilled => primary(environment)?.kill9().await,
            Self::SentinelFailover => sentinels(environment)?.fail_over().await,
            Self::SentinelPrimaryFrozen => primary(environment)?.pause(),
            Self::ClusterPrimaryKilled => owner(environment)?.kill9().await,
            Self::RedisUnreachable => {
                environment.api_redis.blackhole(true);
                environment.worker_redis.blackhole(true);
                Ok(())
            }
            Self::GroupDestroyed => {
                redis(environment, &format!("XGROUP DESTROY {STREAM} {GROUP}")).await
            }
            Self::PostgresKilled => environment.postgres.kill9().await,
            Self::PostgresHung => environment.postgres.pause().await,
            Self::PostgresRestarted => environment.postgres.restart().await,
            Self::PostgresUnreachable => {
                environment.api_postgres.blackhole(true);
                environment.worker_postgres.blackhole(true);
                Ok(())
            }
            Self::PostgresFull => fill_postgres(environment).await,
            Self::PostgresDiskFull => fill_disk(environment).await,
            Self::PostgresLogFull => fill_log(environment).await,
            Self::ClockAhead => clock(environment, |it| &it.first)?.ahead(JUMP),
            Self::ClockBehind => clock(environment, |it| &it.first)?.behind(JUMP),
            Self::PostgresClockAhead => clock(environment, |it| &it.postgres)?.ahead(JUMP),
            Self::PostgresClockBehind => clock(environment, |it| &it.postgres)?.behind(JUMP),
            Self::ConnectionsCut => {
                each_proxy(environment, Proxy::cut);
                Ok(())
            }
            Self::ConnectionsHalfClosed => {
                each_proxy(environment, Proxy::half_close);
                Ok(())
            }
            Self::ServersSlow => {
                each_proxy(environment, |proxy| proxy.delay(DELAY));
                Ok(())
            }
            Self::RowLocked => {
                let mut session = environment.connect().await?;
                session.execute("BEGIN; SELECT FROM products WHERE id = 1 FOR UPDATE").await?;
                environment.sessions.lock().push(session);
                Ok(())
            }
        }
    }

    /// Repairs the fault. Stopped processes are started again, as an orchestrator does.
    ///
    /// # Errors
    /// A process does not start again.
    pub async fn heal(self, environment: &Environment) -> anyhow::Result<()> {
        let api = environment.apis.first().context("no replica")?;
        let worker = environment.workers.first().context("no worker")?;
        match self {
            Self::ApiKilled => api.start().await,
            Self::ApiHung => api.with(async |it| it.resume()).await,
            Self::WorkerKilled => worker.start().await,
            Self::WorkerHung => worker.with(async |it| it.resume()).await,
            Self::RedisKilled => environment.redis().restart().await,
            Self::RedisHung => environment.redis().resume(),
            Self::RedisReadOnly => redis(environment, "REPLICAOF NO ONE").await,
            Self::RedisFull => redis(environment, "CONFIG SET maxmemory 0").await,
            Self::SentinelPrimaryKilled => primary(environment)?.restart().await,
            Self::SentinelPrimaryFrozen => primary(environment)?.resume(),
            Self::RedisUnreachable => {
                environment.api_redis.blackhole(false);
                environment.worker_redis.blackhole(false);
                Ok(())
            }
            Self::PostgresKilled => environment.postgres.restart().await,
            Self::PostgresHung => environment.postgres.resume().await,
            Self::PostgresUnreachable => {
                environment.api_postgres.blackhole(false);
                environment.worker_postgres.blackhole(false);
                Ok(())
            }
            Self::ServersSlow => {
                each_proxy(environment, |proxy| proxy.delay(Duration::ZERO));
                Ok(())
            }
            Self::PostgresDiskFull => empty_disk(environment).await,
            Self::PostgresLogFull => {
                disk(environment)?.make_room()?;
                environment.postgres.restart().await
            }
            Self::ClockAhead | Self::ClockBehind => clock(environment, |it| &it.first)?.right(),
            Self::PostgresClockAhead | Self::PostgresClockBehind => {
                clock(environment, |it| &it.postgres)?.right()
            }
            Self::PostgresFull | Self::RowLocked => {
                let sessions = std::mem::take(&mut *environment.sessions.lock());
                for session in sessions {
                    session.close().await?;
                }
                Ok(())
            }
            Self::RedisFlushed
            | Self::RedisFailedOver
            | Self::SentinelFailover
            // It would come back empty, with the identity of another server.
            | Self::ClusterPrimaryKilled
            | Self::GroupDestroyed
            | Self::PostgresRestarted
            | Self::ConnectionsCut
            | Self::ConnectionsHalfClosed => Ok(()),
        }
    }
}

async fn redis(environment: &Environment, command: &str) -> anyhow::Result<()> {
    let answer = environment.redis().command(command).await?;
    ensure!(answer.starts_with('+') || answer.starts_with(':'), "{command}: {answer}");
    Ok(())
}

fn sentinels(environment: &Environment) -> anyhow::Result<&RedisSentinels> {
    environment.sentinels.as_ref().context("there are no Sentinels here")
}

/// The server that was the primary at the start.
fn primary(environment: &Environment) -> anyhow::Result<&Redis> {
    sentinels(environment)?.servers().first().context("no server")
}

/// The server of the cluster that has the queue's slot (105) at the start: that with the first third.
fn owner(environment: &Environment) -> anyhow::Result<&Redis> {
    let cluster = environment.cluster.as_ref().context("there is no cluster here")?;
    cluster.servers().first().context("no server")
}

fn each_proxy(environment: &Environment, act: impl Fn(&Proxy)) {
    let Environment { api_postgres, api_redis, worker_postgres, worker_redis, .. } = environment;
    for proxy in [api_postgres, api_redis, worker_postgres, worker_redis] {
        act(proxy);
    }
}

fn disk(environment: &Environment) -> anyhow::Result<&Disk> {
    environment.disk.as_ref().context("PostgreSQL does not have its own disk here")
}

fn clock(environment: &Environment, which: fn(&Clocks) -> &Clock) -> anyhow::Result<&Clock> {
    environment.clocks.as_ref().map(which).context("the clocks cannot be set here")
}

/// Fills the disk when PostgreSQL's log has just started a segment, so that the segment has room for some time.
async fn fill_disk(environment: &Environment) -> anyhow::Result<()> {
    environment.connect().await?.execute(NEXT_SEGMENT).await?;
    disk(environment)?.fill()
}

/// Makes room. Under heavy load, the log may have needed some in the meantime, and PostgreSQL has stopped because of it.
async fn empty_disk(environment: &Environment) -> anyhow::Result<()> {
    disk(environment)?.make_room()?;
    tokio::select! {
        () = environment.postgres.ended() => environment.postgres.restart().await,
        () = writes(environment) => Ok(()),
        () = tokio::time::sleep(PATIENCE) => bail!("PostgreSQL neither writes nor stops"),
    }
}

/// Waits until PostgreSQL writes its log.
async fn writes(environment: &Environment) {
    loop {
        if let Ok(mut session) = environment.connect().await
            && session.execute(WRITE).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes PostgreSQL write its log until it needs more room. It stops because of that, and cannot start again.
async fn fill_log(environment: &Environment) -> anyhow::Result<()> {
    disk(environment)?.fill()?;
    let Ok(mut session) = environment.connect().await else { return Ok(()) };
    for _ in 0..LOG_SEGMENTS_MAX {
        if session.execute(NEXT_SEGMENT).await.is_err() && environment.connect().await.is_err() {
            environment.postgres.ended().await;
            return Ok(());
        }
    }
    bail!("PostgreSQL's log did not fill the disk")
}

/// Takes all available connections.
async fn fill_postgres(environment: &Environment) -> anyhow::Result<()> {
    // No new session can connect while the old ones are terminated.
    for proxy in [&environment.api_postgres, &environment.worker_postgres] {
        proxy.blackhole(true);
        proxy.cut();
    }
    let mut refused = 0;
    // Backends need a moment to notice that their clients have disconnected.
    while refused < 20 {
        if let Ok(session) = environment.connect().await {
            refused = 0;
            environment.sessions.lock().push(session);
        } else {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for proxy in [&environment.api_postgres, &environment.worker_postgres] {
        proxy.cut();
        proxy.blackhole(false);
    }
    Ok(())
}
