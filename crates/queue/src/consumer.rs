//! A consumer of the group, which reads the queue.

use std::time::{Duration, SystemTime};

use holdfast_redis::{ConnectionLimits, ServerConnection};

use crate::{
    Job, Queue, QueueError,
    keys::{AFTER_ALL, FIRST, GROUP, ORDER, STREAM, TRACE},
    trace::published_at,
};

/// An order that was delivered to a consumer. It belongs to that consumer until it is acknowledged, set aside or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The entry's id in the stream.
    pub(crate) entry_id: String,
    pub job: Job,
}

/// An entry of the stream: its id and its fields.
pub type StreamEntry = (String, Vec<(Vec<u8>, Vec<u8>)>);
/// The answer of `XREADGROUP`: streams and their entries.
type ReadReply = Option<Vec<(String, Vec<StreamEntry>)>>;

impl Delivery {
    /// When it was published, by Redis's clock.
    pub fn published_at(&self) -> Option<SystemTime> {
        published_at(&self.entry_id)
    }

    /// Parses an entry.
    ///
    /// # Errors
    /// The id of an entry that this queue did not write.
    pub fn read((entry_id, fields): StreamEntry) -> Result<Self, String> {
        let (mut order_id, mut trace_context) = (None, None);
        for (name, value) in fields {
            let value = String::from_utf8(value).ok();
            if name == ORDER.as_bytes() {
                order_id = value.and_then(|value| value.parse().ok());
            } else if name == TRACE.as_bytes() {
                trace_context = value;
            }
        }
        match order_id {
            Some(order_id) => Ok(Self { entry_id, job: Job { order_id, trace_context } }),
            None => Err(entry_id),
        }
    }
}

/// The most steps of one search for entries of dead consumers.
const TAKE_OVER_STEPS: usize = 16;

/// One consumer of the group. It has its own connection, because a blocking read would block all other calls on a shared one
/// (redis-rs#1924).
pub struct Consumer {
    queue: Queue,
    name: String,
    connection: Option<ServerConnection>,
    /// The server process that was read last; empty at the start.
    run_id: String,
    /// Where the search for entries of dead consumers continues.
    searched: String,
    /// Whether a read has found the group missing, or another server, since this was last reported.
    redis_is_new: bool,
}

impl Consumer {
    /// Creates a consumer, which connects at the first read. No other process may use the same name at the same time.
    pub fn new(queue: Queue, name: impl Into<String>) -> Self {
        Self {
            queue,
            name: name.into(),
            connection: None,
            run_id: String::new(),
            searched: FIRST.to_owned(),
            redis_is_new: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a read has found the group missing or another server process since this was called last: Redis may have lost
    /// orders.
    pub fn redis_is_new(&mut self) -> bool {
        std::mem::take(&mut self.redis_is_new)
    }

    /// Waits for orders, for at most the block time of the settings, and returns up to `max`. A missing stream or group is created.
    ///
    /// If it is cancelled, orders may have been delivered that no caller has seen. They are taken over later, like those of a dead
    /// consumer.
    ///
    /// # Errors
    /// Redis is down or refuses the call. The next call connects again; the caller should wait briefly before it.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        if max == 0 {
            // Redis would take 0 as no limit.
            return Ok(Vec::new());
        }
        let result = self.read(max).await;
        match result {
            Err(QueueError::NoGroup) => {
                self.queue.ensure_group().await?;
                self.redis_is_new = true;
                Ok(Vec::new())
            }
            Err(error) => {
                self.connection = None;
                self.queue.mend_after(&error).await;
                Err(error)
            }
            Ok(deliveries) => Ok(deliveries),
        }
    }

    async fn read(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let block = self.queue.settings.block;
        // Redis answers a blocked read up to 100 ms late (its tick), and later under load.
        let patience = block + self.queue.settings.op_timeout;
        let current = self.connection.take().filter(|made| self.queue.servers.is_current(made));
        let made = if let Some(made) = current {
            made
        } else {
            let limits =
                ConnectionLimits { connect: self.queue.settings.op_timeout, response: patience };
            let made = self.queue.within(self.queue.servers.connect(limits)).await?;
            if made.info.run_id != self.run_id {
                self.redis_is_new |= !self.run_id.is_empty();
                self.run_id.clone_from(&made.info.run_id);
            }
            made
        };
        let ServerConnection { mut connection, address, .. } = made.clone();
        self.connection = Some(made);
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(max).arg("BLOCK");
        // 0 would block for ever.
        read.arg(block.as_millis().max(1).to_string()).arg("STREAMS").arg(STREAM).arg(">");
        let streams: ReadReply = tokio::select! {
            answer = tokio::time::timeout(patience, read.query_async(&mut connection)) => {
                answer.map_err(|_elapsed| QueueError::Timeout)??
            }
            // What the replaced server has delivered is lost with it. The new primary delivers it again.
            () = self.queue.servers.replaced(&address) => return Err(QueueError::Timeout),
        };
        if streams.is_none() {
            // Redis before 7.2 records only reads that return entries, so this consumer would count as dead.
            let mut sign = redis::cmd("XREADGROUP");
            sign.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(1);
            sign.arg("STREAMS").arg(STREAM).arg(AFTER_ALL);
            // If this fails, so will the next read.
            let _ = self.queue.within(sign.query_async::<()>(&mut connection)).await;
        }
        let entries = streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries);
        Ok(self.understood(entries).await)
    }

    /// Takes over up to `max` orders that were delivered to any consumer, including this one, and have been neither acknowledged nor
    /// kept alive for `idle`. If very many entries are in flight, the next call continues the search.
    ///
    /// If it is cancelled, orders may have been taken over that no caller has seen. They are taken over again later.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn take_over(
        &mut self,
        idle: Duration,
        max: usize,
    ) -> Result<Vec<Delivery>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..TAKE_OVER_STEPS {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim.arg(STREAM).arg(GROUP).arg(&self.name).arg(idle_ms).arg(&self.searched);
            claim.arg("COUNT").arg(max);
            let mut connection = self.queue.connection.clone();
            let (next, entries, _): (String, Vec<StreamEntry>, Vec<String>) =
                self.queue.within(claim.query_async(&mut connection)).await?;
            self.searched = next;
            if !entries.is_empty() {
                return Ok(self.understood(entries).await);
            }
            if self.searched == FIRST {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Returns the entries that name an order, and acknowledges the others. Otherwise, the others would be delivered
    /// again for ever, count as depth, and prevent the stream from being trimmed.
    async fn understood(&self, entries: impl IntoIterator<Item = StreamEntry>) -> Vec<Delivery> {
        let (mut deliveries, mut foreign) = (Vec::new(), Vec::new());
        for entry in entries {
            match Delivery::read(entry) {
                Ok(delivery) => deliveries.push(delivery),
                Err(entry_id) => foreign.push(entry_id),
            }
        }
        if !foreign.is_empty() {
            tracing::warn!(entries = foreign.len(), "the queue contains entries without an order");
            // If this fails, they are taken over later and acknowledged then.
            let foreign: Vec<_> = foreign.iter().map(String::as_str).collect();
            let _ = self.queue.ack_entries(&foreign).await;
        }
        deliveries
    }
}
