//! Finds the server that takes writes, by asking several others which one it is.
//!
//! redis-rs has a client for Sentinels (`redis::sentinel`). It is not used, because it asks them in the order of the list
//! with fixed time limits: the first Sentinel, frozen together with the primary beside it, would delay each look-up by more
//! than the time limit of a call here. It also believes the first answer, which may come from the smaller side of a network
//! that is split.
//!
//! Here all are asked at once. An answer counts when a majority of them has answered, or when the others have failed. Of
//! different answers, the one with the highest epoch is right: each failover has a higher one.

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

/// The longest wait for one of those that are asked, with connecting to it.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// The question.
pub(crate) enum PrimaryQuestion {
    /// To Sentinels: which server is the primary of this service?
    Service(String),
    /// To servers of a cluster: which one has this slot?
    Slot(u16),
}

/// One of those that are asked.
struct Source {
    host: HostPort,
    client: Client,
    /// A connection that is kept for the next question.
    kept: Mutex<Option<MultiplexedConnection>>,
}

pub(crate) struct PrimaryDiscovery {
    sources: Vec<Source>,
    question: PrimaryQuestion,
    /// How servers are reached.
    server: RedisConnectionInfo,
    trust: Trust,
    /// The address that was found last.
    known: watch::Sender<Option<HostPort>>,
    /// None of them answered when they were asked last, which was logged.
    silent: AtomicBool,
}

/// Whether connections use TLS, and the authorities (PEM); `None`: those of the system.
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

/// Makes a client that trusts these authorities.
pub(crate) fn open(info: ConnectionInfo, ca: Option<&[u8]>) -> RedisResult<Client> {
    match ca {
        Some(ca) => {
            let root_cert = Some(ca.to_vec());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(info),
    }
}

/// A client could not be made of a valid URL.
pub(crate) fn unusable() -> MustBe {
    MustBe::new("cannot be used with these certificates of authorities")
}

impl PrimaryDiscovery {
    /// Does not connect yet. `info` is how those that are asked are reached.
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
            // Logged once: the present connections may work on.
            if !self.silent.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "nobody says which server is the primary of Redis");
            }
        })?;
        self.silent.store(false, Ordering::Relaxed);
        let client = self.trust.client(&found, &self.server)?;
        self.known.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&found);
            if changed && known.is_some() {
                tracing::info!(primary = %found, "another server is the primary of Redis now");
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
                // A Sentinel that refuses the password says more than one that does not answer.
                Err(error) if failure.as_ref().is_none_or(RedisError::is_io_error) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        match answers.into_iter().max_by_key(|answer| answer.epoch) {
            Some(answer) => Ok(answer.address),
            None => Err(failure.unwrap_or_else(|| {
                (ErrorKind::Client, "nobody knows the primary of Redis").into()
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
        // It is put back when it has answered, so that one to a server that hangs is not used again.
        let kept = self.kept.lock().take();
        if let Some(connection) = kept {
            match self.ask_on(connection, question).await {
                // It was closed since the last question.
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
