//! Keys and names in Redis.

/// One entry per published order.
pub(crate) const STREAM: &str = "holdfast:{orders}:stream";
/// Orders whose next attempt is due later, by time.
pub(crate) const RETRIES: &str = "holdfast:{orders}:retries";
/// The consumer group of all workers.
pub(crate) const GROUP: &str = "fulfilment";
/// The field of an entry with the order's id.
pub(crate) const ORDER: &str = "o";
/// The field of an entry with the trace context.
pub(crate) const TRACE: &str = "t";
/// An id before all entries.
pub(crate) const FIRST: &str = "0-0";

/// The beginning of a script that uses `XINFO`, which reports a missing stream in words only: the script ends with the code
/// of a missing group then. The stream is the first key.
macro_rules! stream_exists {
    () => {
        "if redis.call('EXISTS', KEYS[1]) == 0 then \
           return redis.error_reply('NOGROUP no such stream') \
         end "
    };
}
pub(crate) use stream_exists;
