//! The product read cache: rendered response bodies in this process's memory and in Redis.
//!
//! This crate contains both tiers, their invalidation between writers and readers and between replicas, and the circuit
//! breaker that isolates a failing Redis. It does not know what a product is ([`Entry`] is all that it needs), and
//! contains no SQL and no HTTP.
//!
//! # The guarantee
//! A read on this replica never returns a value from before a change that was acknowledged on this replica before the
//! read. A read on another replica usually lags by one message, and by at most [`CacheSettings::max_age`], whatever is
//! killed, emptied, hung or disconnected in between.
//!
//! # The fill race, and the fence
//! It is not enough to delete a cached value after a commit. A reader that missed may have read the row before the
//! commit and fill in the old value after the deletion, where it stays until it expires. Also, a writer that dies
//! between its commit and the deletion leaves the old value in the cache. Therefore:
//!
//! - Rows have a version that grows by one with each committed change, under the row's lock.
//! - A writer [raises](Cache::raise) the *fence* to the version that it is about to commit, **while it holds the row's
//!   lock and before it commits**. This deletes the value, and from then on rejects older ones. Only a row that is read
//!   after the commit can have that version. After that, the writer may be killed at any point: if it has committed,
//!   nothing stale is left; if not, the only effect is that the product is not cached until its next change or until
//!   the fence expires.
//! - A reader that misses gets a *lease*, a nonce that its fill must present (Nishtala et al., "Scaling Memcache at
//!   Facebook", NSDI 2013, section 3.2.1). If Redis is emptied, or the key expires or is evicted, the lease is lost
//!   together with the fence. So a slow reader cannot fill in an old value although the fence is lost. Unlike in that
//!   paper, raising the fence does not revoke leases, because the fence distinguishes values that were read before from
//!   those that were read after.
//! - After the commit, the fence is raised again in the background, in case Redis was emptied before the commit and a
//!   reader has then filled in an old value.
//!
//! # Memory, and the other replicas
//! Each product has a cell in the process: its fence, the newest committed version, the value, and the load in
//! progress. A `raise` also publishes the fence, in the same round trip and before the commit. Other replicas then do
//! not serve their value until the next message. After the commit the writer publishes the new stock, and they patch
//! their value and serve it again, so a product that is ordered hundreds of times a second stays in the memory of all
//! replicas. Messages after the commit may be lost; only the message before it must arrive.
//!
//! A value is kept in memory only if Redis answered at the miss (its fence covers all earlier messages) and the
//! subscription has been uninterrupted since before the miss (it covers all later ones). It is served only while the
//! subscription is proved alive (see the `subscription` module), that is, for at most a second after the last proof. An
//! eviction between miss and fill is harmless here, too: a load writes to the cell that it began with, and an evicted
//! cell is never found again.
//!
//! The writing replica serves the old value until its commit, because the value is true until then. It patches the
//! value in [`Cache::committed`] or drops it in [`Cache::changed`], before its caller is answered. Concurrent misses
//! share one load. A caller that comes after a change does not get the result of a load that began before it, unless
//! the change's stock could be patched in.
//!
//! # When Redis fails
//! Every call has a short timeout. After a failure, callers do not use Redis at all (see the `health` module):
//! invalidations are kept and delivered when Redis is back. It is read again only after a quarantine, in which all
//! replicas have time to deliver theirs. If there are too many invalidations to keep, all products are deleted instead.
//!
//! A Redis that was restarted from its disk, or a replica that was promoted, may contain values whose deletion it has
//! forgotten. Therefore, each key contains the `run_id` of the server process: for another process the cache starts
//! empty, and the old values expire unread.
//!
//! # When the database goes back in time
//! Versions grow with each change. But a database that is restored, or that fails over to a copy without the last
//! commits, has lower versions again, and all earlier fences and values would win against them. Therefore, keys also
//! identify the database that the products are in ([`Cache::of_database`]). A replica that learns of another database
//! forgets what it has cached, and reads Redis only after a quarantine in which the other replicas learn of it too.
//! Commits to the previous database that are reported afterwards are ignored.
//!
//! # When messages do not arrive
//! All of this updates other replicas within one message, but it can fail: a writer may lose its connection to a Redis
//! that others reach, or be killed before it sends its message, or Redis may have two primaries for a while. Therefore,
//! no answer is older than [`CacheSettings::max_age`] (see the `confirm` module). A value in memory must have been read
//! from the database, or confirmed there, within that time. A value in Redis has a time from before it was read, by
//! Redis's clock, and is used only for the same period after that time. A replica that cannot reach the database serves
//! nothing older.

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
