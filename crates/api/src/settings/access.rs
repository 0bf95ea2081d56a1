//! The settings of who may do what.

use std::{str::FromStr, time::Duration};

use axum::http::HeaderName;
use clap::{ArgAction, Args, ValueEnum};
use holdfast_telemetry::settings::{MustBe, milliseconds, whole};
use holdfast_throttle::ThrottleSettings;
use tower_http::cors::CorsLayer;

use super::RedisCacheSettings;
use crate::{
    access::{self, IssuerUrl, OidcSettings, RateSettings, TokenAlgorithm},
    http::{HostName, OwnSite, Proxies, PublicBase, cors},
};

/// How often the counts of requests are added up in Redis.
const EXCHANGE: Duration = Duration::from_millis(50);

/// Who may do what.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessSettings {
    /// Whether a request needs an API key or a token. `off` is for a laptop: everybody who reaches
    /// a port may then do everything there
    #[arg(long, env = "HOLDFAST_AUTH", default_value = "on", value_enum)]
    pub auth: Auth,
    /// Where `HOLDFAST_AUTH` is off: whether the API and the administration may be reached from other
    /// hosts, all of which may then do everything
    #[arg(long, env = "HOLDFAST_OPEN_TO_NETWORK", default_value = "false", action = ArgAction::Set)]
    pub open_to_network: bool,
    /// Where `HOLDFAST_AUTH` is off: by which names the API may be called besides localhost and its own
    /// address, with commas between them. Any other is a sign that a web page was made to look like it
    #[arg(long, env = "HOLDFAST_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<HostName>,
    /// How often the API keys are read anew, in milliseconds: a revoked key stops within that time
    /// (100 to 60000)
    #[arg(long = "key-refresh-ms", env = "HOLDFAST_KEY_REFRESH_MS", default_value = "1000", value_parser = milliseconds(100..=60_000))]
    pub key_refresh: Duration,
    /// The OIDC issuer whose tokens are good, such as <https://login.shop.example>; none
    /// unless set
    #[arg(long, env = "HOLDFAST_OIDC_ISSUER")]
    pub oidc_issuer: Option<IssuerUrl>,
    /// The audience that a token must be for; needed with an issuer
    #[arg(long, env = "HOLDFAST_OIDC_AUDIENCE")]
    pub oidc_audience: Option<String>,
    /// What a token may be signed with: one or more of RS256, RS384, RS512, PS256, PS384, PS512,
    /// ES256, ES384, `EdDSA`
    #[arg(
        long,
        env = "HOLDFAST_OIDC_ALGORITHMS",
        default_value = "RS256,ES256",
        value_delimiter = ','
    )]
    pub oidc_algorithms: Vec<TokenAlgorithm>,
    /// The claim of a token that names its one customer, such as `sub`. Where it is set, a token
    /// without it is refused; where not, the bearer of a token acts for all customers
    #[arg(long, env = "HOLDFAST_OIDC_CUSTOMER_CLAIM")]
    pub oidc_customer_claim: Option<String>,
    /// Proxies that are believed who their clients are, by the header `X-Forwarded-For`: addresses or
    /// networks such as 10.0.0.0/8, with commas between them; none unless set
    #[arg(long, env = "HOLDFAST_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Proxies>,
    /// How many requests a second a key or token may send, over all replicas, unless the key says
    /// otherwise; as many as it wants unless set (1 to 1000000)
    #[arg(long, env = "HOLDFAST_RATE_LIMIT", value_parser = whole(1..=1_000_000_u32))]
    pub rate_limit: Option<u32>,
    /// The web pages that may call the API from a browser: origins such as <https://shop.example>,
    /// with commas between them; none unless set
    #[arg(long, env = "HOLDFAST_CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
    /// Names of further request headers that these pages may send, with commas between them, besides those that the API
    /// and traces use
    #[arg(long, env = "HOLDFAST_CORS_HEADERS", value_delimiter = ',')]
    pub cors_headers: Vec<HeaderName>,
    /// The address by which clients reach the API, such as <https://shop.example/api>: what stands before each path in
    /// `Location`, `Link`, redirects and the OpenAPI document. Unless set, what a proxy in `HOLDFAST_TRUSTED_PROXIES` says in
    /// `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix`
    #[arg(long, env = "HOLDFAST_PUBLIC_URL")]
    pub public_url: Option<PublicBase>,
}

