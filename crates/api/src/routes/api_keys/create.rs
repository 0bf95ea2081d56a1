//! `POST /api-keys`

use axum::{
    extract::State,
    http::{HeaderValue, Method, header},
};
use holdfast_domain::{CustomerRef, Invalid, KeyName};
use holdfast_store::LIVE_KEYS_MAX;
use jiff::Timestamp;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};

use crate::{
    access::{Scope, Scopes},
    api_keys::{self, KeyRequest, MadeKeyBody, RATE_MAX},
    app::App,
    endpoint::{Access, Created, Endpoint, Tag, WRITES},
    problem::{Problem, ProblemKind},
    request::{
        Input, JsonBody, Reading, Request, Value, Wrong, array_between, date_time, integer_between,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/api-keys",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::ApiKeys,
    operation_id: "create_api_key",
    summary: "Create an API key",
    description: "Only this answer shows the key. The key becomes valid on all replicas within a few \
                  seconds.",
    answer: "The key",
    headers: &[],
    problems: &[&[ProblemKind::TooManyKeys], WRITES],
};

/// The most words in a list of scopes. There are fewer scopes, but a scope may be repeated.
const SCOPES_MAX: usize = 64;

/// A new API key.
#[derive(Debug, Request)]
pub struct NewApiKey {
    /// The purpose of the key: 1 to 200 characters.
    #[field(example = "web shop")]
    name: KeyName,
    /// The scopes of the key: `products:read`, `products:write`, `orders:read`, `orders:write`, or `admin` for
    /// everything.
    #[field(example = ["products:read", "orders:write"])]
    scopes: Scopes,
    /// Restricts the key to the orders and holds of this customer.
    #[field(example = "customer-42")]
    customer_ref: Option<CustomerRef>,
    /// The most requests per second, over all replicas; if not given, the server's limit for all keys.
    rate_per_second: Option<Rate>,
    /// The time at which the key expires; never if not given.
    expires_at: Option<Expiry>,
}

impl Value for Scopes {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let must = || {
            let all = Scope::ALL.map(Scope::as_str).join(", ");
            Invalid::from(format!("must be an array with at least one of {all}"))
        };
        let words = input.elements(SCOPES_MAX).ok_or_else(must)?;
        let scope = |word: Input<'_>| word.text().ok()?.parse::<Scope>().ok();
        let scopes: Option<Self> = words.into_iter().map(scope).collect();
        Ok(scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(must)?)
    }

    fn schema() -> RefOr<Schema> {
        let word = ObjectBuilder::new().schema_type(Type::String);
        array_between(word.into(), 1, Scope::ALL.len())
    }
}

/// Requests per second.
#[derive(Clone, Copy, Debug)]
struct Rate(u32);

impl Value for Rate {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self(api_keys::rate(input.integer()?)?))
    }

    fn schema() -> RefOr<Schema> {
        integer_between(1, RATE_MAX)
    }
}

/// A time in the future.
#[derive(Clone, Copy, Debug)]
struct Expiry(Timestamp);

impl Value for Expiry {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self(api_keys::expiry(&input.text()?)?))
    }

    fn schema() -> RefOr<Schema> {
        date_time()
    }
}

impl From<NewApiKey> for KeyRequest {
    fn from(new: NewApiKey) -> Self {
        let NewApiKey { name, scopes, customer_ref, rate_per_second, expires_at } = new;
        Self {
            name,
            scopes,
            customer: customer_ref,
            rate_per_second: rate_per_second.map(|Rate(rate)| rate),
            expires_at: expires_at.map(|Expiry(time)| time),
        }
    }
}

pub(super) async fn create(
    State(app): State<App>,
    JsonBody(new): JsonBody<NewApiKey>,
) -> Result<Created<MadeKeyBody>, Problem> {
    let made = KeyRequest::from(new).make(&app.store).await?.ok_or_else(|| {
        let detail = format!("There are {LIVE_KEYS_MAX} valid keys. Revoke one first.");
        Problem::with_detail(ProblemKind::TooManyKeys, detail)
    })?;
    tracing::info!(id = made.made.id, name = made.made.name, "an API key was created");
    Ok(Created::new(&made).with(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{read, wrong};

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        assert_eq!(wrong::<NewApiKey>("{}"), ["name", "scopes"]);
        assert_eq!(
            wrong::<NewApiKey>(
                r#"{"name":" ","scopes":[],"customer_ref":"","rate_per_second":0,"expires_at":"1999-01-01T00:00:00Z"}"#
            ),
            ["name", "scopes", "customer_ref", "rate_per_second", "expires_at"]
        );
        for scopes in ["7", "\"admin\"", "[\"orders\"]", "[\"admin\",7]", "null"] {
            let body = format!("{{\"name\":\"x\",\"scopes\":{scopes}}}");
            assert_eq!(wrong::<NewApiKey>(&body), ["scopes"]);
        }
        let good = r#"{"name":"x","scopes":["orders:read"],"rate_per_second":null}"#;
        assert!(read::<NewApiKey>(good).unwrap().rate_per_second.is_none());
    }
}
