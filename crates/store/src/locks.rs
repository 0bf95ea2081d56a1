//! Locks on product rows: the one module that takes them.
//!
//! Two ways, both `SELECT … FOR UPDATE`, so that they exclude each other:
//! - [`Store::lock_product`], one row, for a change of the product itself;
//! - [`lock_rows`], all rows of a batch of orders in one statement.
//!
//! Every statement locks in the order of the ids (`ORDER BY id` below the locking step), and a
//! transaction runs only one such statement: two transactions can wait for each other in one
//! direction only, so there is no deadlock, whatever the number of replicas.

use holdfast_domain::{Description, Money, Product, ProductId, ProductName, ProductPatch, Stock};
use sqlx::{AssertSqlSafe, PgConnection, PgTransaction, postgres::PgRow};

use crate::{Store, StoreError, rows};

/// What to do about a row that another transaction holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Wait for it, up to `lock_timeout`.
    Wait,
    /// Leave it out: `SKIP LOCKED`.
    Skip,
}

/// What a connection of admission prepares when it is made, so that `BEGIN` and the lock can go in
/// one round trip later.
///
/// The transaction's id comes along, so that the fate of a commit can be looked up should the
/// connection break under it.
pub(crate) const PREPARE: &str = "\
    PREPARE holdfast_lock_wait (bigint[]) AS \
        SELECT id, stock, price_minor, version, retired_at IS NULL AS on_sale, \
               pg_current_xact_id()::text AS xid \
        FROM products WHERE id = ANY($1) ORDER BY id FOR UPDATE; \
    PREPARE holdfast_lock_skip (bigint[]) AS \
        SELECT id, stock, price_minor, version, retired_at IS NULL AS on_sale, \
               pg_current_xact_id()::text AS xid \
        FROM products WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Begins a transaction and locks the rows of `ids`, in one round trip. The connection must have
/// executed [`PREPARE`].
pub(crate) async fn lock_rows(
    connection: &mut PgConnection,
    ids: impl Iterator<Item = ProductId>,
    mode: LockMode,
) -> Result<Vec<PgRow>, sqlx::Error> {
    use std::fmt::Write as _;

    let statement = match mode {
        LockMode::Wait => "BEGIN; EXECUTE holdfast_lock_wait('{",
        LockMode::Skip => "BEGIN; EXECUTE holdfast_lock_skip('{",
    };
    // Only integers are put into the text, so nothing in it can be anybody's SQL.
    let mut sql = String::with_capacity(256);
    sql.push_str(statement);
    for (at, id) in ids.enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(sql, "{}{id}", if at == 0 { "" } else { "," });
    }
    sql.push_str("}')");
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
}

/// A product whose row this holds locked. Dropping it changes nothing and lets go of the lock.
#[derive(Debug)]
pub struct LockedProduct {
    transaction: PgTransaction<'static>,
    product: Product,
}

impl Store {
    /// Locks the row of a product that is on sale.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if others hold it for too long; the database is not available.
    pub async fn lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query(
            "SELECT id, name, description, price_minor, stock, version FROM products \
             WHERE id = $1 AND retired_at IS NULL FOR UPDATE",
        )
        .bind(id.0)
        .fetch_optional(&mut *transaction)
        .await?;
        row.as_ref()
            .map(rows::product)
            .transpose()
            .map(|found| found.map(|product| LockedProduct { transaction, product }))
    }
}

impl LockedProduct {
    /// The product as it stands; nobody else can change it now.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// The version that a change will give it. The read cache must be fenced with it before the
    /// change is committed.
    pub fn next_version(&self) -> i64 {
        self.product.version + 1
    }

    /// Writes a partial change and commits it. `expected_version` is the caller's to compare:
    /// it has seen [`Self::product`].
    ///
    /// # Errors
    /// The database is not available; the change may or may not have happened then.
    pub async fn update(mut self, patch: &ProductPatch) -> Result<Product, StoreError> {
        let row = sqlx::query(
            "UPDATE products SET name = coalesce($2, name), \
                 description = CASE WHEN $3 THEN $4 ELSE description END, \
                 price_minor = coalesce($5, price_minor), stock = coalesce($6, stock), \
                 version = version + 1, updated_at = now() \
             WHERE id = $1 \
             RETURNING id, name, description, price_minor, stock, version",
        )
        .bind(self.product.id.0)
        .bind(patch.name.as_ref().map(ProductName::as_str))
        .bind(patch.description.is_some())
        .bind(patch.description.as_ref().and_then(Option::as_ref).map(Description::as_str))
        .bind(patch.price.map(Money::minor))
        .bind(patch.stock.map(Stock::units))
        .fetch_one(&mut *self.transaction)
        .await?;
        let product = rows::product(&row)?;
        self.transaction.commit().await?;
        Ok(product)
    }

    /// Takes the product out of the shop and commits that. Its row stays for the sake of the
    /// orders that name it.
    ///
    /// # Errors
    /// The database is not available; it may or may not have happened then.
    pub async fn retire(mut self) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE products SET retired_at = now(), updated_at = now(), version = version + 1 \
             WHERE id = $1",
        )
        .bind(self.product.id.0)
        .execute(&mut *self.transaction)
        .await?;
        self.transaction.commit().await?;
        Ok(())
    }
}
