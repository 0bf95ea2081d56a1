//! The report of a flash sale: the units sold, from the ledger, and the counts of the replicas, per
//! second.

use std::{collections::BTreeMap, time::Duration};

use holdfast_domain::{ProductId, SaleName};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    calls::again,
    error::StoreError,
    locked_rows::{ChangedRow, Tried, WhenLocked},
    store::Store,
    time::{Time, interval},
};

/// Buckets of lock waits: bucket `n` has the waits below 2^(n+1) µs that are not in an earlier bucket;
/// the last bucket also has all longer ones. 2^26 µs are about a minute.
pub const LOCK_WAIT_BUCKETS: usize = 26;

/// The most rows that are deleted at once.
const FORGET_MAX: i64 = 10_000;

/// The counts of a replica for a product in a sale, for one second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleSecond {
    pub product_id: ProductId,
    /// The second, by the replica's clock.
    pub second: Timestamp,
    /// Orders and holds that were accepted.
    pub accepted: u64,
    /// Refused requests, by the reason's label.
    pub refused: BTreeMap<&'static str, u64>,
    /// Waits for the product's lock, by length.
    pub lock_waits: [u64; LOCK_WAIT_BUCKETS],
}

/// The report of a sale so far. What another sale of the same product sells counts, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaleReport {
    /// Units sold since the sale was recorded, minus returned units.
    pub sold: i64,
    /// Units left, without those in holds.
    pub left: i64,
    /// Requests refused, by reason.
    pub refused: BTreeMap<String, i64>,
    /// The most orders and holds accepted in one second, over all replicas.
    pub peak_orders_per_second: i64,
    /// The 99th percentile of the waits for a product's lock; a power of two in microseconds. `None`
    /// before the first wait.
    pub lock_wait_p99: Option<Duration>,
}

impl Store {
    /// Stores the counts of this replica.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn record_sale_seconds(
        &self,
        replica: Uuid,
        seconds: &[SaleSecond],
    ) -> Result<(), StoreError> {
        let product_ids: Vec<_> = seconds.iter().map(|second| second.product_id.0).collect();
        let times: Vec<_> = seconds.iter().map(|second| Time::from(second.second)).collect();
        let count = |second: &SaleSecond| i64::try_from(second.accepted).unwrap_or(i64::MAX);
        let accepted: Vec<_> = seconds.iter().map(count).collect();
        let refused = |second: &SaleSecond| serde_json::json!(second.refused).to_string();
        let refused: Vec<_> = seconds.iter().map(refused).collect();
        let waits = |second: &SaleSecond| {
            let waits: Vec<_> = second.lock_waits.iter().map(u64::to_string).collect();
            format!("{{{}}}", waits.join(","))
        };
        let waits: Vec<_> = seconds.iter().map(waits).collect();
        sqlx::query!(
            r#"
            INSERT INTO sale_seconds (product_id, second, replica, accepted, refused, lock_waits)
            SELECT product_id, second, $6, accepted, refused::jsonb, waits::bigint[]
            FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::text[], $5::text[])
                AS seen (product_id, second, accepted, refused, waits)
            ON CONFLICT DO NOTHING
            "#,
            &product_ids,
            &times as &[Time],
            &accepted,
            &refused,
            &waits,
            replica,
        )
        .execute(self.work())
        .await?;
        Ok(())
    }

    /// Deletes counts that are older than `age`, up to a limited number of rows. Returns the number of
    /// deleted rows.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn forget_sale_seconds(&self, age: Duration) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            r#"
            DELETE FROM sale_seconds
            WHERE ctid = ANY (ARRAY(
                SELECT ctid
                FROM sale_seconds
                WHERE second < now() - $1::interval
                ORDER BY second
                LIMIT $2
            ))
            "#,
            interval(age),
            FORGET_MAX,
        )
        .execute(self.work())
        .await?;
        Ok(gone.rows_affected())
    }

    /// Sums up the ledger from where the last report stopped, because the ledger of a hot product has
    /// an entry for each batch.
    async fn sum_up(&self, name: &SaleName, waits: WhenLocked) -> Result<(), StoreError> {
        let mut transaction = self.begin_change(self.wait_in_database(waits)).await?;
        sqlx::query!(
            r#"
            UPDATE sale_products SET
                sold = sale_products.sold + fresh.sold,
                summed_to = fresh.version
            FROM (
                SELECT one.sale_id, one.product_id, max(ledger.version) AS version,
                    sum(ledger.sold - ledger.returned)::bigint AS sold
                FROM sales
                JOIN sale_products AS one ON one.sale_id = sales.id
                JOIN stock_ledger AS ledger
                    ON ledger.product_id = one.product_id AND ledger.version > one.summed_to
                WHERE name = $1 AND ledger.created_at < ends_at
                GROUP BY 1, 2
            ) AS fresh
            WHERE sale_products.sale_id = fresh.sale_id
                AND sale_products.product_id = fresh.product_id
                AND summed_to < fresh.version
            "#,
            name.as_str(),
        )
        .execute(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// The report of a sale; `None` if there is no such sale.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn sale_report(&self, name: &SaleName) -> Result<Option<SaleReport>, StoreError> {
        let turn = self.turn(ChangedRow::SaleReport(name.as_str().to_owned())).await?;
        let mut tries = turn.tries().await?;
        loop {
            let waits = tries.waits();
            let attempt = again(|| self.sum_up(name, waits)).await.map(Tried::Done);
            if let Some(()) = tries.again(attempt).await? {
                break;
            }
        }
        drop(tries);
        drop(turn);
        let row = sqlx::query!(
            r#"
            WITH sale AS MATERIALIZED (
                SELECT * FROM sales WHERE name = $1
            ), own AS MATERIALIZED (
                SELECT sale_products.* FROM sale_products JOIN sale ON sale_id = id
            ), seen AS MATERIALIZED (
                SELECT sale_seconds.*
                FROM sale_seconds, sale
                WHERE product_id IN (SELECT product_id FROM own)
                    AND second >= date_trunc('second', sale.created_at)
                    AND second < ends_at
            )
            SELECT
                (SELECT coalesce(sum(sold), 0)::bigint FROM own) AS "sold!",
                (
                    SELECT coalesce(sum(stock), 0)::bigint
                    FROM products
                    WHERE id IN (SELECT product_id FROM own)
                ) AS "left!",
                coalesce((
                    SELECT jsonb_object_agg(reason, count)
                    FROM (
                        SELECT key AS reason, sum(value::bigint)::bigint AS count
                        FROM seen, jsonb_each_text(refused)
                        GROUP BY key
                    ) AS counted
                ), '{}')::text AS "refused!",
                (
                    SELECT coalesce(max(accepted), 0)
                    FROM (
                        SELECT sum(accepted)::bigint AS accepted FROM seen GROUP BY second
                    ) AS by_second
                ) AS "peak!",
                ARRAY(
                    SELECT sum(waits)::bigint
                    FROM seen, unnest(lock_waits) WITH ORDINALITY AS bucket (waits, place)
                    GROUP BY place
                    ORDER BY place
                ) AS "waits!"
            FROM sale
            "#,
            name.as_str(),
        )
        .fetch_optional(self.reads())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(SaleReport {
            sold: row.sold,
            left: row.left,
            refused: holdfast_domain::json::from_str(&row.refused).map_err(|error| {
                StoreError::Corrupt { what: "count of refusals", reason: error.to_string() }
            })?,
            peak_orders_per_second: row.peak,
            lock_wait_p99: percentile_99(&row.waits),
        }))
    }
}

