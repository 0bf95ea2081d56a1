//! Finds the server that accepts writes, by asking several sources (Sentinels, or servers of a cluster).
//!
//! redis-rs has a client for Sentinels (`redis::sentinel`). It is not used, because it asks them one after the other with
//! fixed time limits: if the first Sentinel is frozen, each look-up would take longer than the time limit of a call here. It
//! also trusts the first answer, which may come from the minority side of a network partition.
//!
//! Here all sources are asked at once. The answers are used when a majority of the sources has answered, or when the others
//! have failed. The answer with the highest epoch wins, because each failover raises the epoch.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use holdfast_telemetry::settings::MustBe;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, aio::MultiplexedConnection,
};
use tokio::{sync::watch, time::timeout};

use crate::{cluster, primary::PrimaryAnswer, sentinel, url::HostPort};

/// The time limit of a question to one source, including the connection.
const ASK_LIMIT: Duration = Duration::from_millis(500);

pub(crate) enum PrimaryQuestion {
    /// To Sentinels: which server is the primary of this service?
    Service(String),
    /// To servers of a cluster: which one has this slot?
    Slot(u16),
}

/// A server that is asked.
struct Source {
    host: HostPort,
    client: Client,
    /// The connection, kept for the next question.
    kept: Mutex<Option<MultiplexedConnection>>,
}

pub(crate) struct PrimaryDiscovery {
    sources: Vec<Source>,
    question: PrimaryQuestion,
    /// How to connect to the primary.
    server: RedisConnectionInfo,
    trust: Trust,
    /// The last address that was found.
    known: watch::Sender<Option<HostPort>>,
    /// Whether the last question failed, which was then logged.
    silent: AtomicBool,
}

/// Whether connections use TLS, and the CA certificates (PEM); `None`: those of the system.
pub(crate) struct Trust {
    pub(crate) tls: bool,
    pub(crate) ca: Option<Vec<u8>>,
}

impl Trust {
    fn client(&self, to: &HostPort, info: &RedisConnectionInfo) -> RedisResult<Client> {
        let (host, port) = (to.host.clone(), to.port);
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?.set_redis_settings(info.clone());
        open(info, self.ca.as_deref())
    }
}

/// Creates a client that trusts these CA certificates.
pub(crate) fn open(info: ConnectionInfo, ca: Option<&[u8]>) -> RedisResult<Client> {
    match ca {
        Some(ca) => {
            let root_cert = Some(ca.to_vec());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(info),
    }
}

/// The error if no client can be created from a valid URL.
pub(crate) fn unusable() -> MustBe {
    MustBe::new("cannot be used with these CA certificates")
}

impl PrimaryDiscovery {
    /// Does not connect yet. `info` is how to connect to the sources.
    pub(crate) fn new(
        (hosts, info): (Vec<HostPort>, &RedisConnectionInfo),
        question: PrimaryQuestion,
        server: RedisConnectionInfo,
        trust: Trust,
    ) -> Result<Self, MustBe> {
        let source = |host: HostPort| {
            let client = trust.client(&host, info)?;
            Ok(Source { host, client, kept: Mutex::default() })
        };
        let sources = hosts.into_iter().map(source).collect::<RedisResult<Vec<_>>>();
        let sources = sources.map_err(|_| unusable())?;
        let (known, silent) = (watch::Sender::new(None), AtomicBool::default());
        Ok(Self { sources, question, server, trust, known, silent })
    }

    /// Changes when another server is found.
    pub(crate) fn known(&self) -> &watch::Sender<Option<HostPort>> {
        &self.known
    }

    /// Asks for the server, and returns a client for it and its address.
    ///
    /// Safe to cancel.
    pub(crate) async fn find(&self) -> RedisResult<(Client, HostPort)> {
        let found = self.ask().await.inspect_err(|error| {
            // Logged once, because existing connections may continue to work.
            if !self.silent.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "the primary of Redis is unknown");
            }
        })?;
        self.silent.store(false, Ordering::Relaxed);
        let client = self.trust.client(&found, &self.server)?;
        self.known.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&found);
            if changed && known.is_some() {
                tracing::info!(primary = %found, "Redis has a new primary");
            }
            *known = Some(found.clone());
            changed
        });
        Ok((client, found))
    }

    async fn ask(&self) -> RedisResult<HostPort> {
        let majority = self.sources.len() / 2 + 1;
        let mut asked: FuturesUnordered<_> =
            self.sources.iter().map(|source| source.ask(&self.question)).collect();
        let (mut answers, mut failure) = (Vec::new(), None);
        while answers.len() < majority
            && let Some(answer) = asked.next().await
        {
            match answer {
                Ok(answer) => answers.push(answer),
                // A refused password is a more useful error than a missing answer.
                Err(error) if failure.as_ref().is_none_or(RedisError::is_io_error) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        match answers.into_iter().max_by_key(|answer| answer.epoch) {
            Some(answer) => Ok(answer.address),
            None => Err(failure.unwrap_or_else(|| {
                (ErrorKind::Client, "no server knows the primary of Redis").into()
            })),
        }
    }
}

impl Source {
    async fn ask(&self, question: &PrimaryQuestion) -> RedisResult<PrimaryAnswer> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        timeout(ASK_LIMIT, self.ask_untimed(question)).await.map_err(late)?
    }

    async fn ask_untimed(&self, question: &PrimaryQuestion) -> RedisResult<PrimaryAnswer> {
        // The connection is put back after the answer, so a connection to a server that hangs is not used again.
        let kept = self.kept.lock().take();
        if let Some(connection) = kept {
            match self.ask_on(connection, question).await {
                // The connection was closed since the last question.
                Err(error) if error.is_io_error() => {}
                answer => return answer,
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ASK_LIMIT))
            .set_response_timeout(Some(ASK_LIMIT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.ask_on(connection, question).await
    }

    async fn ask_on(
        &self,
        mut connection: MultiplexedConnection,
        question: &PrimaryQuestion,
    ) -> RedisResult<PrimaryAnswer> {
        let answer = match question {
            PrimaryQuestion::Service(service) => {
                sentinel::primary(&mut connection, service).await?
            }
            PrimaryQuestion::Slot(slot) => {
                let address = self.client.get_connection_info().addr();
                let tls = matches!(address, ConnectionAddr::TcpTls { .. });
                cluster::owner(&mut connection, *slot, &self.host, tls).await?
            }
        };
        *self.kept.lock() = Some(connection);
        Ok(answer)
    }
}
