//! What a statement about claims has reached.

use holdfast_domain::OrderId;
use sqlx::{Row as _, postgres::PgRow};

use crate::StoreError;

/// What was written about claims. The claims of all other orders are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenClaims {
    /// The orders for which it was written.
    pub done: Vec<OrderId>,
    /// The orders whose rows others have locked: nothing was written, and the claim still holds. Try these again.
    pub locked: Vec<OrderId>,
}

impl WrittenClaims {
    pub(super) fn read(rows: &[PgRow]) -> Result<Self, StoreError> {
        let mut written = Self { done: Vec::with_capacity(rows.len()), locked: Vec::new() };
        for row in rows {
            let order = OrderId(row.try_get("id")?);
            if row.try_get("locked")? { &mut written.locked } else { &mut written.done }
                .push(order);
        }
        Ok(written)
    }
}

/// The end of a statement about the claims in `$1` and `$2`, with those in `mine` that it has locked and those in
/// `written` that it has written.
///
/// A claim that is not in `mine` and holds in the statement's snapshot is locked. It may also have been lost since
/// the snapshot was taken; the next try tells.
macro_rules! written_and_locked {
    () => {
        "missed AS MATERIALIZED ( \
             SELECT asked.id, asked.attempt \
             FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) AS asked (id, attempt) \
             EXCEPT SELECT mine.id, mine.attempt FROM mine) \
         SELECT written.id, false AS locked FROM written \
         UNION ALL SELECT still.id, true FROM missed CROSS JOIN LATERAL ( \
             SELECT id FROM orders WHERE id = missed.id AND attempt = missed.attempt \
                 AND CASE status WHEN 'processing' THEN true ELSE false END OFFSET 0) AS still"
    };
}

pub(super) use written_and_locked;
