//! An API key as the API shows it, and how one is created.

use holdfast_domain::{CustomerRef, Invalid, KeyName};
use holdfast_store::{ApiKey, ApiKeyRecord, Store, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    access::{Scopes, api_key},
    cursor::CursorScope,
    shown_time::ShownTime,
};

/// The highest limit of requests per second that a key can have.
pub const RATE_MAX: i64 = 1_000_000;

/// The list of all keys, behind the id of one of them.
pub fn list() -> CursorScope {
    CursorScope::new("api-keys")
}

/// An API key, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct KeyBody {
    /// The public part of the key.
    #[schema(example = "k3v9wq2mzt7a")]
    pub id: String,
    /// The purpose of the key.
    #[schema(example = "web shop")]
    pub name: String,
    /// The scopes of the key.
    #[schema(example = json!(["products:read", "orders:write"]))]
    pub scopes: Vec<String>,
    /// The customer that the key is restricted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    pub customer_ref: Option<String>,
    /// The most requests per second, if the key has a limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// The time at which the key was created.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
    /// The time at which the key expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub expires_at: Option<ShownTime>,
    /// The time at which the key was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub revoked_at: Option<ShownTime>,
}

/// A new API key.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = MadeApiKey)]
pub struct MadeKeyBody {
    /// The key itself. It is not stored, and cannot be shown again.
    pub key: String,
    /// The properties of the key.
    #[serde(flatten)]
    #[schema(inline)]
    pub made: KeyBody,
}

/// The properties of a new key.
#[derive(Clone, Debug)]
pub struct KeyRequest {
    /// The purpose of the key.
    pub name: KeyName,
    /// The scopes of the key; not empty.
    pub scopes: Scopes,
    /// The customer that the key is restricted to.
    pub customer: Option<CustomerRef>,
    /// The most requests per second: 1 to [`RATE_MAX`].
    pub rate_per_second: Option<u32>,
    /// The time at which the key expires.
    pub expires_at: Option<Timestamp>,
}

impl KeyRequest {
    /// Creates the key; `None` if there are too many keys.
    ///
    /// # Errors
    /// The database is not available. The key may have been created, but nobody knows its secret.
    pub async fn make(&self, store: &Store) -> Result<Option<MadeKeyBody>, StoreError> {
        let minted = api_key::mint();
        let new = ApiKeyRecord {
            id: &minted.id,
            secret_sha256: minted.hash,
            name: self.name.as_str(),
            scopes: self.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            customer: self.customer.as_ref(),
            rate_per_second: self.rate_per_second,
            expires_at: self.expires_at,
        };
        let made = store.make_api_key(&new).await?;
        Ok(made.map(|made| MadeKeyBody { key: minted.text, made: made.into() }))
    }
}

/// A limit of requests per second.
///
/// # Errors
/// A number out of range.
pub fn rate(number: i64) -> Result<u32, Invalid> {
    u32::try_from(number)
        .ok()
        .filter(|rate| (1..=RATE_MAX).contains(&i64::from(*rate)))
        .ok_or_else(|| format!("must be between 1 and {RATE_MAX}").into())
}

/// The time at which a key expires.
///
/// # Errors
/// Not a time, or not in the future.
pub fn expiry(text: &str) -> Result<Timestamp, Invalid> {
    text.parse::<Timestamp>().ok().filter(|time| *time > Timestamp::now()).ok_or_else(|| {
        "must be a time in the future with its offset, such as 2036-01-31T12:00:00Z".into()
    })
}

impl From<ApiKey> for KeyBody {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            customer_ref: key.customer.map(CustomerRef::into_inner),
            rate_per_second: key.rate_per_second,
            created_at: key.created_at.into(),
            expires_at: key.expires_at.map(ShownTime),
            revoked_at: key.revoked_at.map(ShownTime),
        }
    }
}
