//! The depth of the queue, and the age of its oldest entry.

use std::time::Duration;

use redis::Script;

use crate::{
    Queue, QueueError,
    keys::{GROUP, REFILL, RETRIES, STREAM, group_state, known_loss, stream_exists},
};

/// The most entries that are counted one by one, on either side of the last delivered one, before `lag` is used.
/// Counting them takes Redis about a millisecond.
pub(crate) const COUNT_MAX: usize = 2000;

/// The orders in the queue, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Not yet delivered to any worker.
    pub waiting: u64,
    /// Delivered and not yet acknowledged.
    pub in_flight: u64,
    /// Set aside until their next attempt is due.
    pub later: u64,
}

impl Depth {
    /// The number by which workers are scaled.
    pub fn total(self) -> u64 {
        self.waiting + self.in_flight + self.later
    }
}

impl Queue {
    /// Counts the orders in the queue.
    ///
    /// Redis's own count of what a group has still to read (`lag`) can be unknown or wrong after `XDEL` or a
    /// manual trim (redis#13337). It is used only if there are many entries on both sides of the last delivered
    /// one. Otherwise, the entries up to it are counted and subtracted from the total, or else those after it
    /// are counted. Trimming keeps the number of entries up to it small. So the depth of a nearly empty queue is
    /// exact, whatever `lag` is.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist. An unknown depth is an error, never 0.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        self.counted(false).await
    }

    /// Like [`Queue::depth`], but fails if the queue lacks unfinished orders: a queue that has lost orders looks
    /// like a short one.
    ///
    /// # Errors
    /// As with [`Queue::depth`], and the queue has lost orders that are not published again yet.
    pub async fn whole_depth(&self) -> Result<Depth, QueueError> {
        self.counted(true).await
    }

    async fn counted(&self, whole: bool) -> Result<Depth, QueueError> {
        let script = Script::new(concat!(
            group_state!(),
            "if ARGV[3] == '1' then ",
            known_loss!(4),
            "if cut or known ~= 'whole' then \
                 return redis.error_reply('REFILL orders are missing') \
               end \
             end \
             return {waiting, in_flight, redis.call('ZCARD', KEYS[2])}",
        ));
        let mut call = script.key(STREAM);
        call.key(RETRIES).key(REFILL).arg(GROUP).arg(COUNT_MAX).arg(i32::from(whole));
        call.arg(self.names_server());
        let mut connection = self.connection.clone();
        let (waiting, in_flight, later) = self.within(call.invoke_async(&mut connection)).await?;
        Ok(Depth { waiting, in_flight, later })
    }

    /// How long the oldest undelivered entry has waited; `None` if there is none.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn oldest_waiting(&self) -> Result<Option<Duration>, QueueError> {
        let script = Script::new(concat!(
            stream_exists!(),
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
        ));
        let mut connection = self.connection.clone();
        let age_ms: i64 =
            self.within(script.key(STREAM).arg(GROUP).invoke_async(&mut connection)).await?;
        Ok(u64::try_from(age_ms).ok().map(Duration::from_millis))
    }
}
