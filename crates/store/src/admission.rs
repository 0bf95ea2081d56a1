//! Admitting a batch of stock requests: one transaction, three round trips.
//!
//! 1. [`Store::lock_batch`](crate::Store::lock_batch): `BEGIN`, the keys and the locks, in one message.
//! 2. [`Batch::write`]: the stock, the ledger, and all orders and holds, in one statement.
//! 3. [`Writing::commit`].
//!
//! Between 1 and 2, the caller decides on the requests. [`Batch::expired_holds`] and [`Batch::count_customer_totals`]
//! need one more round trip each: the first if a product that runs short has holds, the second if a flash sale limits
//! what a customer may get.

mod batch;
mod connections;
mod customer_totals;
mod expired_holds;
mod lock;
mod missed_rows;
mod outcome;
mod parameters;
mod records;
mod write;

pub use batch::{Batch, CommitError, Writing};
pub use expired_holds::{EXPIRED_HOLDS_MAX, ExpiredHold};
pub use lock::{LockMode, WantedRows};
pub(crate) use missed_rows::taken_keys;
pub use missed_rows::{MissedRows, SeenRows};
pub use outcome::{BatchOutcome, BatchToken};
pub use records::{CancelledOrder, EndedHold, HoldRecord, OrderRecord, Records, Stored};
