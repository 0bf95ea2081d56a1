//! API keys. The database stores only the SHA-256 of their secrets.

use holdfast_domain::CustomerRef;
use jiff::Timestamp;

use crate::{
    error::StoreError,
    locked_rows::{ChangedRow, Tried},
    sql::checked,
    store::Store,
    time::Time,
};

/// The most valid keys, because each replica keeps all of them in memory.
pub const LIVE_KEYS_MAX: i64 = 10_000;

/// The most keys that are read. Requests that create keys at the same time do not see each other's, so there may be more
/// than [`LIVE_KEYS_MAX`].
const LIVE_KEYS_READ: i64 = LIVE_KEYS_MAX + 1_000;

#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public part.
    pub id: String,
    /// The SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
    /// Its purpose, as described by its creator.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// The only customer whose orders it may access.
    pub customer: Option<CustomerRef>,
    /// The most requests per second.
    pub rate_per_second: Option<u32>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key to create.
#[derive(Clone)]
pub struct ApiKeyRecord<'a> {
    /// Its public part.
    pub id: &'a str,
    /// The SHA-256 of its secret part.
    pub secret_sha256: [u8; 32],
    /// Its purpose.
    pub name: &'a str,
    /// What it allows.
    pub scopes: Vec<String>,
    /// The only customer whose orders it may access.
    pub customer: Option<&'a CustomerRef>,
    /// The most requests per second.
    pub rate_per_second: Option<u32>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// The columns of an [`ApiKeyRow`].
macro_rules! key_columns {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        id, secret_sha256, name, scopes, customer_ref, rate_per_second,
        created_at AS "created_at: Time",
        expires_at AS "expires_at: Time",
        revoked_at AS "revoked_at: Time"
    "#] $($to)+) };
}

/// A row of `api_keys`.
struct ApiKeyRow {
    id: String,
    secret_sha256: Vec<u8>,
    name: String,
    scopes: Vec<String>,
    customer_ref: Option<String>,
    rate_per_second: Option<i64>,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
}

impl TryFrom<ApiKeyRow> for ApiKey {
    type Error = StoreError;

    fn try_from(row: ApiKeyRow) -> Result<Self, StoreError> {
        let wrong =
            |what| StoreError::Corrupt { what, reason: "it is out of its range".to_owned() };
        Ok(Self {
            id: row.id,
            secret_sha256: row
                .secret_sha256
                .try_into()
                .map_err(|_| wrong("api_keys.secret_sha256"))?,
            name: row.name,
            scopes: row.scopes,
            customer: row.customer_ref.map(CustomerRef::kept),
            rate_per_second: row
                .rate_per_second
                .map(u32::try_from)
                .transpose()
                .map_err(|_| wrong("api_keys.rate_per_second"))?,
            created_at: row.created_at.to_jiff(),
            expires_at: row.expires_at.map(Time::to_jiff),
            revoked_at: row.revoked_at.map(Time::to_jiff),
        })
    }
}

impl Store {
    /// The valid keys.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn live_api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = checked!(
            ApiKeyRow,
            [
                "SELECT" {key_columns}
                r"FROM api_keys
                WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
                ORDER BY created_at, id
                LIMIT $1"
            ],
            LIVE_KEYS_READ,
        )
        .fetch_all(self.reads())
        .await?;
        rows.into_iter().map(ApiKey::try_from).collect()
    }

    /// All keys, newest first, including expired and revoked ones. With `after`, only those after the key with this
    /// id.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn api_keys(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let rows = checked!(
            ApiKeyRow,
            [
                "SELECT" {key_columns}
                r"FROM api_keys
                WHERE $1::text IS NULL
                    OR (created_at, id) < (SELECT created_at, id FROM api_keys WHERE id = $1)
                ORDER BY created_at DESC, id DESC
                LIMIT $2"
            ],
            after,
            limit,
        )
        .fetch_all(self.reads())
        .await?;
        rows.into_iter().map(ApiKey::try_from).collect()
    }

    /// Creates a key; `None` if there are [`LIVE_KEYS_MAX`] valid keys.
    ///
    /// # Errors
    /// The database is not available. It is then unknown whether the key was created.
    pub async fn make_api_key(&self, new: &ApiKeyRecord<'_>) -> Result<Option<ApiKey>, StoreError> {
        let row = checked!(
            ApiKeyRow,
            [
                r"INSERT INTO api_keys
                    (id, secret_sha256, name, scopes, customer_ref, rate_per_second, expires_at)
                SELECT $1, $2, $3, $4, $5, $6, $7
                WHERE (
                    SELECT count(*)
                    FROM api_keys
                    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
                ) < $8
                RETURNING" {key_columns}
            ],
            new.id,
            &new.secret_sha256[..],
            new.name,
            &new.scopes,
            new.customer.map(CustomerRef::as_str),
            new.rate_per_second.map(i64::from),
            new.expires_at.map(Time::from) as Option<Time>,
            LIVE_KEYS_MAX,
        )
        .fetch_optional(self.changes())
        .await?;
        row.map(ApiKey::try_from).transpose()
    }

    /// Revokes a key. A revoked key stays as it is. `None` if there is no such key. Waits for a locked key without a
    /// connection: see `locked_rows`.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if other transactions have locked it for too long; [`StoreError::TooManyWaiting`];
    /// the database is not available. It is safe to try again.
    pub async fn revoke_api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let turn = self.turn(ChangedRow::ApiKey(id.to_owned())).await?;
        let mut tries = turn.tries().await?;
        loop {
            if let Some(key) = tries.again(self.try_revoke_api_key(id).await).await? {
                return Ok(key);
            }
        }
    }

    async fn try_revoke_api_key(&self, id: &str) -> Result<Tried<Option<ApiKey>>, StoreError> {
        let row = checked!(
            ApiKeyRow,
            [
                r"UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
                WHERE id = (SELECT id FROM api_keys WHERE id = $1 FOR UPDATE SKIP LOCKED)
                RETURNING" {key_columns}
            ],
            id,
        )
        .fetch_optional(self.changes())
        .await?;
        if let Some(row) = row {
            return Ok(Tried::Done(Some(row.try_into()?)));
        }
        let is_there = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM api_keys WHERE id = $1) AS "is_there!""#,
            id
        )
        .fetch_one(self.reads())
        .await?;
        Ok(if is_there { Tried::Locked(None) } else { Tried::Done(None) })
    }
}
