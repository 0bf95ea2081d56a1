//! The queue, and the calls that change it.

use std::{sync::Arc, time::Duration};

use holdfast_redis::{ConnectionLimits, RedisServers, SharedConnection};
use redis::{RedisResult, Script};

use crate::{
    Delivery, QueueError,
    keys::{GROUP, ORDER, REFILL, RETRIES, STREAM, TAG, TRACE, stream_exists},
    trace::Publishing,
};

/// The most orders of one round trip.
const CALL_MAX: usize = 1024;

/// How to reach the queue, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// For example `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: the CA certificates (PEM) that verify the server; `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// The timeout of a call, and of connecting.
    pub op_timeout: Duration,
    /// How long a consumer's read waits in Redis for an order.
    pub block: Duration,
}

impl QueueSettings {
    /// The defaults, for a Redis at this address.
    pub fn new(redis_url: impl Into<String>) -> Self {
        Self {
            redis_url: redis_url.into(),
            redis_ca: None,
            op_timeout: Duration::from_secs(1),
            block: Duration::from_secs(1),
        }
    }

    /// The time limits of the connection for all calls except the blocking read.
    fn limits(&self) -> ConnectionLimits {
        ConnectionLimits { connect: self.op_timeout, response: self.op_timeout }
    }
}

/// An order on its way to the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub order_id: i64,
    /// The W3C `traceparent` of the request that placed the order, if it is sampled.
    pub trace_context: Option<String>,
}

/// The queue. Cheap to clone; clones share one connection, which reconnects automatically.
#[derive(Clone)]
pub struct Queue {
    pub(crate) servers: RedisServers,
    pub(crate) connection: SharedConnection,
    pub(crate) settings: QueueSettings,
}

impl Queue {
    /// Connects at the first call, so that programs can start while Redis is down. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The Redis URL is not valid.
    pub fn connect(settings: QueueSettings) -> Result<Self, QueueError> {
        let servers = RedisServers::new(&settings.redis_url, settings.redis_ca.as_deref(), TAG)
            .map_err(QueueError::Url)?;
        let connection = SharedConnection::new(servers.clone(), settings.limits());
        Ok(Self { servers, connection, settings })
    }

