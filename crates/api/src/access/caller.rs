//! The caller of a request.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use holdfast_domain::CustomerRef;

use super::Scopes;

/// The caller of a request. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Caller(Option<Arc<CallerIdentity>>);

/// What is known about a caller.
#[derive(Debug)]
pub struct CallerIdentity {
    /// Identifies the caller for rate limits and idempotency keys: `key:` or `sub:`, and the id.
    pub id: Box<str>,
    pub scopes: Scopes,
    /// The customer that the caller is bound to; `None` if it acts for all customers.
    pub customer: Option<CustomerRef>,
    /// The caller's limit of requests per second over all replicas; `None`: the limit of the setting.
    pub rate: Option<u32>,
}

/// What a check of a key or a token says.
#[derive(Debug)]
pub enum CredentialCheck {
    /// It is valid, and belongs to this caller.
    Valid(Caller),
    /// It is unknown, expired, or forged.
    Invalid,
    /// It cannot be checked yet: the keys have not been read.
    Unknown,
}

impl Caller {
    /// An unknown caller, if the server does not require keys.
    pub fn anybody() -> Self {
        Self(None)
    }

    /// What is known about the caller; `None` for [`anybody`](Self::anybody).
    pub fn known(&self) -> Option<&CallerIdentity> {
        self.0.as_deref()
    }

    /// The customer that the caller is bound to.
    pub fn customer(&self) -> Option<&CustomerRef> {
        self.known()?.customer.as_ref()
    }

    /// Whether the caller may see what belongs to `customer`. Otherwise it gets a 404.
    pub fn may_see(&self, customer: Option<&CustomerRef>) -> bool {
        self.customer().is_none_or(|own| Some(own) == customer)
    }

    /// Separates the caller's idempotency keys from those of other callers.
    pub fn key_space(&self) -> &str {
        self.known().map_or("", |known| &known.id)
    }
}

impl From<Arc<CallerIdentity>> for Caller {
    fn from(known: Arc<CallerIdentity>) -> Self {
        Self(Some(known))
    }
}

/// Put there by [`super::Access`], before the router sees the request.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
