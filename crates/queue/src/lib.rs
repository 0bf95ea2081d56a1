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
//! An entry that is not one of ours is acknowledged when it is read, or it would go round for ever.
//!
//! # Trimming
//!
//! A done entry is not deleted one by one: that is a command more for each order, and `XDEL` makes
//! Redis forget how many entries a group has still to read (redis#13337). [`Queue::trim`] cuts the
//! stream at the oldest entry that is in hand or, if there is none, at the last one that was
//! delivered. What was not delivered is never cut. The price: while one order takes an hour, the
//! done entries of that hour stay, some 50 bytes each.
//!
//! # Redis is away, hung or emptied
//!
//! Each call has a timeout, and says when it failed; who calls decides how long to wait before the
//! next. Connections are made again by themselves, and a group that is missing is made by whoever
//! reads. Redis must be 7 or later.

mod connection;
mod consumer;
mod depth;
mod error;
mod keys;
mod queue;
mod trace;

pub use consumer::{Consumer, Delivery, Entry};
pub use depth::Depth;
pub use error::QueueError;
pub use queue::{Job, Queue, QueueSettings};

/// The publishing side, by the name that its users know it by.
pub type Publisher = Queue;
