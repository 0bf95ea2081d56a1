//! The result of a statement about claims.

use holdfast_domain::OrderId;

/// The result of a statement that writes about claims. The claims on all orders that are not listed here are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenClaims {
    /// The orders for which it was written.
    pub done: Vec<OrderId>,
    /// The orders with locked rows: nothing was written, and the claims are still valid. Try these again.
    pub locked: Vec<OrderId>,
}

/// A row of [`missed_and_written`].
pub(super) struct WrittenRow {
    pub id: i64,
    pub locked: bool,
}

impl From<Vec<WrittenRow>> for WrittenClaims {
    fn from(rows: Vec<WrittenRow>) -> Self {
        let mut written = Self { done: Vec::with_capacity(rows.len()), locked: Vec::new() };
        for WrittenRow { id, locked } in rows {
            if locked { &mut written.locked } else { &mut written.done }.push(OrderId(id));
        }
        written
    }
}

/// Locks the order of the claim in a row `asked`, if the claim is still valid. `apart` says whether the order is in
/// the table of unfinished orders, which it leaves when it ends.
macro_rules! held_claim {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        SELECT id, tableoid = 'unfinished_orders'::regclass AS apart
        FROM orders
        WHERE id = asked.id AND attempt = asked.attempt
            AND CASE status WHEN 'processing' THEN true ELSE false END
        FOR UPDATE SKIP LOCKED
    "#] $($to)+) };
}

/// The end of a statement about the claims in `$1` and `$2`, with those in `mine` that it has locked and those in
/// `written` that it has written.
///
/// A claim that is not in `mine` and is valid in the statement's snapshot is locked. It may also have been lost since
/// the snapshot was taken; the next attempt shows this.
macro_rules! missed_and_written {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        missed AS MATERIALIZED (
            SELECT asked.id, asked.attempt
            FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) AS asked (id, attempt)
            EXCEPT
            SELECT mine.id, mine.attempt FROM mine
        )
        SELECT written.id AS "id!", false AS "locked!"
        FROM written
        UNION ALL
        SELECT still.id, true
        FROM missed
        CROSS JOIN LATERAL (
            SELECT id
            FROM orders
            WHERE id = missed.id AND attempt = missed.attempt
                AND CASE status WHEN 'processing' THEN true ELSE false END
            OFFSET 0
        ) AS still
    "#] $($to)+) };
}

pub(super) use {held_claim, missed_and_written};
