//! The connection to Redis for commands.
//!
//! It is not a `SharedConnection`, because keys contain the id of the server process, which must be read whenever the
//! connection is established again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_redis::{ConnectionLimits, RedisServers, ServerConnection, must_leave};
use parking_lot::RwLock;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::health::{RedisHealth, RedisPhase};
use crate::l2::KeySpace;
use crate::message::{self, MESSAGE_ITEMS};
use crate::metrics::CacheMetrics;
use crate::settings::CacheSettings;
use crate::{CacheError, l2};

/// The maximum number of calls in one round trip.
const TRIP_CALLS: usize = 2 * MESSAGE_ITEMS;

/// Redis is not used at the moment, did not answer, or gave an invalid answer. A failed call is already counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unavailable;

#[derive(Clone)]
struct RedisSession {
    server: ServerConnection,
    space: KeySpace,
}

/// Redis's answer about a product.
pub(crate) enum Lookup {
    Value {
        version: i64,
        body: Vec<u8>,
        lives: Duration,
    },
    /// `time` is the server's time, for the fill.
    Nothing {
        fence: i64,
        nonce: String,
        time: i64,
    },
}

pub(crate) struct RedisConnection {
    servers: RedisServers,
    pub(crate) settings: CacheSettings,
    pub(crate) health: RedisHealth,
    session: RwLock<Option<RedisSession>>,
    /// The database that the products are in, if it is known.
    database: watch::Sender<Option<Arc<str>>>,
    /// Whether the last attempt to connect failed and was logged.
    unreachable: AtomicBool,
    /// Notified when a call fails, to wake the task that reconnects.
    pub(crate) failed: Notify,
    pub(crate) metrics: Arc<CacheMetrics>,
    /// This replica's name in messages.
    pub(crate) replica: String,
}

impl RedisConnection {
    pub(crate) fn new(
        settings: CacheSettings,
        metrics: Arc<CacheMetrics>,
    ) -> Result<Self, CacheError> {
        let servers = RedisServers::new(&settings.redis_url, settings.redis_ca.as_deref(), l2::TAG)
            .map_err(CacheError::Url)?;
        Ok(Self {
            servers,
            health: RedisHealth::new(settings.owed_limit),
            settings,
            session: RwLock::new(None),
            database: watch::Sender::new(None),
            unreachable: AtomicBool::new(false),
            failed: Notify::new(),
            metrics,
            replica: nonce(),
        })
    }

    /// Sets the database that the products are in. Returns whether it has changed. If so, Redis is read again only after a
    /// quarantine, in which the other replicas notice it too.
    pub(crate) fn identify(&self, database: &str) -> bool {
        if self.database.borrow().as_deref() == Some(database) {
            return false;
        }
        let mut session = self.session.write();
        let before = self.database.send_replace(Some(database.into()));
        if let Some(session) = session.as_mut() {
            session.space = self.space(&session.server, Some(database));
        }
        if before.is_some() {
            self.health.down();
            self.failed.notify_one();
        }
        before.is_some()
    }

    /// Waits until the database is known, if the settings require it. Cancellation safe.
    pub(crate) async fn identified(&self) {
        if self.settings.waits_for_database {
            // Cannot fail, because `self` has the sender.
            let _ = self.database.subscribe().wait_for(Option::is_some).await;
        }
    }

    pub(crate) fn servers(&self) -> &RedisServers {
        &self.servers
    }

    /// Connects, unless the current connection still answers.
    pub(crate) async fn probe(&self) -> Result<(), Unavailable> {
        let session = self.session.read().clone();
        if let Some(mut session) = session
            && self.servers.is_current(&session.server)
        {
            let probe = redis::cmd("PING");
            let answer =
                timeout(self.settings.op_timeout, probe.exec_async(&mut session.server.connection));
            if matches!(answer.await, Ok(Ok(()))) {
                return Ok(());
            }
        }
        *self.session.write() = None;
        let error = match timeout(self.settings.connect_timeout, self.connect()).await {
            Ok(Ok(mut session)) => {
                let mut held = self.session.write();
                session.space = self.space(&session.server, self.database.borrow().as_deref());
                *held = Some(session);
                drop(held);
                self.unreachable.store(false, Ordering::Relaxed);
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        // Logged once per outage.
        if !self.unreachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "redis cannot be reached; products are read from the database");
        }
        Err(Unavailable)
    }

