//! The order queue on Redis: ids of orders on their way from the API to the workers.
//!
//! What lives here: publishing ([`Queue::publish_many`]), consuming ([`Consumer`]), retries, taking
//! over from the dead, and the depth of the queue. What must not: anything about orders beyond
//! their id. The queue may lose everything: the `orders` table is the truth, and a sweeper
//! publishes again what it lost. It may also deliver twice: who takes an order claims it in the
//! database first.
//!
//! # Keys
//!
//! | key | type | holds |
//! |---|---|---|
//! | `holdfast:{orders}:stream` | stream | one entry for each published order: `o` its id, `t` the trace context if it is sampled |
//! | `holdfast:{orders}:retries` | sorted set | orders whose next attempt is due later; the score is that time by Redis's clock, in ms |
//!
//! Both share a hash tag, so that scripts may touch both in a cluster. One consumer group,
//! `fulfilment`; each process is a consumer with a name of its own, because two that share a name
//! take each other's entries for their own.
//!
//! # The states of an entry
//!
//! ```text
//! publish ──▶ waiting ──XREADGROUP──▶ in hand ──XACK──▶ done ──trim──▶ gone
//!               ▲                      │    ▲
//!               │                 retry│    └─XAUTOCLAIM─ in hand of a dead consumer
//!               └──due── later ◀───────┘
//! ```
//!
//! [`Queue::depth`] counts waiting, in hand and later.
//!
//! # Trimming
//!
//! A done entry is not deleted one by one: `XDEL` in the middle of a stream makes Redis forget how
//! many entries a group has still to read (redis#13337). [`Queue::trim`] cuts the stream at
//! the oldest entry that is in hand or, if there is none, at the last one that was delivered. What
//! was not delivered is never cut.

mod consumer;
mod depth;
mod error;
mod keys;
mod queue;

pub use consumer::{Consumer, Delivery};
pub use depth::Depth;
pub use error::QueueError;
pub use queue::{Job, Queue, QueueSettings};

/// The publishing side, by the name that its users know it by.
pub type Publisher = Queue;
