//! What a cached product is to this crate, and how a change of it is told.

use std::sync::Arc;

use bytes::Bytes;

/// A cached product.
///
/// The crate reads nothing of it but its version and its stock; everything else is the owner's.
/// A version grows by exactly one with each committed change of the product's row. Versions must
/// stay below 2^53, because the scripts in Redis compare them as Lua numbers.
pub trait Entry: Clone + Send + Sync + 'static {
    /// The row version that this value was read at.
    fn version(&self) -> i64;

    /// How much is left, in pieces.
    fn stock(&self) -> i64;

    /// Makes this the same product at a later version at which only the stock differs.
    fn set_stock(&mut self, version: i64, stock: i64);

    /// The ready response body. Called once for a value, and once after each run of stock patches
    /// that a reader comes to see: never on a plain hit.
    fn encode(&self) -> Bytes;

    /// Reads back what [`encode`](Self::encode) wrote, perhaps in another release of the program.
    /// `None` makes the read a miss, so a body of an older form is no error.
    fn decode(version: i64, body: &Bytes) -> Option<Self>;
}

/// A committed change in which nothing but the stock of a product changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// The product's id.
    pub id: i64,
    /// The version before the transaction; every version from here to `version` differs from its
    /// neighbour in stock only.
    pub previous_version: i64,
    /// The version that the transaction committed.
    pub version: i64,
    /// What is left at `version`, in pieces.
    pub stock: i64,
}

/// Which tier answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The memory of this process.
    Process,
    /// Redis.
    Redis,
    /// No cache: the loader, this caller's own or one that it waited for.
    None,
}

/// An answer to a read.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The row version.
    pub version: i64,
    /// What is left, in pieces.
    pub stock: i64,
    /// The ready response body; cloning it copies nothing.
    pub body: Bytes,
    /// Where it came from.
    pub tier: Tier,
}

/// Why a load failed: the loader's own error, shared by all that waited for the same load.
/// `downcast_ref` gives it back.
pub type LoadError = Arc<dyn std::error::Error + Send + Sync>;
