//! The settings of access control.

use std::{str::FromStr, time::Duration};

use axum::http::HeaderName;
use clap::{ArgAction, Args, ValueEnum};
use holdfast_telemetry::settings::{MustBe, milliseconds, needs, whole};
use holdfast_throttle::ThrottleSettings;
use tower_http::cors::CorsLayer;

use super::RedisCacheSettings;
use crate::{
    access::{self, IssuerUrl, OidcSettings, RateSettings, TokenAlgorithm, can_name_customers},
    http::{HostName, OwnSite, Proxies, cors},
    public_base::PublicBase,
};

/// The time between two exchanges of request counts through Redis.
const EXCHANGE: Duration = Duration::from_millis(50);

/// The settings of access control.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessSettings {
    /// Whether a request needs an API key or a token. `off` is for development: every client that
    /// reaches a port may then do everything there
    #[arg(long, env = "HOLDFAST_AUTH", default_value = "on", value_enum)]
    pub auth: Auth,
    /// If `HOLDFAST_AUTH` is off: whether other hosts may reach the API and the admin port, and do
    /// everything there
    #[arg(long, env = "HOLDFAST_OPEN_TO_NETWORK", default_value = "false", action = ArgAction::Set)]
    pub open_to_network: bool,
    /// If `HOLDFAST_AUTH` is off: host names of the API besides localhost and its own address, separated by
    /// commas. Requests for other names are refused, as protection against DNS rebinding
    #[arg(long, env = "HOLDFAST_ALLOWED_HOSTS", value_delimiter = ',')]
    pub allowed_hosts: Vec<HostName>,
    /// The time between two reads of the API keys, in milliseconds; a revoked key is refused within this
    /// time (100 to 60000)
    #[arg(long = "key-refresh-ms", env = "HOLDFAST_KEY_REFRESH_MS", default_value = "1000", value_parser = milliseconds(100..=60_000))]
    pub key_refresh: Duration,
    /// The OIDC issuer whose tokens are accepted, such as `https://login.shop.example`; if not set, no
    /// tokens are accepted
    #[arg(long, env = "HOLDFAST_OIDC_ISSUER")]
    pub oidc_issuer: Option<IssuerUrl>,
    /// The audience that a token must name; required with an issuer
    #[arg(long, env = "HOLDFAST_OIDC_AUDIENCE")]
    pub oidc_audience: Option<String>,
    /// The signature algorithms that are accepted: one or more of RS256, RS384, RS512, PS256, PS384, PS512,
    /// ES256, ES384, `EdDSA`
    #[arg(
        long,
        env = "HOLDFAST_OIDC_ALGORITHMS",
        default_value = "RS256,ES256",
        value_delimiter = ','
    )]
    pub oidc_algorithms: Vec<TokenAlgorithm>,
    /// The claim that names the customer of a token, such as `sub`; tokens without it are then refused. If
    /// not set, a token is valid for all customers
    #[arg(long, env = "HOLDFAST_OIDC_CUSTOMER_CLAIM")]
    pub oidc_customer_claim: Option<String>,
    /// Proxies whose header `X-Forwarded-For` is trusted: addresses or networks such as 10.0.0.0/8,
    /// separated by commas; none if not set
    #[arg(long, env = "HOLDFAST_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Proxies>,
    /// The most requests per second of a key or token, over all replicas, if the key has no limit of its
    /// own; no limit if not set (1 to 1000000)
    #[arg(long, env = "HOLDFAST_RATE_LIMIT", value_parser = whole(1..=1_000_000_u32))]
    pub rate_limit: Option<u32>,
    /// Web pages that may call the API from a browser: origins such as `https://shop.example`, separated by
    /// commas; none if not set
    #[arg(long, env = "HOLDFAST_CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
    /// Request headers that these pages may send besides those of the API and of traces, separated by commas
    #[arg(long, env = "HOLDFAST_CORS_HEADERS", value_delimiter = ',')]
    pub cors_headers: Vec<HeaderName>,
    /// The URL of the API for its clients, such as `https://shop.example/api`: the beginning of each URL in `Location`,
    /// `Link`, redirects and the OpenAPI document. If not set, it is taken from `X-Forwarded-Proto`, `X-Forwarded-Host` and
    /// `X-Forwarded-Prefix` of a proxy in `HOLDFAST_TRUSTED_PROXIES`
    #[arg(long, env = "HOLDFAST_PUBLIC_URL")]
    pub public_url: Option<PublicBase>,
}

/// Whether requests need a key or token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Each request needs a key or a token.
    On,
    /// All clients may do everything.
    Off,
}

/// The origin of a web page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// In the form that browsers send.
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
                "must be origins such as https://shop.example, in lower case and without a path",
            )
        })
    }
}

impl AccessSettings {
    pub(super) fn check(&self) -> Result<(), MustBe> {
        needs(
            ("HOLDFAST_CORS_HEADERS", !self.cors_headers.is_empty()),
            ("HOLDFAST_CORS_ORIGINS", !self.cors_origins.is_empty()),
        )?;
        let wrong = |sentence| Err(MustBe::new(sentence));
        match (&self.oidc_issuer, &self.oidc_audience, self.auth) {
            (Some(_), _, Auth::Off) => wrong(
                "HOLDFAST_OIDC_ISSUER must not be set if HOLDFAST_AUTH is off: tokens would not be checked.",
            ),
            (Some(_), None, _) => wrong(
                "HOLDFAST_OIDC_AUDIENCE must be set with HOLDFAST_OIDC_ISSUER; otherwise tokens \
                 that the issuer created for other services would be accepted.",
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
            _ if self.oidc_customer_claim.as_deref().is_some_and(|it| !can_name_customers(it)) => {
                wrong(
                    "HOLDFAST_OIDC_CUSTOMER_CLAIM must name a claim that can identify a customer, \
                     such as sub; a standard gives this one another meaning, so every token would \
                     be refused.",
                )
            }
            _ => Ok(()),
        }
    }

    /// Whether only this host may reach the API, because requests are not authenticated.
    pub fn is_closed_to_network(&self) -> bool {
        self.auth == Auth::Off && !self.open_to_network
    }

    /// Whether each request needs a key or a token.
    pub fn is_on(&self) -> bool {
        self.auth == Auth::On
    }

    /// The check that refuses requests of other sites' pages if requests are not authenticated.
    pub fn own_site(&self) -> Option<OwnSite> {
        let origins =
            || self.cors_origins.iter().map(|origin| origin.as_str().to_owned()).collect();
        (self.auth == Auth::Off)
            .then(|| OwnSite { hosts: self.allowed_hosts.clone(), origins: origins() })
    }

    /// The CORS rules, if pages of other origins are allowed.
    pub fn cors(&self) -> Option<CorsLayer> {
        cors(self.cors_origins.iter().map(Origin::as_str), &self.cors_headers)
    }

    /// How callers are authenticated; `None` if they are not.
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

    /// The rate limits of callers; `None` if callers are not authenticated.
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
