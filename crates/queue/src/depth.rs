//! How much there is still to do.

use std::time::Duration;

use redis::Script;

use crate::{
    Queue, QueueError,
    keys::{GROUP, RETRIES, STREAM},
};

/// The orders in the queue, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Not yet delivered to any worker.
    pub waiting: u64,
    /// Delivered and not yet done.
    pub in_hand: u64,
    /// Set aside until their next attempt is due.
    pub later: u64,
}

impl Depth {
    /// All of them: what the workers are scaled by.
    pub fn total(self) -> u64 {
        self.waiting + self.in_hand + self.later
    }
}

impl Queue {
    /// Counts the orders in the queue.
    ///
    /// Redis's own count of what a group has still to read (`lag`) can be unknown, after `XDEL` for
    /// example (redis#13337). Then everything behind the last delivered entry is counted, as all
    /// entries less those up to it: the trimming keeps those few.
    ///
    /// # Errors
    /// Redis is away or refuses, or the group does not exist. An unknown depth is never 0.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let script = Script::new(
            "local last, lag, pending \
             for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
               local of = {} \
               for i = 1, #group, 2 do of[group[i]] = group[i + 1] end \
               if of['name'] == ARGV[1] then \
                 last, lag, pending = of['last-delivered-id'], of['lag'], of['pending'] \
               end \
             end \
             if not last then return redis.error_reply('NOGROUP no such group') end \
             if not lag then \
               local read, from = 0, '-' \
               repeat \
                 local page = redis.call('XRANGE', KEYS[1], from, last, 'COUNT', 1000) \
                 read = read + #page \
                 if #page > 0 then from = '(' .. page[#page][1] end \
               until #page < 1000 \
               lag = redis.call('XLEN', KEYS[1]) - read \
             end \
             return {lag, pending, redis.call('ZCARD', KEYS[2])}",
        );
        let mut call = script.key(STREAM);
        call.key(RETRIES).arg(GROUP);
        let mut connection = self.connection.clone();
        let (waiting, in_hand, later) = self.within(call.invoke_async(&mut connection)).await?;
        Ok(Depth { waiting, in_hand, later })
    }

    /// How long the entry that will be delivered next has been waiting; `None` if none waits.
    ///
    /// # Errors
    /// Redis is away or refuses, or the group does not exist.
    pub async fn oldest_waiting(&self) -> Result<Option<Duration>, QueueError> {
        let script = Script::new(
            "for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
               local of = {} \
               for i = 1, #group, 2 do of[group[i]] = group[i + 1] end \
               if of['name'] == ARGV[1] then \
                 local from = '(' .. of['last-delivered-id'] \
                 local next = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1] \
                 if not next then return -1 end \
                 local time = redis.call('TIME') \
                 local now = time[1] * 1000 + math.floor(time[2] / 1000) \
                 return math.max(0, now - tonumber(string.match(next[1], '^%d+'))) \
               end \
             end \
             return redis.error_reply('NOGROUP no such group')",
        );
        let mut connection = self.connection.clone();
        let age_ms: i64 =
            self.within(script.key(STREAM).arg(GROUP).invoke_async(&mut connection)).await?;
        Ok(u64::try_from(age_ms).ok().map(Duration::from_millis))
    }
}
