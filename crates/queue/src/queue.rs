//! The queue without its blocking read.

use std::{sync::Arc, time::Duration};

use redis::{Client, RedisResult, Script, TlsCertificates};

use crate::{
    Delivery, QueueError,
    connection::Connection,
    keys::{GROUP, ORDER, RETRIES, STREAM, TRACE, stream_exists},
    trace::Publishing,
};

/// The most orders of one call; longer lists are cut into round trips of this size.
const CALL_MAX: usize = 1024;

/// How to reach the queue, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Where Redis is, e.g. `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: certificates (PEM) of the authorities by which the server is known.
    /// `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// The longest wait for an answer, and for a connection.
    pub op_timeout: Duration,
    /// How long a consumer's read waits in Redis for an order to come.
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

    /// Does not connect yet.
    pub(crate) fn client(&self) -> RedisResult<Client> {
        let url = self.redis_url.as_str();
        match &self.redis_ca {
            Some(ca) => {
                let root_cert = Some(ca.to_vec());
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })
            }
            None => Client::open(url),
        }
    }
}

/// An order on its way to the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which order.
    pub order_id: i64,
    /// The W3C `traceparent` of the request that placed it, if that is sampled.
    pub trace_context: Option<String>,
}

/// The queue. Cheap to clone; all clones share one connection, which is made again by itself.
#[derive(Clone)]
pub struct Queue {
    pub(crate) connection: Connection,
    pub(crate) settings: QueueSettings,
}

impl Queue {
    /// Makes the queue. Connects when it is first used: a Redis that is away is no reason not to
    /// start. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn connect(settings: QueueSettings) -> Result<Self, QueueError> {
        Ok(Self { connection: Connection::new(&settings)?, settings })
    }

    /// Runs a call within the timeout, the making of a connection included.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, QueueError> {
        match tokio::time::timeout(self.settings.op_timeout, call).await {
            Ok(answer) => {
                answer.inspect_err(|error| self.connection.refused(error)).map_err(QueueError::from)
            }
            Err(_elapsed) => Err(QueueError::Timeout),
        }
    }

    /// Puts orders into the queue, many in one round trip. The trace of an order that has one goes
    /// on from the span of this.
    ///
    /// # Errors
    /// Redis is away or refuses. Some of the orders may be in the queue then.
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
            let mut connection = self.connection.get();
            let published = self.within(pipe.query_async::<()>(&mut connection)).await;
            spans.end(&published);
            published?;
        }
        Ok(())
    }

    /// Makes the stream and its group if they are missing. Entries that are there already will be
    /// delivered.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn ensure_group(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.get();
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(STREAM).arg(GROUP).arg("0").arg("MKSTREAM");
        match self.within(create.query_async::<()>(&mut connection)).await {
            Err(QueueError::Redis(error)) if error.code() == Some("BUSYGROUP") => Ok(()),
            result => result,
        }
    }

    /// Says that these entries are done. One that was done already is no error.
    ///
    /// # Errors
    /// Redis is away or refuses; the entries will be delivered again then.
    pub async fn ack_many(&self, deliveries: &[Delivery]) -> Result<(), QueueError> {
        let entry_ids: Vec<_> =
            deliveries.iter().map(|delivery| delivery.entry_id.as_str()).collect();
        self.ack_entries(&entry_ids).await
    }

    pub(crate) async fn ack_entries(&self, entry_ids: &[&str]) -> Result<(), QueueError> {
        for entry_ids in entry_ids.chunks(CALL_MAX) {
            let mut ack = redis::cmd("XACK");
            ack.arg(STREAM).arg(GROUP).arg(entry_ids);
            let mut connection = self.connection.get();
            self.within(ack.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Puts orders aside until a delay has passed, and says that their entries are done: both or
    /// neither.
    ///
    /// # Errors
    /// Redis is away or refuses; the entries will be delivered again then.
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
            let mut connection = self.connection.get();
            self.within(call.invoke_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Puts retries that are due back into the stream, at most `limit`, and says how many.
    ///
    /// # Errors
    /// Redis is away or refuses.
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
        let mut connection = self.connection.get();
        self.within(call.invoke_async(&mut connection)).await
    }

    /// Tells Redis that these entries are still being worked on, so that nobody takes them over.
    /// Only for orders whose claim still holds: it would take an entry back from its heir.
    ///
    /// # Errors
    /// Redis is away or refuses.
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
            let mut connection = self.connection.get();
            self.within(claim.query_async::<()>(&mut connection)).await?;
        }
        Ok(())
    }

    /// Cuts off the done entries at the old end of the stream, in whole blocks of its storage, so
    /// some may stay. Never cuts what is in hand or not delivered. Without Redis's usual limit of
    /// 10,000 entries a call, which is less than a worker gets done between two calls.
    ///
    /// # Errors
    /// Redis is away or refuses, or the group does not exist.
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
        let mut connection = self.connection.get();
        self.within(script.key(STREAM).arg(GROUP).invoke_async::<()>(&mut connection)).await
    }

    /// Forgets consumers that hold nothing and have not been heard of for `idle`: each process
    /// brings a name of its own, and they would pile up.
    ///
    /// # Errors
    /// Redis is away or refuses, or the group does not exist.
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
        let mut connection = self.connection.get();
        self.within(call.invoke_async::<()>(&mut connection)).await
    }
}

fn member(job: &Job) -> String {
    match &job.trace_context {
        Some(context) => format!("{} {context}", job.order_id),
        None => job.order_id.to_string(),
    }
}