    async fn connect(&self) -> redis::RedisResult<RedisSession> {
        let limits = ConnectionLimits {
            connect: self.settings.connect_timeout,
            response: self.settings.connect_timeout,
        };
        let mut server = self.servers.connect(limits).await?;
        if server.info.run_id.is_empty() {
            return Err((ErrorKind::Client, "the server does not report its run_id").into());
        }
        l2::load_scripts().exec_async(&mut server.connection).await?;
        let space = self.space(&server, None);
        Ok(RedisSession { server, space })
    }

    fn space(&self, server: &ServerConnection, database: Option<&str>) -> KeySpace {
        l2::space(&server.info.run_id, database, self.servers.is_cluster())
    }

    fn session(&self, at_least: RedisPhase) -> Option<RedisSession> {
        if (self.health.phase() as u8) < at_least as u8 {
            return None;
        }
        let session = self.session.read().clone()?;
        if self.servers.is_current(&session.server) {
            return Some(session);
        }
        // Its server may answer, but messages and fences are on the new primary.
        self.health.down();
        self.failed.notify_one();
        None
    }

    /// Whether products are read from Redis.
    pub(crate) fn is_up(&self) -> bool {
        self.health.phase() == RedisPhase::Up
    }

    fn failed(&self, what: &str, error: Option<&redis::RedisError>) -> Unavailable {
        if error.is_some_and(must_leave) {
            // A server that has become a replica still answers a probe.
            *self.session.write() = None;
        }
        let error = error.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
        self.metrics.redis_errors.inc();
        if self.health.phase() == RedisPhase::Up {
            tracing::warn!(what, error, "redis failed; products are read from the database");
        }
        self.health.down();
        self.failed.notify_one();
        Unavailable
    }