/// The upper bound of the bucket with the 99th percentile.
fn percentile_99(waits: &[i64]) -> Option<Duration> {
    let all: i64 = waits.iter().sum();
    // Rounded up.
    let rank = all - all / 100;
    let mut below = 0;
    let place = waits.iter().position(|count| {
        below += count;
        all > 0 && below >= rank
    })?;
    Some(Duration::from_micros(2_u64.saturating_pow(u32::try_from(place + 1).ok()?)))
}

impl SaleSecond {
    /// Counts of zero.
    pub fn new(product_id: ProductId, second: Timestamp) -> Self {
        Self {
            product_id,
            second,
            accepted: 0,
            refused: BTreeMap::new(),
            lock_waits: [0; LOCK_WAIT_BUCKETS],
        }
    }

    /// Counts a wait for the lock.
    pub fn waited(&mut self, wait: Duration) {
        let micros = wait.as_micros().max(1);
        let place =
            usize::try_from(micros.ilog2()).unwrap_or(usize::MAX).min(LOCK_WAIT_BUCKETS - 1);
        if let Some(bucket) = self.lock_waits.get_mut(place) {
            *bucket += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_in_its_bucket() {
        let mut second = SaleSecond::new(ProductId(1), Timestamp::UNIX_EPOCH);
        for micros in [0, 1, 2, 1000, u64::MAX] {
            second.waited(Duration::from_micros(micros));
        }
        let filled: Vec<_> =
            second.lock_waits.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &2), (1, &1), (9, &1), (LOCK_WAIT_BUCKETS - 1, &1)]);
    }

    #[test]
    fn the_percentile_is_the_end_of_its_bucket() {
        assert_eq!(percentile_99(&[]), None);
        assert_eq!(percentile_99(&[0, 0]), None);
        assert_eq!(percentile_99(&[99, 0, 1]), Some(Duration::from_micros(2)));
        assert_eq!(percentile_99(&[98, 0, 2]), Some(Duration::from_micros(8)));
        assert_eq!(percentile_99(&[148, 0, 2]), Some(Duration::from_micros(8)));
    }
}
