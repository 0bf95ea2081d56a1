//! A cached product and its stock changes, as this crate sees them.

use std::sync::Arc;

use bytes::Bytes;

/// A cached product.
///
/// The crate reads only its version and its stock. The version grows by exactly one with each committed change of the
/// product's row. Versions must stay below 2^53, because the scripts in Redis compare them as Lua numbers.
pub trait Entry: Clone + Send + Sync + 'static {
    /// The row version that this value was read at.
    fn version(&self) -> i64;

    /// The units that are left.
    fn stock(&self) -> i64;

    /// Makes this the same product at a later version that differs only in its stock.
    fn set_stock(&mut self, version: i64, stock: i64);

    /// The response body. Called once for each value, and once at the next read after its stock was patched; never on
    /// a plain hit.
    fn encode(&self) -> Bytes;

    /// Decodes what [`encode`](Self::encode) of this or another release has written. `None` makes the read a miss, so an older
    /// format is not an error.
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
    /// The units that are left at `version`.
    pub stock: i64,
}

/// The tier that answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The memory of this process.
    Process,
    /// Redis.
    Redis,
    /// Neither: the loader of this caller, or of one that it waited for.
    None,
}

/// An answer to a read.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The row version.
    pub version: i64,
    /// The units that are left.
    pub stock: i64,
    /// The response body; cloning it copies nothing.
    pub body: Bytes,
    pub tier: Tier,
}

/// The loader's error, shared by all callers that waited for the same load. Use `downcast_ref` to get it.
pub type LoadError = Arc<dyn std::error::Error + Send + Sync>;
