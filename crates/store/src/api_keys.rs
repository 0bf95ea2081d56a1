//! API keys: who may ask for what. The secret of a key is never here, only its SHA-256.

use holdfast_domain::CustomerRef;
use jiff::Timestamp;
use sqlx::{Row as _, postgres::PgRow};

use crate::{Store, StoreError, rows::timestamp};

/// The most keys that may be good at the same time: all of them are kept in each replica's memory.
pub const LIVE_KEYS_MAX: i64 = 10_000;

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public part.
    pub id: String,
    /// The SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
    /// What it is for, in the words of who made it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// The one customer for whom it is.
    pub customer: Option<CustomerRef>,
    /// How many requests it allows a second.
    pub rate_per_second: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key to be made.
#[derive(Clone)]
pub struct NewApiKey<'a> {
    /// Its public part.
    pub id: &'a str,
    /// The SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
    /// What it is for.
    pub name: &'a str,
    /// What it allows.
    pub scopes: Vec<String>,
    /// The one customer for whom it is.
    pub customer: Option<&'a CustomerRef>,
    /// How many requests it allows a second.
    pub rate_per_second: Option<u32>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "id, secret_sha256, name, scopes, customer_ref, rate_per_second, \
         (extract(epoch FROM created_at) * 1000000)::bigint AS created_us, \
         (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_us, \
         (extract(epoch FROM revoked_at) * 1000000)::bigint AS revoked_us"
    };
}

impl Store {
    /// The keys that are good, at most [`LIVE_KEYS_MAX`].
    ///
    /// # Errors
    /// The database is not available.
    pub async fn live_api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) \
             ORDER BY created_at, id LIMIT $1"
        ))
        .bind(LIVE_KEYS_MAX)
        .fetch_all(self.reads())
        .await?;
        rows.iter().map(key).collect()
    }

    /// All keys, the newest first, also those that are over; behind the one with the id `after`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn api_keys(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM api_keys WHERE $1::text IS NULL \
                 OR (created_at, id) < (SELECT created_at, id FROM api_keys WHERE id = $1) \
             ORDER BY created_at DESC, id DESC LIMIT $2"
        ))
        .bind(after)
        .bind(limit)
        .fetch_all(self.reads())
        .await?;
        rows.iter().map(key).collect()
    }

    /// Makes a key; `None` if there are [`LIVE_KEYS_MAX`] good ones already.
    ///
    /// # Errors
    /// The database is not available. It is not known then whether the key was made.
    pub async fn make_api_key(&self, new: &NewApiKey<'_>) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query(concat!(
            "INSERT INTO api_keys (id, secret_sha256, name, scopes, customer_ref, rate_per_second, expires_at) \
             SELECT $1, $2, $3, $4, $5, $6, 'epoch'::timestamptz + $7 * interval '1 us' \
             WHERE (SELECT count(*) FROM api_keys WHERE revoked_at IS NULL \
                 AND (expires_at IS NULL OR expires_at > now())) < $8 \
             RETURNING ",
            columns!()
        ))
        .bind(new.id)
        .bind(&new.secret_sha256[..])
        .bind(new.name)
        .bind(&new.scopes)
        .bind(new.customer.map(CustomerRef::as_str))
        .bind(new.rate_per_second.map(i64::from))
        .bind(new.expires_at.map(Timestamp::as_microsecond))
        .bind(LIVE_KEYS_MAX)
        .fetch_optional(self.changes())
        .await?;
        row.as_ref().map(key).transpose()
    }

    /// Revokes a key; one that is revoked already stays as it is. `None` if there is no such key.
    ///
    /// # Errors
    /// The database is not available. Trying again is safe.
    pub async fn revoke_api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query(concat!(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING ",
            columns!()
        ))
        .bind(id)
        .fetch_optional(self.changes())
        .await?;
        row.as_ref().map(key).transpose()
    }
}

fn key(row: &PgRow) -> Result<ApiKey, StoreError> {
    let customer: Option<String> = row.try_get("customer_ref")?;
    let hash: Vec<u8> = row.try_get("secret_sha256")?;
    let rate: Option<i64> = row.try_get("rate_per_second")?;
    let time = |column: &str| -> Result<Option<Timestamp>, StoreError> {
        row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose()
    };
    Ok(ApiKey {
        id: row.try_get("id")?,
        secret_sha256: hash.try_into().map_err(|_| wrong("api_keys.secret_sha256"))?,
        name: row.try_get("name")?,
        scopes: row.try_get("scopes")?,
        customer: customer.map(CustomerRef::kept),
        rate_per_second: rate
            .map(u32::try_from)
            .transpose()
            .map_err(|_| wrong("api_keys.rate_per_second"))?,
        created_at: time("created_us")?.ok_or_else(|| wrong("api_keys.created_at"))?,
        expires_at: time("expires_us")?,
        revoked_at: time("revoked_us")?,
    })
}

fn wrong(what: &'static str) -> StoreError {
    StoreError::Corrupt { what, reason: "out of its range".to_owned() }
}
