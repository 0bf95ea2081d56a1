//! The leases of claims.

use std::time::Duration;

use holdfast_domain::OrderId;

use super::written::{WrittenClaims, WrittenRow, held_claim, missed_and_written};
use crate::{error::StoreError, sql::checked, store::Store, time::interval};

/// The steps that are added to the history of an order when it is taken from a worker whose lease has
/// expired.
macro_rules! lease_ran_out {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        jsonb_build_object('status', 'processing', 'at', orders.processing_at),
        jsonb_build_object('status', 'pending', 'at', now(), 'detail', "# {lease_ran_out_detail} r#")
    "#] $($to)+) };
}

/// The detail of the last step. If it is the last step of an order, the order was taken from a worker: see
/// [`Claim::taken_over`](super::Claim::taken_over).
macro_rules! lease_ran_out_detail {
    ($($to:tt)+) => { $crate::sql::part!([r"'the lease of its worker ran out'"] $($to)+) };
}
pub(super) use {lease_ran_out, lease_ran_out_detail};

impl Store {
    /// Extends the leases of these claims to `lease` from now. A claim with a locked row stays valid, because
    /// only a later attempt or a sweep can end it, and neither can do so while another transaction has locked
    /// the row. The work on claims that are neither extended nor locked should stop.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn extend(
        &self,
        claims: &[(OrderId, i32)],
        lease: Duration,
    ) -> Result<WrittenClaims, StoreError> {
        let mut claims = claims.to_vec();
        claims.sort_unstable();
        let ids: Vec<_> = claims.iter().map(|(id, _)| id.0).collect();
        let attempts: Vec<_> = claims.iter().map(|(_, attempt)| *attempt).collect();
        let rows = checked!(
            WrittenRow,
            [
                r"WITH mine AS MATERIALIZED (
                    SELECT held.id, asked.attempt
                    FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) AS asked (id, attempt)
                    CROSS JOIN LATERAL (" {held_claim} r") AS held
                ), written AS (
                    UPDATE orders SET lease_until = now() + $3::interval
                    FROM mine
                    WHERE orders.id = mine.id
                    RETURNING orders.id
                ), " {missed_and_written}
            ],
            &ids,
            &attempts,
            interval(lease),
        )
        .fetch_all(self.work())
        .await?;
        Ok(WrittenClaims::from(rows))
    }
}