/// Whether requests need a key or token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Each request needs a key or a token.
    On,
    /// Everybody may do everything.
    Off,
}

/// Where a web page comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let good = host.is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte)
                })
        });
        good.then(|| Self(text.to_owned())).ok_or_else(|| {
            MustBe::new(
                "must be origins such as https://shop.example, in small letters and without a path",
            )
        })
    }
}

impl AccessSettings {
    pub(super) fn check(&self) -> Result<(), MustBe> {
        let wrong = |sentence| Err(MustBe::new(sentence));
        match (&self.oidc_issuer, &self.oidc_audience, self.auth) {
            (Some(_), _, Auth::Off) => wrong(
                "HOLDFAST_OIDC_ISSUER must not be set where HOLDFAST_AUTH is off: no token would be looked at.",
            ),
            (Some(_), None, _) => wrong(
                "HOLDFAST_OIDC_AUDIENCE must be set with HOLDFAST_OIDC_ISSUER, or a token that the issuer made for \
                 another service would be good here.",
            ),
            (Some(_), Some(audience), _) if audience.trim().is_empty() => {
                wrong("HOLDFAST_OIDC_AUDIENCE must not be empty.")
            }
            (None, Some(_), _) => {
                wrong("HOLDFAST_OIDC_AUDIENCE must not be set without HOLDFAST_OIDC_ISSUER.")
            }
            (None, _, _) if self.oidc_customer_claim.is_some() => {
                wrong("HOLDFAST_OIDC_CUSTOMER_CLAIM must not be set without HOLDFAST_OIDC_ISSUER.")
            }
            _ => Ok(()),
        }
    }

    /// Whether only this host may reach the API: nobody is asked who they are.
    pub fn is_closed_to_network(&self) -> bool {
        self.auth == Auth::Off && !self.open_to_network
    }

    /// Whether each request needs a key or a token.
    pub fn is_on(&self) -> bool {
        self.auth == Auth::On
    }

    /// What keeps pages of other sites out, where nobody is asked who they are.
    pub fn own_site(&self) -> Option<OwnSite> {
        let origins =
            || self.cors_origins.iter().map(|origin| origin.as_str().to_owned()).collect();
        (self.auth == Auth::Off)
            .then(|| OwnSite { hosts: self.allowed_hosts.clone(), origins: origins() })
    }

    /// What lets pages of other origins in, if there are any.
    pub fn cors(&self) -> Option<CorsLayer> {
        cors(self.cors_origins.iter().map(Origin::as_str), &self.cors_headers)
    }

    /// How callers are known; `None`: nobody is asked.
    pub fn access(&self) -> Option<access::AuthenticationSettings> {
        let oidc =
            self.oidc_issuer.clone().zip(self.oidc_audience.clone()).map(|(issuer, audience)| {
                OidcSettings {
                    issuer,
                    audience,
                    algorithms: self.oidc_algorithms.clone(),
                    customer_claim: self.oidc_customer_claim.clone(),
                }
            });
        (self.auth == Auth::On)
            .then_some(access::AuthenticationSettings { key_refresh: self.key_refresh, oidc })
    }

    /// How many requests a caller may send; `None` where nobody is known.
    pub fn rates(&self, cache: &RedisCacheSettings) -> Option<RateSettings> {
        let cache = cache.cache();
        let throttle = ThrottleSettings {
            redis_url: cache.redis_url,
            redis_ca: cache.redis_ca,
            op_timeout: cache.op_timeout,
            exchange: EXCHANGE,
        };
        (self.auth == Auth::On).then_some(RateSettings { per_second: self.rate_limit, throttle })
    }
}
