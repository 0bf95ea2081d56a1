//! Repairs the queue's keys after another program has written to them.

use redis::Script;

use crate::{
    Queue, QueueError,
    keys::{FIRST, GROUP, REFILL, RETRIES, STREAM},
};

/// An id that is ahead of Redis's clock by more than this was not assigned by Redis.
const AHEAD_MAX_MS: u64 = 24 * 3600 * 1000;

impl Queue {
    /// Makes the queue's keys usable. Deletes keys of the wrong type, a record of losses that cannot be read, and a
    /// stream whose ids are far ahead of the clock, because the ages of its entries would be wrong and its ids may be
    /// exhausted. Resets the group if it is ahead of its stream, because it would deliver nothing. If anything was
    /// wrong, the queue then counts as one that has lost orders: see [`Queue::loss`]. Returns whether anything was
    /// wrong.
    ///
    /// # Errors
    /// Redis is down or refuses the call.
    pub async fn mend(&self) -> Result<bool, QueueError> {
        let script = Script::new(
            "local wrong = {} \
             local function drop(key, what) \
               redis.call('UNLINK', key) \
               table.insert(wrong, what) \
             end \
             local type = redis.call('TYPE', KEYS[2]).ok \
             if type ~= 'none' and type ~= 'zset' then drop(KEYS[2], 'retries of the type ' .. type) end \
             type = redis.call('TYPE', KEYS[3]).ok \
             if type ~= 'none' then \
               local known = type == 'string' and redis.call('GET', KEYS[3]) \
               if known and ARGV[4] == '1' then known = string.match(known, '^(%w+):%x+$') or known end \
               if not known or known ~= 'whole' and not string.match(known, '^%d+$') then \
                 drop(KEYS[3], 'a record of losses that cannot be read') \
               end \
             end \
             type = redis.call('TYPE', KEYS[1]).ok \
             if type ~= 'none' and type ~= 'stream' then \
               drop(KEYS[1], 'a stream of the type ' .. type) \
             elseif type == 'stream' then \
               local function parts(id) \
                 local ms, number = string.match(id, '^(%d+)-(%d+)$') \
                 return tonumber(ms), tonumber(number) \
               end \
               local stream = redis.call('XINFO', 'STREAM', KEYS[1]) \
               local ms, number \
               for i = 1, #stream, 2 do \
                 if stream[i] == 'last-generated-id' then ms, number = parts(stream[i + 1]) end \
               end \
               local time = redis.call('TIME') \
               if ms > time[1] * 1000 + tonumber(ARGV[3]) then \
                 drop(KEYS[1], 'a stream with ids ahead of the clock') \
               else \
                 for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
                   local of = {} \
                   for i = 1, #group, 2 do of[group[i]] = group[i + 1] end \
                   local group_ms, group_number = parts(of['last-delivered-id']) \
                   if of['name'] == ARGV[1] and \
                       (group_ms > ms or group_ms == ms and group_number > number) then \
                     redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2]) \
                     table.insert(wrong, 'a group ahead of its stream') \
                   end \
                 end \
               end \
             end \
             if #wrong > 0 then redis.call('UNLINK', KEYS[3]) end \
             return wrong",
        );
        let mut call = script.key(STREAM);
        call.key(RETRIES)
            .key(REFILL)
            .arg(GROUP)
            .arg(FIRST)
            .arg(AHEAD_MAX_MS)
            .arg(self.names_server());
        let mut connection = self.connection.clone();
        let wrong: Vec<String> = self.in_time(call.invoke_async(&mut connection)).await?;
        if wrong.is_empty() {
            return Ok(false);
        }
        tracing::warn!(
            found = wrong.join(", "),
            "another program has written to the queue's keys; all pending orders are published again"
        );
        Ok(true)
    }

    /// Must be called when Redis has refused a call, because the contents of the keys may be the cause.
    pub(crate) async fn mend_after(&self, error: &QueueError) {
        let QueueError::Redis(error) = error else { return };
        if !error.is_io_error() {
            // If this fails, the next call will fail as well.
            let _ = self.mend().await;
        }
    }
}
