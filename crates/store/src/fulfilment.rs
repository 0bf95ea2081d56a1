//! The claims of workers on orders.
//!
//! A claim is a lease: `processing`, until a time. Each claim raises the order's `attempt`, and every
//! later write names the attempt it belongs to, so that a worker whose lease ran out cannot
//! write over what its successor did.
//!
//! All statements here skip the rows that others have locked and wait for none, so a locked row delays its own
//! order only. Those that write about claims say which of them they missed: [`WrittenClaims`].
//!
//! The statements are written so that no statistics lead the planner astray, as those of a table
//! that a flash sale has just filled do. Each order is looked up by its id, in the order of the
//! array: a subquery with a lock in it is never flattened. An array that comes from a subquery is
//! taken for a short one, whatever its length. And a status within a `CASE` cannot be looked for in
//! the index by status, which would be read from end to end for each order. As plain
//! joins they can be a hundred times slower.
//!
//! All work on many orders in one round trip, each is a transaction of its own, and none waits
//! longer than `statement_timeout` and a little: a server that hangs does not answer its own
//! timeouts.

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
