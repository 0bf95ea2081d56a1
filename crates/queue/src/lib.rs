//! The order queue on Redis Streams: ids of orders on their way from the API to the workers.
//!
//! This crate contains publishing ([`Queue::publish_many`]), consuming ([`Consumer`]), retries, taking over messages of dead
//! consumers, and the depth of the queue. It knows only the ids of orders. The queue may lose everything, because the `orders`
//! table is authoritative and a sweep publishes lost orders again. It may also deliver a message twice, because a worker claims
//! an order in the database first.
//!
//! # Keys
//!
//! | key | type | contents |
//! |---|---|---|
//! | `holdfast:{orders}:stream` | stream | one entry per published order: `o` its id, `t` the trace context if it is sampled |
//! | `holdfast:{orders}:retries` | sorted set | orders whose next attempt is due later; the score is that time by Redis's clock, in ms |
//! | `holdfast:{orders}:refill` | string | `whole` if every unfinished order was published to this stream, otherwise the time at which a loss was noticed |
//!
//! All have the same hash tag, so that scripts can use them together in a cluster. There is one consumer group,
//! `fulfilment`. Each process is a consumer with its own name, because two consumers with the same name would
//! receive each other's entries.
//!
//! # The states of an entry
//!
//! ```text
//! publish ──▶ waiting ──XREADGROUP──▶ in flight ──XACK──▶ done ──trim──▶ deleted
//!               ▲                      │    ▲
//!               │                 retry│    └─XAUTOCLAIM─ in flight at a dead consumer
//!               └──due── later ◀───────┘
//! ```
//!
//! [`Queue::depth`] counts the entries that are waiting, in flight, and set aside for later.
//!
//! An entry that does not name an order is acknowledged when it is read. Otherwise, it would be delivered again for
//! ever.
//!
//! # Trimming
//!
//! Done entries are not deleted one by one: that would be one more command per order, and `XDEL` makes Redis forget
//! how many entries a group still has to read (redis#13337). [`Queue::trim`] cuts the stream at the oldest entry in
//! flight or, if there is none, at the last delivered one. It never removes entries that were not delivered. The
//! disadvantage is that while one order takes an hour, the done entries of that hour stay, at about 50 bytes each.
//!
//! # When Redis is down, hung or emptied
//!
//! Each call has a timeout and reports its failure. The caller decides how long to wait before the next call.
//! Connections are established again automatically, and a missing group is created by its readers. Redis must be
//! version 7 or later, or Valkey.
//!
//! [`Queue::loss`] says whether orders are missing, because Redis was flushed, started empty, was trimmed by hand, or because
//! Sentinels or a cluster have made another server the primary, which may lack the last entries. The workers
//! then publish all pending orders again. Until then, [`Queue::whole_depth`] is an error.
//!
//! # When another program has written to the keys
//!
//! After a call that Redis refuses, and before each sweep, [`Queue::mend`] deletes what cannot be used.

mod consumer;
mod depth;
mod diagnosis;
mod error;
mod keys;
mod loss;
mod mend;
mod queue;
mod trace;
mod workers;

pub use consumer::{Consumer, Delivery, StreamEntry};
pub use depth::Depth;
pub use diagnosis::RedisDiagnosis;
pub use error::QueueError;
pub use loss::Loss;
pub use queue::{Job, Queue, QueueSettings};

/// The queue, as its publishers see it.
pub type Publisher = Queue;
