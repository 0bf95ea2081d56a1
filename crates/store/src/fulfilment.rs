//! The claims of workers on orders.
//!
//! A claim is a lease: the order is `processing` until the lease ends. Each claim increases the order's `attempt`, and
//! every later write states the attempt to which it belongs. So a worker whose lease has expired cannot overwrite the
//! work of its successor.
//!
//! All statements here skip rows that other transactions have locked and never wait, so a locked row delays only its
//! own order. Statements that write about claims report the claims that they missed: [`WrittenClaims`].
//!
//! The statements are written so that wrong statistics do not mislead the planner, for example those of a table that a
//! flash sale has just filled. Each order is looked up by its id, in the order of the array, because a subquery with a
//! lock is never flattened. The planner assumes that an array from a subquery is short. Because the status is within a
//! `CASE`, the planner cannot use the index by status, which it would read completely for each order. Plain joins can
//! be a hundred times slower.
//!
//! Each statement works on many orders in one round trip and is its own transaction. Each has a time limit on our side
//! that is a little longer than `statement_timeout`, because a hung server does not enforce its own timeouts.

mod claim;
mod finish;
mod lease;
mod read;
mod sweep;
mod written;

pub use claim::Claim;
pub use finish::{AttemptResult, EndedClaim, Taken};
pub use read::{CLAIMED_BYTES_MAX, ClaimedOrder, ReadOrder};
pub use sweep::{SweepRule, Swept, SweptUpTo};
pub use written::WrittenClaims;
