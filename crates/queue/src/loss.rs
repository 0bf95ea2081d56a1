//! Whether the queue has lost orders.
//!
//! Redis may be flushed, start empty, or be trimmed by hand. What remains then looks like a short queue. So a
//! second key records that every unfinished order was published to the stream. The key disappears together with the
//! stream. Trimming by hand leaves the key, but then fewer entries wait than the group still has to read.
//!
//! A replica that becomes the primary has the key, but may lack the last entries. So with Sentinels and in a cluster,
//! the key also names the server process, and the key of another process counts as missing.

use redis::Script;

use crate::{
    Queue, QueueError,
    depth::COUNT_MAX,
    keys::{GROUP, REFILL, RETRIES, STREAM, group_state, known_loss},
};

/// The value of the key when nothing is missing. Otherwise, the value is the time at which the loss was noticed.
const WHOLE: &str = "whole";

/// Whether the queue has lost orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Every unfinished order was published to this stream.
    None,
    /// Orders are missing, and no process has recorded that.
    New,
    /// Orders that have been pending since before this time may be missing: microseconds since 1970, by the database's clock.
    Before(i64),
}

impl Queue {
    /// Whether orders are missing. With `now`, a new loss is recorded with this time, so that all workers use the same.
    ///
    /// # Errors
    /// Redis is down or refuses the call, or the group does not exist.
    pub async fn loss(&self, now: Option<i64>) -> Result<Loss, QueueError> {
        let script = Script::new(concat!(
            group_state!(),
            known_loss!(4),
            "if known and not cut then return known end \
             if ARGV[3] == '' then return '' end \
             if cut then \
               redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD', added - waiting) \
             end \
             redis.call('SET', KEYS[3], ARGV[3] .. run) \
             return ARGV[3]",
        ));
        let mut call = script.key(STREAM);
        call.key(RETRIES).key(REFILL).arg(GROUP).arg(COUNT_MAX);
        call.arg(now.map(|now| now.to_string()).unwrap_or_default()).arg(self.names_server());
        let mut connection = self.connection.clone();
        let known: String = self.within(call.invoke_async(&mut connection)).await?;
        Ok(match known.as_str() {
            WHOLE => Loss::None,
            // Empty, or not a time: nobody has recorded the loss.
            text => text.parse().map_or(Loss::New, Loss::Before),
        })
    }

    /// Records that all orders that were pending before this time have been published again. Has no effect if orders
    /// have been lost once more.
    ///
    /// # Errors
    /// Redis is down or refuses the call.
    pub async fn refilled(&self, before: i64) -> Result<(), QueueError> {
        let script = Script::new(concat!(
            known_loss!(3),
            "if known == ARGV[1] then redis.call('SET', KEYS[3], ARGV[2] .. run) end",
        ));
        let mut call = script.key(STREAM);
        call.key(RETRIES).key(REFILL).arg(before).arg(WHOLE).arg(self.names_server());
        let mut connection = self.connection.clone();
        self.within(call.invoke_async::<()>(&mut connection)).await
    }

    /// `1` if the record of losses names the server process.
    pub(crate) fn names_server(&self) -> i32 {
        i32::from(self.servers.can_fail_over())
    }
}
