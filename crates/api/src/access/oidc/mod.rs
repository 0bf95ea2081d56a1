//! Tokens of an OIDC issuer, as the alternative to API keys.
//!
//! | file | subject |
//! |---|---|
//! | `issuer` | its keys, by discovery |
//! | `ring` | checking signatures |
//!
//! A token is good if it is a JWT (RFC 7519) signed by a key of the issuer with one of the algorithms that the settings
//! allow, `iss` and `aud` are those of the settings, and it is within `nbf` and `exp`. The algorithm comes from the
//! settings and the key, never from the token alone (RFC 8725, section 3.1).

mod issuer;
mod ring;

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdfast_domain::{CustomerRef, json};
use holdfast_telemetry::{Chain, settings::MustBe};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time::Instant};

use super::{Caller, Known, Scopes};
use issuer::{Issuer, IssuerKey, IssuerKeys};
pub use issuer::{IssuerError, IssuerUrl};

/// How often the issuer's keys are asked for anew.
const REFRESH: Duration = Duration::from_mins(5);
/// A token with an unknown key makes us ask sooner, but not more often than this.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// How many tokens are remembered as good, so that their signature is checked once.
const REMEMBERED: usize = 10_000;
/// The longest token that is looked at, in bytes.
const BYTES_MAX: usize = 8 * 1024;
/// How far clocks may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// An algorithm that a token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAlgorithm(Algorithm);

impl FromStr for TokenAlgorithm {
    type Err = MustBe;

    fn from_str(name: &str) -> Result<Self, MustBe> {
        let known = name.parse().ok().filter(|named| ring::ALGORITHMS.contains(named));
        known.map(Self).ok_or_else(|| {
            MustBe::new(
                "must be among RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA",
            )
        })
    }
}

/// Whose tokens are good, and what they must say.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// Who signs them.
    pub issuer: IssuerUrl,
    /// For whom they must be.
    pub audience: String,
    /// What they may be signed with.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The claim that names the customer for whom the bearer acts. If set, a token without it is
    /// refused; if not, all bearers see all orders.
    pub customer_claim: Option<String>,
}

/// Judges tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    settings: OidcSettings,
    validation: Validation,
    keys: RwLock<Option<IssuerKeys>>,
    /// Tokens that were good, by their SHA-256, until they expire or the issuer's keys change.
    remembered: Cache<[u8; 32], Remembered>,
    unknown_key: Notify,
}

#[derive(Clone)]
struct Remembered {
    caller: Caller,
    until: u64,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    sub: String,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    scp: Option<ScopeList>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

/// Whether the header and the claims are JSON that is safe to be read into any type, before the
/// signature is known to be good.
fn is_plain(token: &str) -> bool {
    let parts: Vec<_> = token.splitn(4, '.').collect();
    let [header, claims, _signature] = parts[..] else { return false };
    [header, claims].into_iter().all(|part| {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        decoded.is_some_and(|bytes| json::from_slice::<IgnoredAny>(&bytes).is_ok())
    })
}

/// Issuers differ in how they write scopes.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeList {
    One(String),
    Many(Vec<String>),
}

/// What became of a token.
#[derive(Debug)]
pub enum Verdict {
    /// It is good.
    Good(Caller),
    /// It is not.
    Bad,
    /// The issuer's keys have not been had yet.
    Unknown,
}

impl Tokens {
    /// Begins to follow the issuer's keys, for as long as the runtime lives.
    ///
    /// # Errors
    /// A host without certificate authorities.
    pub fn follow(settings: OidcSettings) -> Result<Self, IssuerError> {
        ring::install();
        let issuer = Issuer::new(settings.issuer.clone())?;
        // `judge` puts in the one of the token, once it is found to be allowed.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_audience(&[&settings.audience]);
        validation.set_issuer(&[settings.issuer.as_str()]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let tokens = Self(Arc::new(Inner {
            settings,
            validation,
            keys: RwLock::new(None),
            remembered: Cache::new(REMEMBERED),
            unknown_key: Notify::new(),
        }));
        tokio::spawn(tokens.clone().refresh(issuer));
        Ok(tokens)
    }

    async fn refresh(self, issuer: Issuer) {
        loop {
            let asked = Instant::now();
            match issuer.keys().await {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "the issuer's keys are known");
                    let gone = self
                        .0
                        .keys
                        .read()
                        .as_ref()
                        .is_some_and(|known| known.keys().any(|id| !keys.contains_key(id)));
                    *self.0.keys.write() = Some(keys);
                    if gone {
                        // What a withdrawn key has signed is good no longer.
                        self.0.remembered.clear();
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the issuer's keys cannot be had; those known stay good");
                }
            }
            let wait = if self.0.keys.read().is_some() { REFRESH } else { REFRESH_MIN };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.unknown_key.notified() => tokio::time::sleep_until(asked + REFRESH_MIN).await,
            }
        }
    }

    /// Judges a token.
    pub fn judge(&self, token: &str) -> Verdict {
        if token.len() > BYTES_MAX {
            return Verdict::Bad;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(known) = self.0.remembered.get(&digest)
            && known.until > now
        {
            return Verdict::Good(known.caller);
        }
        if !is_plain(token) {
            return Verdict::Bad;
        }
        let Ok(header) = decode_header(token) else { return Verdict::Bad };
        let Some(id) = header.kid else { return Verdict::Bad };
        let key = match &*self.0.keys.read() {
            None => return Verdict::Unknown,
            Some(keys) => keys.get(&id).cloned(),
        };
        let Some(IssuerKey { key, algorithm }) = key else {
            // The issuer may have a new one.
            self.0.unknown_key.notify_one();
            return Verdict::Bad;
        };
        let allowed = self.0.settings.algorithms.contains(&TokenAlgorithm(header.alg));
        if !allowed || algorithm.is_some_and(|only| only != header.alg) {
            return Verdict::Bad;
        }
        let validation = Validation { algorithms: vec![header.alg], ..self.0.validation.clone() };
        let Ok(token) = decode::<Claims>(token, &key, &validation) else {
            return Verdict::Bad;
        };
        let until = token.claims.exp.saturating_add(LEEWAY.as_secs());
        let Some(caller) = self.caller(&token.claims) else { return Verdict::Bad };
        self.0.remembered.insert(digest, Remembered { caller: caller.clone(), until });
        Verdict::Good(caller)
    }

    fn caller(&self, claims: &Claims) -> Option<Caller> {
        let scopes = match (&claims.scope, &claims.scp) {
            (Some(words), _) | (None, Some(ScopeList::One(words))) => {
                Scopes::among(words.split(' '))
            }
            (None, Some(ScopeList::Many(words))) => Scopes::among(words.iter().map(String::as_str)),
            (None, None) => Scopes::default(),
        };
        let customer = match self.0.settings.customer_claim.as_deref() {
            None => None,
            Some("sub") => Some(claims.sub.parse::<CustomerRef>().ok()?),
            Some(name) => Some(claims.others.get(name)?.as_str()?.parse::<CustomerRef>().ok()?),
        };
        let known =
            Known { id: format!("sub:{}", claims.sub).into(), scopes, customer, rate: None };
        Some(Arc::new(known).into())
    }
}
