//! Tokens of an OIDC issuer, as the alternative to API keys.
//!
//! | file | subject |
//! |---|---|
//! | `token` | the compact form and its header |
//! | `claims` | its claims |
//! | `issuer` | the issuer's discovery document and keys |
//! | `keys` | the keys that are used, and for how long |
//! | `ring` | checking signatures |
//!
//! A token is valid if it is a JWT (RFC 7519) that is signed with the issuer's key that it names, with the algorithm of
//! that key, if `iss` and `aud` are those of the settings, and if the time is between `nbf` and `exp`. The algorithm is
//! determined by the settings and the key, never by the token alone (RFC 8725, section 3.1). The tests of each module
//! have a line for each rule, with its source.

mod claims;
mod issuer;
mod keys;
mod ring;
mod token;

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use holdfast_domain::CustomerRef;
use holdfast_telemetry::{Chain, settings::MustBe};
use jsonwebtoken::{Algorithm, crypto::verify};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use super::{Caller, CallerIdentity, CredentialCheck, Scopes};
use claims::{Claims, Expected};
use issuer::Issuer;
use keys::{GoodKeys, IssuerKey, KeySet};
use token::Token;

pub use claims::can_name_customers;
pub use issuer::{IssuerError, IssuerUrl};

/// The time between two requests for the issuer's keys.
const REFRESH: Duration = Duration::from_mins(5);
/// The shortest time between two such requests, when a token names an unknown key.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// The number of valid tokens in the cache, so that a signature is checked once.
const REMEMBERED: usize = 10_000;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAlgorithm(Algorithm);

impl FromStr for TokenAlgorithm {
    type Err = MustBe;

    fn from_str(name: &str) -> Result<Self, MustBe> {
        let known = name.parse().ok().filter(|named| ring::ALGORITHMS.contains(named));
        known.map(Self).ok_or_else(|| {
            MustBe::new(
                "must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA",
            )
        })
    }
}

/// Which tokens are accepted.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    pub issuer: IssuerUrl,
    /// The required audience.
    pub audience: String,
    /// The accepted algorithms.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The claim that names the customer. If set, a token without it is refused; if not, all tokens give access to the
    /// orders of all customers.
    pub customer_claim: Option<String>,
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenVerifier(Arc<TokenVerifierState>);

struct TokenVerifierState {
    settings: OidcSettings,
    algorithms: Vec<Algorithm>,
    keys: GoodKeys,
    /// Valid tokens by their SHA-256, until they expire or their key is removed.
    remembered: Cache<[u8; 32], Remembered>,
    ask_again: Notify,
}

#[derive(Clone)]
struct Remembered {
    caller: Caller,
    until: f64,
    /// The key that signed it, and its id. Later, another key may get the same id.
    key: Arc<IssuerKey>,
    key_id: Arc<str>,
}

/// Parses bytes as each kind of untrusted input of this module. For tests.
pub(crate) fn read_all(bytes: &[u8]) {
    ring::install();
    let expected =
        Expected { issuer: "i", audience: "a", customer_claim: Some("customer"), now: 0.0 };
    let _ = Claims::read(bytes, expected);
    let _ = KeySet::read(bytes, &ring::ALGORITHMS);
    if let Ok(text) = str::from_utf8(bytes)
        && let Some(token) = Token::read(text)
        && let Some(claims) = token.claims()
    {
        let _ = Claims::read(&claims, expected);
    }
}

impl TokenVerifier {
    /// Starts to follow the issuer's keys until the runtime ends.
    ///
    /// # Errors
    /// The host has no certificate authorities.
    pub fn follow(settings: OidcSettings) -> Result<Self, IssuerError> {
        ring::install();
        let issuer = Issuer::new(settings.issuer.clone())?;
        let algorithms = settings.algorithms.iter().map(|algorithm| algorithm.0).collect();
        let tokens = Self(Arc::new(TokenVerifierState {
            settings,
            algorithms,
            keys: GoodKeys::default(),
            remembered: Cache::new(REMEMBERED),
            ask_again: Notify::new(),
        }));
        tokio::spawn(tokens.clone().refresh(issuer));
        Ok(tokens)
    }

    async fn refresh(self, issuer: Issuer) {
        loop {
            let asked = Instant::now();
            match issuer.keys(&self.0.algorithms).await {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "the issuer's keys were read");
                    if self.0.keys.replace(keys) {
                        // Tokens of a withdrawn key are no longer valid.
                        self.0.remembered.clear();
                    }
                }
                Err(error) => {
                    let hours = keys::KEPT_FOR.as_secs() / 3600;
                    tracing::warn!(error = %Chain(&error), hours, "the issuer's keys cannot be read; the last known keys stay valid for this time");
                }
            }
            let wait = if self.0.keys.now().is_some() { REFRESH } else { REFRESH_MIN };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.ask_again.notified() => tokio::time::sleep_until(asked + REFRESH_MIN).await,
            }
        }
    }

    pub fn judge(&self, text: &str) -> CredentialCheck {
        let Some(token) = Token::read(text) else { return CredentialCheck::Invalid };
        let Some(keys) = self.0.keys.now() else { return CredentialCheck::Unknown };
        let digest: [u8; 32] = Sha256::digest(text).into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        if let Some(known) = self.0.remembered.get(&digest)
            && now < known.until
            && keys.named(&known.key_id).iter().any(|key| Arc::ptr_eq(key, &known.key))
        {
            return CredentialCheck::Valid(known.caller);
        }
        let signed_by = |key: &&Arc<IssuerKey>| {
            key.algorithm == token.algorithm
                && verify(token.signature, token.message, &key.key, key.algorithm).unwrap_or(false)
        };
        let Some(key) = keys.named(&token.key_id).iter().find(signed_by) else {
            // The issuer may have a new key, possibly with the id of an old one.
            self.0.ask_again.notify_one();
            return CredentialCheck::Invalid;
        };
        let OidcSettings { issuer, audience, customer_claim, .. } = &self.0.settings;
        let customer_claim = customer_claim.as_deref();
        let expected = Expected { issuer: issuer.as_str(), audience, customer_claim, now };
        let claims = token.claims().and_then(|json| Claims::read(&json, expected));
        let Some(claims) = claims else { return CredentialCheck::Invalid };
        let Some(caller) = self.caller(&claims) else { return CredentialCheck::Invalid };
        let remembered = Remembered {
            caller: caller.clone(),
            until: claims.until(),
            key: Arc::clone(key),
            key_id: token.key_id.into(),
        };
        self.0.remembered.insert(digest, remembered);
        CredentialCheck::Valid(caller)
    }

    fn caller(&self, claims: &Claims) -> Option<Caller> {
        let customer = match self.0.settings.customer_claim {
            None => None,
            Some(_) => Some(claims.customer()?.parse::<CustomerRef>().ok()?),
        };
        let known = CallerIdentity {
            id: format!("sub:{}", claims.subject()).into(),
            scopes: Scopes::among(claims.scopes()),
            customer,
            rate: None,
        };
        Some(Arc::new(known).into())
    }
}
