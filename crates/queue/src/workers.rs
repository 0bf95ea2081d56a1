//! The workers that read from the queue.

use std::time::Duration;

use redis::Script;

use crate::{
    Queue, QueueError,
    keys::{GROUP, STREAM, stream_exists},
};

impl Queue {
    /// The number of workers that have read from the queue within this time. A worker reads at least once a second,
    /// unless it has all the orders that it can take; then it keeps its entries alive.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn workers_seen(&self, within: Duration) -> Result<u64, QueueError> {
        let script = Script::new(concat!(
            stream_exists!(),
            "local seen = 0 \
             for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
               for i = 1, #consumer, 2 do \
                 if consumer[i] == 'idle' and consumer[i + 1] <= tonumber(ARGV[2]) then seen = seen + 1 end \
               end \
             end \
             return seen",
        ));
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let mut call = script.key(STREAM);
        call.arg(GROUP).arg(within_ms);
        let mut connection = self.connection.clone();
        self.within(call.invoke_async(&mut connection)).await
    }
}
