//! Identifiers: integers that the database assigns.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// The id of a product: positive and unique.
    ProductId
);
id!(
    /// The id of an order: positive and unique. Ids increase with time within one process, and
    /// approximately across processes.
    OrderId
);
id!(
    /// The id of a hold: positive and unique.
    HoldId
);
