//! Access control: authentication, scopes and rate limits.
//!
//! A request contains an API key (`Authorization: Bearer hf_…`) or a token of an OIDC issuer. [`CallerCheck::check`]
//! identifies the caller and checks the scope before any other code sees the request. It reads only memory. A refused
//! caller learns nothing else.
//!
//! | file | subject |
//! |---|---|
//! | `scope` | permissions |
//! | `caller` | the caller of a request |
//! | `api_key` | the format of keys, and new keys |
//! | `key_ring` | the valid keys |
//! | `oidc` | tokens |
//! | `rate` | the rate limits of callers |

pub mod api_key;
mod caller;
mod key_ring;
pub(crate) mod oidc;
mod rate;
mod scope;

use std::time::Duration;

use axum::http::{HeaderMap, header};
use holdfast_store::Store;

use caller::CredentialCheck;
pub use caller::{Caller, CallerIdentity};
pub use holdfast_throttle::ThrottleError;
use key_ring::KeyRing;
pub use oidc::{IssuerError, IssuerUrl, OidcSettings, TokenAlgorithm, can_name_customers};
pub use rate::{Allowance, RateSettings, Rates};
pub use scope::{Scope, Scopes};

use crate::problem::{Problem, ProblemKind};
use oidc::TokenVerifier;

/// How callers are authenticated.
#[derive(Clone, Debug)]
pub struct AuthenticationSettings {
    /// The time between two reads of the keys.
    pub key_refresh: Duration,
    /// The issuer of tokens, if tokens are accepted.
    pub oidc: Option<OidcSettings>,
}

/// The access that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// None: every client may send it.
    Open,
    /// A caller with this scope that is not bound to one customer.
    Shop(Scope),
    /// A caller with this scope. If it is bound to one customer, it can access only the data of that customer.
    Customers(Scope),
}

impl Access {
    /// The scope that a caller needs.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Open => None,
            Self::Shop(scope) | Self::Customers(scope) => Some(scope),
        }
    }
}

/// Authenticates and authorizes requests.
pub struct CallerCheck {
    ring: KeyRing,
    tokens: Option<TokenVerifier>,
}

impl CallerCheck {
    /// Starts to follow keys and issuer until the runtime ends.
    ///
    /// # Errors
    /// There is an issuer, but the host has no certificate authorities.
    pub fn follow(settings: AuthenticationSettings, store: Store) -> Result<Self, IssuerError> {
        let ring = KeyRing::follow(store, settings.key_refresh);
        Ok(Self { ring, tokens: settings.oidc.map(TokenVerifier::follow).transpose()? })
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// 401 without a valid key or token, 403 if it does not allow this request, 503 if it cannot be checked at the moment.
    pub fn check(&self, access: Access, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(scope) = access.scope() else { return Ok(Caller::anybody()) };
        let caller = self.who(headers)?;
        let Some(known) = caller.known() else {
            return Err(Problem::new(ProblemKind::Unauthorized));
        };
        if !known.scopes.allow(scope) {
            let detail = format!(
                "The key or token does not have the scope {scope}, which is required here."
            );
            return Err(Problem::with_detail(ProblemKind::Forbidden, detail));
        }
        if known.customer.is_some() && access == Access::Shop(scope) {
            let detail = "A key or token that is bound to one customer cannot do this.";
            return Err(Problem::with_detail(ProblemKind::Forbidden, detail));
        }
        Ok(caller)
    }

    fn who(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let unauthorized = || Problem::new(ProblemKind::Unauthorized);
        let bearer = bearer(headers).ok_or_else(unauthorized)?;
        if let Some(key) = api_key::read(bearer) {
            return match self.ring.judge(&key) {
                CredentialCheck::Valid(caller) => Ok(caller),
                CredentialCheck::Invalid => Err(unauthorized()),
                CredentialCheck::Unknown => Err(Problem::new(ProblemKind::Unavailable)),
            };
        }
        match self.tokens.as_ref().map(|tokens| tokens.judge(bearer)) {
            Some(CredentialCheck::Valid(caller)) => Ok(caller),
            Some(CredentialCheck::Invalid) | None => Err(unauthorized()),
            Some(CredentialCheck::Unknown) => Err(Problem::with_detail(
                ProblemKind::Unavailable,
                "Tokens cannot be checked at the moment. Try again after `Retry-After`.",
            )),
        }
    }
}

/// The checks of a port before its endpoints.
pub struct Guard {
    /// `None` if requests need no key or token.
    callers: Option<CallerCheck>,
    rates: Option<Rates>,
}

impl Guard {
    /// `callers` authenticates requests, if they need a key; `rates` limits the requests of known callers.
    pub fn new(callers: Option<CallerCheck>, rates: Option<Rates>) -> Self {
        Self { callers, rates }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// As [`CallerCheck::check`].
    pub fn check(&self, access: Access, headers: &HeaderMap) -> Result<Caller, Problem> {
        match &self.callers {
            Some(callers) => callers.check(access, headers),
            None => Ok(Caller::anybody()),
        }
    }

    /// Waits until callers can be authenticated.
    pub async fn ready(&self) {
        if let Some(callers) = &self.callers {
            callers.ring.loaded().await;
        }
    }

    /// Counts a request; `None` for a caller without a limit.
    pub fn count(&self, caller: &Caller) -> Option<Allowance> {
        self.rates.as_ref()?.count(caller)
    }

    /// The answer to a request that exceeds the limit.
    pub fn refusal(allowance: Allowance) -> Option<Problem> {
        (!allowance.allowed).then(|| rate::refusal(allowance))
    }

    /// Adds the rate limit headers to an answer.
    pub fn tell(allowance: Allowance, headers: &mut HeaderMap) {
        rate::tell(allowance, headers);
    }
}

/// The bearer token of a request (RFC 6750, section 2.1). `None` also if there are two.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_authorization_header_is_parsed_according_to_the_standard() {
        let bears = |values: &[&'static str]| {
            let headers: HeaderMap = values
                .iter()
                .map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)))
                .collect();
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(bears(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(bears(&["bearer  abc "]).as_deref(), Some("abc"));
        for none in [&[][..], &["Basic abc"], &["Bearer"], &["abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bears(none), None, "{none:?}");
        }
    }
}
