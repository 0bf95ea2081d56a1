//! The product read cache: ready response bodies in this process's memory and in Redis.
//!
//! Here live: both tiers, their invalidation between writers and readers and between replicas, and
//! the breaker that keeps a Redis in trouble from troubling anybody else. Must not live here: what
//! a product is (see [`Entry`] for the little that is asked of it), SQL, HTTP, and metrics beyond
//! plain counters.
//!
//! # The promise
//! A read on this replica never shows less than a change that was acknowledged on this replica
//! before the read. A read on another replica is behind by one message, and by
//! [`CacheSettings::max_age`] at most, whatever is killed, emptied, hung or cut off in between.
//!
//! # The fill race, and the fence
//! Deleting a cached value after a commit is not enough. A reader that missed may have read the row
//! before the commit and fill the old value in after the deletion, where it stays for its whole time
//! to live; and a writer that dies between its commit and the deletion leaves the old value too. So:
//!
//! - Rows have a version that grows by one with each committed change, under the row's lock.
//! - A writer [raises](Cache::raise) the *fence* to the version that it is about to commit, **while
//!   it holds the row's lock and before it commits**. This deletes the value and from then on lets
//!   nothing older in. Only a row read after the commit can be that new. From there on the writer
//!   may be killed at any point: if it committed, nothing stale is left; if it did not, the
//!   product is merely not cached until its next change or until the fence expires.
//! - A reader that misses is given a *lease*, a nonce which its fill must show again (Nishtala et al.,
//!   "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1). An emptied Redis, an expiry or an
//!   eviction takes the lease away together with the fence, so that a reader from before cannot
//!   profit from the fence's loss. Unlike there, a raise leaves the lease be, because the fence can
//!   tell a value read since from one read before.
//! - After the commit the fence is raised again, off the caller's path, in case Redis was emptied
//!   between raise and commit and a reader filled in between.
//!
//! # Memory, and the other replicas
//! Each product has a cell in the process: its fence, the newest committed version, the value, and
//! the load under way. A `raise` also publishes the fence, in the same round trip and before
//! the commit; other replicas from then on do not serve their value until they hear more. After the
//! commit the writer publishes what became of the stock, and they patch their value and serve it
//! again: a product that is ordered hundreds of times a second stays in everybody's memory. All that
//! is said after the commit may be lost; what is said before it need only arrive.
//!
//! A value is kept in memory only if Redis answered at the miss (its fence stands for all messages
//! from before) and the subscription held from before the miss until now (for all since). It is
//! served only while the subscription is proved alive (see the `subscription` module): a second
//! after the last proof at most. An eviction between miss and fill is harmless here too: a load
//! writes to the cell that it began with, and an evicted cell is found by nobody.
//!
//! The writing replica serves the old value until its commit, as it is true until then, and patches
//! it in [`Cache::committed`] or drops it in [`Cache::changed`], before its caller is answered.
//! Concurrent misses share one load; who comes after a change is not given the answer of a load
//! that began before it, unless the change's stock could be patched in.
//!
//! # Redis in trouble
//! Every call has a short limit in time. After a failure Redis is not called at all (see the
//! `health` module): invalidations are put down as owed and delivered when it is back, and only
//! after a quarantine, in which all replicas have time to do the same, is it read again. If there
//! are too many to remember, all products are deleted instead.
//!
//! A Redis that was restarted from its disk, or a replica that was promoted, may hold values whose
//! deletion it has forgotten. So each key contains the `run_id` of the server process: another
//! process starts empty, and what it remembers expires unread.
//!
//! # A database that goes back
//! Versions grow with each change, but a database that is restored, or that fails over to a copy which
//! lacks the last commits, has lower ones again, and every fence and value of before would win against them. So
//! keys also contain which database the products are in ([`Cache::of_database`]), and a replica that is told
//! of another one forgets what it knows, and reads Redis only after a quarantine in which the others are told too. What
//! was committed before and is told afterwards is not believed.
//!
//! # Without word of a change
//! All of the above makes other replicas right within a message. What it rests on can fail: a writer that is cut off
//! from a Redis which others reach, and even more one that is killed then; a Redis that is split into two masters.
//! So no answer is older than [`CacheSettings::max_age`] by the database (see the `confirm` module), wherever it comes
//! from: a value in memory must have been read or found unchanged there within that time, and one in Redis bears the time
//! before it was read, by the clock of Redis, and is too old after it. A replica that cannot ask the database serves nothing
//! that is older.

mod cache;
mod cell;
mod confirm;
mod entry;
mod fence_guard;
mod flight;
mod health;
mod l1;
mod l2;
mod lease;
mod message;
mod metrics;
mod reconnect;
mod redis_connection;
mod settings;
mod subscription;
mod tiers;
mod value;
mod writer;

pub use cache::{Cache, CacheError};
pub use entry::{Entry, Hit, LoadError, StockChange, Tier};
pub use fence_guard::FenceGuard;
pub use metrics::{CacheMetrics, Gauges};
pub use settings::CacheSettings;
