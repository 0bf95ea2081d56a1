//! Keys and names in Redis.

/// The hash tag of all keys.
pub(crate) const TAG: &str = "orders";
/// One entry per published order.
pub(crate) const STREAM: &str = "holdfast:{orders}:stream";
/// Orders whose next attempt is due later, by time.
pub(crate) const RETRIES: &str = "holdfast:{orders}:retries";
/// The record of losses, which says whether all unfinished orders are in the stream: see `loss.rs`.
pub(crate) const REFILL: &str = "holdfast:{orders}:refill";
/// The consumer group of all workers.
pub(crate) const GROUP: &str = "fulfilment";
/// The field of an entry with the order's id.
pub(crate) const ORDER: &str = "o";
/// The field of an entry with the trace context.
pub(crate) const TRACE: &str = "t";
/// An id before all entries.
pub(crate) const FIRST: &str = "0-0";
/// An id after each entry of a consumer. (The greatest possible id means `>`.)
pub(crate) const AFTER_ALL: &str = "18446744073709551615-0";

/// The prefix of a script that uses `XINFO`. Redis reports a missing stream only as text, so the prefix makes the
/// script return the code of a missing group. The stream is the first key.
macro_rules! stream_exists {
    () => {
        "if redis.call('EXISTS', KEYS[1]) == 0 then \
           return redis.error_reply('NOGROUP no such stream') \
         end "
    };
}
pub(crate) use stream_exists;

/// The prefix of a script that needs the record of losses: see `loss.rs`. KEYS: stream, retries, refill. `$n`: the number of
/// the argument that is `1` if the record must be of the server that runs the script.
///
/// Sets `known` to the record without the server's name, and `run` to what the record of this server ends with.
macro_rules! known_loss {
    ($n:literal) => {
        concat!(
            "local run = '' \
             if ARGV[",
            $n,
            "] == '1' then \
               run = ':' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') \
             end \
             local known = redis.call('GET', KEYS[3]) \
             if known and run ~= '' then \
               if string.sub(known, -#run) == run then \
                 known = string.sub(known, 1, -#run - 1) \
               else \
                 known = false \
               end \
             end "
        )
    };
}
pub(crate) use known_loss;

/// The prefix of a script that needs the number of waiting entries. KEYS: stream, retries, refill; ARGV: the group, and
/// the most entries that are counted one by one.
///
/// Sets `waiting`, `in_flight`, the last delivered id `last`, the number of entries that were `added` to the stream,
/// and whether unread entries were `cut` off. After `XDEL`, the group's own count of read entries is unknown, and then
/// `cut` is unknown as well.
macro_rules! group_state {
    () => {
        concat!(
            $crate::keys::stream_exists!(),
            "local function of(list) \
               local of = {} \
               for i = 1, #list, 2 do of[list[i]] = list[i + 1] end \
               return of \
             end \
             local last, lag, in_flight, read_ever \
             for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
               local it = of(group) \
               if it['name'] == ARGV[1] then \
                 last, lag, in_flight = it['last-delivered-id'], it['lag'], it['pending'] \
                 read_ever = it['entries-read'] \
               end \
             end \
             if not last then return redis.error_reply('NOGROUP no such group') end \
             local function count(from, to, most) \
               local counted = 0 \
               while counted < most do \
                 local page = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 500) \
                 counted = counted + #page \
                 if #page < 500 then return counted end \
                 from = '(' .. page[#page][1] \
               end \
             end \
             local all, most = redis.call('XLEN', KEYS[1]), tonumber(ARGV[2]) \
             local waiting \
             local read = count('-', last, most) \
             if read then \
               waiting = all - read \
             else \
               waiting = count('(' .. last, '+', most) \
               if not waiting and lag then \
                 waiting = math.min(lag, all) \
               elseif not waiting then \
                 waiting = all - count('-', last, math.huge) \
               end \
             end \
             local added = of(redis.call('XINFO', 'STREAM', KEYS[1]))['entries-added'] \
             local cut = added and read_ever and waiting < added - read_ever "
        )
    };
}
pub(crate) use group_state;