    /// Runs a call within the timeout, including connecting. If Redis refuses it, the keys are checked.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, QueueError> {
        let answer = self.in_time(call).await;
        if let Err(error) = &answer {
            self.mend_after(error).await;
        }
        answer
    }

    /// Runs a call within the timeout.
    pub(crate) async fn in_time<T>(
        &self,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, QueueError> {
        match tokio::time::timeout(self.settings.op_timeout, call).await {
            Ok(answer) => answer.map_err(QueueError::from),
            Err(_elapsed) => Err(QueueError::Timeout),
        }
    }

    /// Publishes orders, many in one round trip. The trace of a sampled order continues from the span of this call.
    ///
    /// # Errors
    /// Redis is down or refuses the call. Some of the orders may have been published.
    pub async fn publish_many(&self, jobs: &[Job]) -> Result<(), QueueError> {
        for jobs in jobs.chunks(CALL_MAX) {
            let spans = Publishing::begin(jobs);
            let mut pipe = redis::pipe();
            for (job, context) in jobs.iter().zip(spans.contexts(jobs)) {
                let add = pipe.cmd("XADD").arg(STREAM).arg("*").arg(ORDER).arg(job.order_id);
                if let Some(context) = context {
                    add.arg(TRACE).arg(context);
                }
                add.ignore();
            }
            let mut connection = self.connection.clone();
            let mut published = self.within(pipe.query_async::<()>(&mut connection)).await;
            if let Err(QueueError::Redis(error)) = &published
                && !error.is_io_error()
            {
                // The failed call may have repaired the keys.
                published = self.within(pipe.query_async(&mut connection)).await;
            }
            spans.end(&published);
            published?;
        }
        Ok(())
    }

    /// Creates the stream and its group if they do not exist. Existing entries will be delivered. Orders may be missing in a new
    /// group: see [`Queue::loss`].
    ///
    /// # Errors
    /// Redis is down or refuses the call.
    pub async fn ensure_group(&self) -> Result<(), QueueError> {
        let script = Script::new(
            // Entries that were removed from the stream earlier count as read by the group; see `Queue::loss`.
            "local removed = 0 \
             if redis.call('EXISTS', KEYS[1]) == 1 then \
               local stream = redis.call('XINFO', 'STREAM', KEYS[1]) \
               local of = {} \
               for i = 1, #stream, 2 do of[stream[i]] = stream[i + 1] end \
               removed = of['entries-added'] - of['length'] \
             end \
             local made = redis.pcall( \
               'XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM', 'ENTRIESREAD', removed) \
             if made.err then return made end \
             redis.call('DEL', KEYS[2]) \
             return made",
        );
        let mut call = script.key(STREAM);
        call.key(REFILL).arg(GROUP);
        let mut connection = self.connection.clone();
        match self.within(call.invoke_async::<()>(&mut connection)).await {
            Err(QueueError::Redis(error)) if error.code() == Some("BUSYGROUP") => Ok(()),
            result => result,
        }
    }

    /// Acknowledges entries. Acknowledging an entry again is not an error.
    ///
    /// # Errors
    /// Redis is down or refuses the call. The entries will be delivered again.
    pub async fn ack_many(&self, deliveries: &[Delivery]) -> Result<(), QueueError> {
        let entry_ids: Vec<_> =
            deliveries.iter().map(|delivery| delivery.entry_id.as_str()).collect();
        self.ack_entries(&entry_ids).await
    }

    pub(crate) async fn ack_entries(&self, entry_ids: &[&str]) -> Result<(), QueueError> {
        for entry_ids in entry_ids.chunks(CALL_MAX) {
            let mut ack = redis::cmd("XACK");
            ack.arg(STREAM).arg(GROUP).arg(entry_ids);
            let mut connection = self.connection.clone();
            self.within(ack.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Sets orders aside until a delay has passed and acknowledges their entries, atomically.
    ///
    /// # Errors
    /// Redis is down or refuses the call. The entries will be delivered again.
    pub async fn retry_later(&self, retries: &[(Delivery, Duration)]) -> Result<(), QueueError> {
        for retries in retries.chunks(CALL_MAX) {
            let script = Script::new(
                "local time = redis.call('TIME') \
                 local now = time[1] * 1000 + math.floor(time[2] / 1000) \
                 for i = 2, #ARGV, 3 do \
                   redis.call('ZADD', KEYS[2], now + ARGV[i + 1], ARGV[i + 2]) \
                   redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) \
                 end",
            );
            let mut call = script.key(STREAM);
            call.key(RETRIES).arg(GROUP);
            for (delivery, delay) in retries {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                call.arg(&delivery.entry_id).arg(delay_ms).arg(member(&delivery.job));
            }
            let mut connection = self.connection.clone();
            self.within(call.invoke_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Sets aside orders that no consumer has, until a delay has passed. An order that is already set aside gets
    /// the new delay.
    ///
    /// # Errors
    /// Redis is down or refuses the call. Some of the orders may have been set aside.
    pub async fn set_aside(&self, jobs: &[(Job, Duration)]) -> Result<(), QueueError> {
        for jobs in jobs.chunks(CALL_MAX) {
            let script = Script::new(
                "local time = redis.call('TIME') \
                 local now = time[1] * 1000 + math.floor(time[2] / 1000) \
                 for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], now + ARGV[i], ARGV[i + 1]) end",
            );
            let mut call = script.key(RETRIES);
            for (job, delay) in jobs {
                call.arg(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)).arg(member(job));
            }
            let mut connection = self.connection.clone();
            self.within(call.invoke_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Moves up to `limit` due retries back into the stream, and returns how many.
    ///
    /// # Errors
    /// Redis is down or refuses the call.
    pub async fn promote_due(&self, limit: usize) -> Result<usize, QueueError> {
        let script = Script::new(
            "local time = redis.call('TIME') \
             local now = time[1] * 1000 + math.floor(time[2] / 1000) \
             local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1]) \
             for _, member in ipairs(due) do \
               local id, context = string.match(member, '^(%d+) ?(.*)$') \
               if id and context ~= '' then \
                 redis.call('XADD', KEYS[1], '*', ARGV[2], id, ARGV[3], context) \
               elseif id then \
                 redis.call('XADD', KEYS[1], '*', ARGV[2], id) \
               end \
               redis.call('ZREM', KEYS[2], member) \
             end \
             return #due",
        );
        let mut call = script.key(STREAM);
        call.key(RETRIES).arg(limit.min(CALL_MAX)).arg(ORDER).arg(TRACE);
        let mut connection = self.connection.clone();
        self.within(call.invoke_async(&mut connection)).await
    }

    /// Tells Redis that these entries are still in flight, so that no consumer takes them over. Only for orders
    /// whose claim is still valid. Otherwise, this would take an entry away from the consumer that has taken it
    /// over.
    ///
    /// # Errors
    /// Redis is down or refuses the call.
    pub async fn keep_alive(
        &self,
        consumer: &str,
        deliveries: &[Delivery],
    ) -> Result<(), QueueError> {
        for deliveries in deliveries.chunks(CALL_MAX) {
            let mut claim = redis::cmd("XCLAIM");
            claim.arg(STREAM).arg(GROUP).arg(consumer).arg(0);
            for delivery in deliveries {
                claim.arg(&delivery.entry_id);
            }
            claim.arg("JUSTID");
            let mut connection = self.connection.clone();
            self.within(claim.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Removes the oldest done entries, in whole blocks of Redis's storage, so some may stay. Never removes entries
    /// that are in flight or not delivered. Redis's default limit of 10,000 entries per call is off, because
    /// workers can finish more orders between two calls.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn trim(&self) -> Result<(), QueueError> {
        let script = Script::new(
            "local pending = redis.call('XPENDING', KEYS[1], ARGV[1]) \
             local first = pending[2] \
             if not first then \
               for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
                 local found, last \
                 for i = 1, #group, 2 do \
                   if group[i] == 'name' then found = group[i + 1] == ARGV[1] end \
                   if group[i] == 'last-delivered-id' then last = group[i + 1] end \
                 end \
                 if found then first = last end \
               end \
             end \
             if first then redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', 0) end",
        );
        let mut connection = self.connection.clone();
        self.within(script.key(STREAM).arg(GROUP).invoke_async::<()>(&mut connection)).await
    }

    /// Removes consumers that have no entries in flight and have been idle for `idle`. Each process has a new name, so they would
    /// accumulate.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn forget_consumers(&self, idle: Duration) -> Result<(), QueueError> {
        let script = Script::new(concat!(
            stream_exists!(),
            "for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
               local of = {} \
               for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end \
               if of['pending'] == 0 and of['idle'] > tonumber(ARGV[2]) then \
                 redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of['name']) \
               end \
             end",
        ));
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let mut call = script.key(STREAM);
        call.arg(GROUP).arg(idle_ms);
        let mut connection = self.connection.clone();
        self.within(call.invoke_async::<()>(&mut connection)).await
    }
}

fn member(job: &Job) -> String {
    match &job.trace_context {
        Some(context) => format!("{} {context}", job.order_id),
        None => job.order_id.to_string(),
    }
}