    /// One round trip, bounded in time.
    async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        session: &RedisSession,
        pipeline: &Pipeline,
    ) -> Result<T, Unavailable> {
        let mut connection = session.server.connection.clone();
        let calls = async {
            match pipeline.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    // The scripts were flushed. Every pipeline here may be sent twice.
                    l2::load_scripts().exec_async(&mut connection).await?;
                    pipeline.query_async(&mut connection).await
                }
                other => other,
            }
        };
        match timeout(self.settings.op_timeout, calls).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(what, Some(&error))),
            Err(_) => Err(self.failed(what, None)),
        }
    }

    /// Reads a product.
    pub(crate) async fn read(&self, id: i64) -> Result<Lookup, Unavailable> {
        let session = self.session(RedisPhase::Up).ok_or(Unavailable)?;
        let mut call = l2::call(&l2::READ, &session.space, id);
        call.arg(nonce()).arg(millis(self.settings.lease)).arg(millis(self.settings.max_age));
        let mut pipeline = Pipeline::new();
        pipeline.add_command(call);
        let (answer,): (redis::Value,) = self.run("read", &session, &pipeline).await?;
        let parsed = match redis::from_redis_value_ref::<(i64, i64, Vec<u8>, i64)>(&answer) {
            Ok((0, fence, nonce, time)) => {
                String::from_utf8(nonce).ok().map(|nonce| Lookup::Nothing { fence, nonce, time })
            }
            _ => redis::from_redis_value::<(i64, i64, Vec<u8>, i64)>(answer).ok().map(
                |(_, version, body, lives_ms)| Lookup::Value {
                    version,
                    body,
                    lives: Duration::from_millis(u64::try_from(lives_ms).unwrap_or(0)),
                },
            ),
        };
        // Not an outage: another program has written to this key.
        parsed.ok_or_else(|| {
            self.metrics.redis_errors.inc();
            Unavailable
        })
    }

    /// A fill, to be sent with [`fill`](Self::fill). `None` while Redis is not read.
    pub(crate) fn fill_call(
        &self,
        (nonce, time): (&str, i64),
        id: i64,
        version: i64,
        body: &[u8],
    ) -> Option<Cmd> {
        let session = self.session(RedisPhase::Up)?;
        let mut call = l2::call(&l2::FILL, &session.space, id);
        call.arg(nonce).arg(version).arg(millis(self.settings.ttl)).arg(body).arg(time);
        Some(call)
    }

    /// Sends fills. A fill for a server process that no longer exists is harmless, because nobody reads its key.
    pub(crate) async fn fill(&self, calls: Vec<Cmd>) {
        let Some(session) = self.session(RedisPhase::Up) else { return };
        let sent = calls.len() as u64;
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call);
        }
        if let Ok(answers) = self.run::<Vec<i64>>("fill", &session, &pipeline).await {
            let taken = answers.iter().filter(|answer| **answer == 1).count() as u64;
            self.metrics.fills.inc_by(taken);
            self.metrics.fill_refusals.inc_by(sent - taken);
        }
    }

    /// Fences products in Redis and then tells the other replicas, or keeps the fences as owed. `messages` follow the fences in
    /// the same round trip.
    pub(crate) async fn raise(&self, fences: &[(i64, i64)], messages: &[String]) {
        if self.health.owe_if_down(fences) {
            self.metrics.owed.inc_by(fences.len() as u64);
            return;
        }
        let deliver = async {
            let session = self.session(RedisPhase::Settling).ok_or(Unavailable)?;
            self.deliver(&session, fences, messages).await
        };
        // One time limit for all round trips together. If this future is dropped before the answer, the fences are
        // not owed; the caller then does not commit.
        let delivered = match timeout(self.settings.op_timeout, deliver).await {
            Ok(delivered) => delivered,
            Err(_) => Err(self.failed("raise", None)),
        };
        if delivered.is_err() {
            self.health.owe(fences);
            self.metrics.owed.inc_by(fences.len() as u64);
            self.failed.notify_one();
        }
    }

    async fn deliver(
        &self,
        session: &RedisSession,
        fences: &[(i64, i64)],
        messages: &[String],
    ) -> Result<(), Unavailable> {
        let ttl = millis(self.settings.ttl);
        let raise = |fences: &[(i64, i64)]| l2::raise(&session.space, fences, ttl);
        let publish = |message: &String| {
            let mut call = redis::cmd("PUBLISH");
            call.arg(l2::CHANGES).arg(message);
            call
        };
        let mut calls =
            fences.chunks(l2::RAISE_KEYS).map(raise).chain(messages.iter().map(publish)).peekable();
        while calls.peek().is_some() {
            let mut pipeline = Pipeline::new();
            for call in calls.by_ref().take(TRIP_CALLS) {
                pipeline.add_command(call).ignore();
            }
            self.run::<()>("raise", session, &pipeline).await?;
        }
        Ok(())
    }

    /// Publishes on this replica's own channel.
    pub(crate) async fn tick(&self, channel: &str, text: &str) -> Result<(), Unavailable> {
        let session = self.session(RedisPhase::Up).ok_or(Unavailable)?;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("PUBLISH").arg(channel).arg(text).ignore();
        self.run("tick", &session, &pipeline).await
    }

    /// Delivers what is owed, in any phase. Returns whether nothing more is owed.
    pub(crate) async fn repay(&self) -> Result<bool, Unavailable> {
        let session = self.session.read().clone().ok_or(Unavailable)?;
        let debt = self.health.debt();
        if debt.overflows != 0 {
            self.sweep(&session).await?;
            self.deliver(&session, &[], &[message::flush(&self.replica)]).await?;
        }
        for chunk in debt.fences.chunks(MESSAGE_ITEMS) {
            self.deliver(&session, chunk, &[message::fence(&self.replica, chunk)]).await?;
        }
        self.metrics.repaid.inc_by(debt.fences.len() as u64);
        Ok(self.health.settle(&debt))
    }

    /// Deletes all products. Their leases are deleted too, so a load in progress cannot fill in an old value.
    async fn sweep(&self, session: &RedisSession) -> Result<(), Unavailable> {
        let pattern = l2::pattern(&session.space);
        let mut cursor = 0_u64;
        loop {
            let mut scan = Pipeline::new();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let ((next, keys),): ((u64, Vec<String>),) = self.run("scan", session, &scan).await?;
            if !keys.is_empty() {
                let mut unlink = Pipeline::new();
                unlink.cmd("UNLINK").arg(keys).ignore();
                self.run::<()>("unlink", session, &unlink).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

fn nonce() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
