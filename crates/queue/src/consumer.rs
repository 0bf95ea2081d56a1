//! Reading the queue: one consumer of the group.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use crate::{
    Job, Queue, QueueError,
    keys::{GROUP, ORDER, STREAM, TRACE},
};

/// An order that was delivered to a consumer. It stays with that consumer until it is
/// acknowledged, set aside, or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The entry's id in the stream.
    pub(crate) entry_id: String,
    /// What was published.
    pub job: Job,
}

impl Delivery {
    /// `None` for an entry that nobody of us wrote.
    pub(crate) fn read(entry_id: String, fields: Vec<(String, String)>) -> Option<Self> {
        let (mut order_id, mut trace_context) = (None, None);
        for (name, value) in fields {
            match name.as_str() {
                ORDER => order_id = value.parse().ok(),
                TRACE => trace_context = Some(value),
                _ => {}
            }
        }
        Some(Self { entry_id, job: Job { order_id: order_id?, trace_context } })
    }
}

/// The answer of `XREADGROUP`: streams, entries, fields.
type Read = Option<Vec<(String, Entries)>>;
type Entries = Vec<(String, Vec<(String, String)>)>;

/// One consumer of the group, with a connection of its own: a read that blocks would hold up
/// everything else on a shared one (redis-rs#1924).
pub struct Consumer {
    queue: Queue,
    client: Client,
    name: String,
    connection: Option<MultiplexedConnection>,
}

impl Consumer {
    /// A consumer called `name`, which no other process may use at the same time.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn new(queue: Queue, name: impl Into<String>) -> Result<Self, QueueError> {
        let client = Client::open(queue.settings.redis_url.as_str()).map_err(QueueError::Url)?;
        Ok(Self { queue, client, name: name.into(), connection: None })
    }

    /// The consumer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for orders, for as long as the settings say, and takes at most `max`. None is no
    /// error. A stream or group that is missing is made.
    ///
    /// Cancelling it may leave orders delivered that nobody has seen; they are taken over later,
    /// as those of a consumer that died.
    ///
    /// # Errors
    /// Redis is away or refuses. The next call connects again; the caller should wait a little.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let result = self.read(max).await;
        match result {
            Err(QueueError::NoGroup) => {
                self.queue.ensure_group().await?;
                Ok(Vec::new())
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
            Ok(deliveries) => Ok(deliveries),
        }
    }

    async fn read(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let block = self.queue.settings.block;
        // Redis answers a blocked read late by up to its own tick of 100 ms, and under load later.
        let patience = block + self.queue.settings.op_timeout;
        let mut connection = if let Some(connection) = &self.connection {
            connection.clone()
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.queue.settings.op_timeout))
                .set_response_timeout(Some(patience));
            let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
            self.connection.insert(self.queue.within(connecting).await?).clone()
        };
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(max).arg("BLOCK");
        // 0 would block for ever.
        read.arg(block.as_millis().max(1).to_string()).arg("STREAMS").arg(STREAM).arg(">");
        let streams: Read =
            match tokio::time::timeout(patience, read.query_async(&mut connection)).await {
                Ok(answer) => answer?,
                Err(_elapsed) => return Err(QueueError::Timeout),
            };
        Ok(streams
            .unwrap_or_default()
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .filter_map(|(id, fields)| Delivery::read(id, fields))
            .collect())
    }

    /// Takes over at most `max` orders that were delivered to any consumer, this one included,
    /// and have been neither acknowledged nor kept alive for `idle`.
    ///
    /// # Errors
    /// Redis is away or refuses, or the group does not exist.
    pub async fn take_over(&self, idle: Duration, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(STREAM).arg(GROUP).arg(&self.name).arg(idle_ms).arg("0-0");
        claim.arg("COUNT").arg(max);
        let mut connection = self.queue.connection.clone();
        let (_, entries, _): (String, Entries, Vec<String>) =
            self.queue.within(claim.query_async(&mut connection)).await?;
        Ok(entries.into_iter().filter_map(|(id, fields)| Delivery::read(id, fields)).collect())
    }
}
