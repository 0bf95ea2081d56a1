//! Who sends a request.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use holdfast_domain::CustomerRef;

use super::Scopes;

/// Who sends a request. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Caller(Option<Arc<Known>>);

/// What is known of a caller.
#[derive(Debug)]
pub struct Known {
    /// Names the caller in rates and in what keeps idempotency keys apart: `key:` or `sub:`, and the id.
    pub id: Box<str>,
    /// What he may do.
    pub scopes: Scopes,
    /// The one customer for whom he acts and whose orders he sees; `None`: for all.
    pub customer: Option<CustomerRef>,
    /// His own limit of requests a second, over all replicas; `None`: that of the setting.
    pub rate: Option<u32>,
}

impl Caller {
    /// Anybody at all: who asks where nobody is asked who he is.
    pub fn anybody() -> Self {
        Self(None)
    }

    /// What is known of him; `None` of [`anybody`](Self::anybody).
    pub fn known(&self) -> Option<&Known> {
        self.0.as_deref()
    }

    /// The one customer for whom he acts.
    pub fn customer(&self) -> Option<&CustomerRef> {
        self.known()?.customer.as_ref()
    }

    /// Whether what belongs to `customer` may be shown to him. What may not is, to him, not there.
    pub fn may_see(&self, customer: Option<&CustomerRef>) -> bool {
        self.customer().is_none_or(|own| Some(own) == customer)
    }

    /// What keeps his idempotency keys apart from those of others.
    pub fn key_space(&self) -> &str {
        self.known().map_or("", |known| &known.id)
    }
}

impl From<Arc<Known>> for Caller {
    fn from(known: Arc<Known>) -> Self {
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
