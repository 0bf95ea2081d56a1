//! Who may do what.
//!
//! A request bears a key (`Authorization: Bearer hf_…`) or a token of an OIDC issuer. [`CallerCheck::check`] finds
//! out who sends it and whether they may, from memory alone, before anything else looks at it. A caller who is refused
//! learns that, and nothing more.
//!
//! | file | subject |
//! |---|---|
//! | `scope` | what may be allowed |
//! | `caller` | who sends a request |
//! | `api_key` | keys: how they look, how they are made |
//! | `key_ring` | the keys that are good at the moment |
//! | `oidc` | tokens |
//! | `rate` | how many requests a caller may send in a second |

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
pub use oidc::{IssuerError, IssuerUrl, OidcSettings, TokenAlgorithm};
pub use rate::{Allowance, RateSettings, Rates};
pub use scope::{Scope, Scopes};

use crate::problem::{Problem, ProblemKind};
use oidc::TokenVerifier;

/// How callers are known.
#[derive(Clone, Debug)]
pub struct AuthenticationSettings {
    /// How often the keys are read anew.
    pub key_refresh: Duration,
    /// Whose tokens are good.
    pub oidc: Option<OidcSettings>,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: everybody may send it.
    Open,
    /// A caller with this scope who is not bound to one customer.
    Shop(Scope),
    /// A caller with this scope. One who is bound to one customer sees and changes only what belongs to that one.
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

/// Finds out who sends a request, and whether they may.
pub struct CallerCheck {
    ring: KeyRing,
    tokens: Option<TokenVerifier>,
}

impl CallerCheck {
    /// Begins to follow keys and issuer, for as long as the runtime lives.
    ///
    /// # Errors
    /// A host without certificate authorities, where there is an issuer.
    pub fn follow(settings: AuthenticationSettings, store: Store) -> Result<Self, IssuerError> {
        let ring = KeyRing::follow(store, settings.key_refresh);
        Ok(Self { ring, tokens: settings.oidc.map(TokenVerifier::follow).transpose()? })
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// 401 without a good key or token, 403 if it does not allow this request, 503 while nothing can be known.
    pub fn check(&self, access: Access, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(scope) = access.scope() else { return Ok(Caller::anybody()) };
        let caller = self.who(headers)?;
        let Some(known) = caller.known() else {
            return Err(Problem::new(ProblemKind::Unauthorized));
        };
        if !known.scopes.allow(scope) {
            let detail =
                format!("This needs the scope {scope}, which the key or token does not have.");
            return Err(Problem::with_detail(ProblemKind::Forbidden, detail));
        }
        if known.customer.is_some() && access == Access::Shop(scope) {
            let detail = "This is not for a key or token that is bound to one customer.";
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

/// What stands before the endpoints of a port.
pub struct Guard {
    /// `None`: no caller is asked for a key or token.
    callers: Option<CallerCheck>,
    rates: Option<Rates>,
}

impl Guard {
    /// `callers` finds out who a caller is, unless none is asked; `rates` counts what known callers send.
    pub fn new(callers: Option<CallerCheck>, rates: Option<Rates>) -> Self {
        Self { callers, rates }
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// As [`CallerCheck::check`].
    pub fn check(&self, access: Access, headers: &HeaderMap) -> Result<Caller, Problem> {
        match &self.callers {
            Some(callers) => callers.check(access, headers),
            None => Ok(Caller::anybody()),
        }
    }

    /// Waits until it can tell who is who.
    pub async fn ready(&self) {
        if let Some(callers) = &self.callers {
            callers.ring.loaded().await;
        }
    }

    /// Counts a request; `None` for a caller without a limit.
    pub fn count(&self, caller: &Caller) -> Option<Allowance> {
        self.rates.as_ref()?.count(caller)
    }

    /// The answer to a request, if it is beyond the limit.
    pub fn refusal(allowance: Allowance) -> Option<Problem> {
        (!allowance.allowed).then(|| rate::refusal(allowance))
    }

    /// Says in an answer what the caller may still do.
    pub fn tell(allowance: Allowance, headers: &mut HeaderMap) {
        rate::tell(allowance, headers);
    }
}

/// What a request bears (RFC 6750, section 2.1). One that bears two things bears nothing.
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
    fn what_a_request_bears_is_read_by_the_standard() {
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
