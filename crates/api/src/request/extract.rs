//! Bodies and query strings as arguments of handlers.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts},
    http::{HeaderMap, HeaderName, request::Parts},
};
use utoipa::openapi::{ObjectBuilder, path::ParameterIn, schema::Type};

use super::{Fields, Input, Reading, Request, add_components, examples};
use crate::{
    access::Caller,
    app::App,
    body::{JsonText, receive},
    endpoint::{Argument, Description},
    idempotency::{self, ClientKey},
    problem::{FieldError, Problem, ProblemKind},
};

/// The header with which a client requests strict handling.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Reads a body. `error` is an additional error.
///
/// # Errors
/// All wrong fields at once.
pub fn read<T: Request>(
    body: &[u8],
    reading: &Reading<'_>,
    error: Option<FieldError>,
) -> Result<T, Problem> {
    let text = JsonText::check(body)?;
    let mut fields = Fields::of_json(&text, T::NAMES, reading.strict)?;
    let value = T::read(&mut fields, reading);
    if let Some(error) = error {
        fields.add(error);
    }
    fields.finish()?;
    // If there is no value, `finish` has returned the errors.
    value.ok_or_else(|| Problem::new(ProblemKind::Validation))
}

/// Reads an element of an array, which is an object.
///
/// # Errors
/// All wrong fields at once; `body` for the element as a whole.
pub fn read_element<T: Request>(
    element: Input<'_>,
    reading: &Reading<'_>,
) -> Result<T, Vec<FieldError>> {
    read(element.written().as_bytes(), reading, None).map_err(Problem::into_errors)
}

#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: Request> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let caller: Caller = parts.extensions.get().cloned().unwrap_or_default();
        let body = receive(&parts.headers, body, app.body).await?;
        let strict = prefers_strict(&parts.headers);
        read(&body, &Reading { limits: &app.limits, caller: &caller, strict }, None).map(Self)
    }
}

/// A body in JSON, and the header `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct KeyedBody<T> {
    /// The key, if there is one.
    pub key: Option<ClientKey>,
    pub body: T,
}

impl<T: Request> KeyedBody<T> {
    /// Receives and reads both.
    ///
    /// # Errors
    /// All wrong fields at once, including the key; or an error of receiving the body.
    pub async fn receive(
        headers: &HeaderMap,
        body: Body,
        app: &App,
        caller: &Caller,
    ) -> Result<Self, Problem> {
        let body = receive(headers, body, app.body).await?;
        let strict = prefers_strict(headers);
        Self::read(headers, &body, &Reading { limits: &app.limits, caller, strict })
    }

    /// Reads both.
    ///
    /// # Errors
    /// All wrong fields at once, including the key.
    pub fn read(headers: &HeaderMap, body: &[u8], reading: &Reading<'_>) -> Result<Self, Problem> {
        let (key, error) = match ClientKey::of(headers) {
            Ok(key) => (key, None),
            Err(error) => (None, Some(error)),
        };
        Ok(Self { key, body: read(body, reading, error)? })
    }
}

impl<T: Request> FromRequest<App> for KeyedBody<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let caller: Caller = parts.extensions.get().cloned().unwrap_or_default();
        Self::receive(&parts.headers, body, app, &caller).await
    }
}

/// The parameters of a query string.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: Request> Query<T> {
    /// Reads the text after the question mark.
    ///
    /// # Errors
    /// All wrong parameters at once.
    pub fn read(query: Option<&str>, reading: &Reading<'_>) -> Result<T, Problem> {
        let pairs: Vec<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
        let mut fields = Fields::of_query(&pairs, T::NAMES);
        let value = T::read(&mut fields, reading);
        fields.finish()?;
        value.ok_or_else(|| Problem::new(ProblemKind::Validation))
    }
}

impl<T: Request> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller: Caller = parts.extensions.get().cloned().unwrap_or_default();
        let reading = Reading { limits: &app.limits, caller: &caller, strict: false };
        Self::read(parts.uri.query(), &reading).map(Self)
    }
}

/// Whether a body with unknown fields is refused (`Prefer: handling=strict`, RFC 7240).
fn prefers_strict(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ';'])).any(|preference| {
        preference.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("handling")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("strict")
        })
    })
}

impl<T: Request> Argument for JsonBody<T> {
    fn describe(description: &mut Description) {
        let about = "`handling=strict` refuses a body with unknown fields; otherwise unknown fields are ignored";
        let text = ObjectBuilder::new().schema_type(Type::String);
        description.parameter(ParameterIn::Header, "Prefer", about, text.into());
        description.body(T::NAME, examples::<T>());
        add_components::<T>(&mut description.components);
        let first =
            T::FIELDS.iter().find(|field| field.required).map_or("body", |field| field.name);
        let wrong = if first == "body" { "must be a JSON object" } else { "is required" };
        description.may_be_wrong(FieldError::new(first, wrong));
    }
}

impl<T: Request> Argument for KeyedBody<T> {
    fn describe(description: &mut Description) {
        let schema = idempotency::schema();
        let name = idempotency::HEADER_NAME;
        description.parameter(ParameterIn::Header, name, idempotency::DESCRIPTION, schema);
        description.may_answer(&[ProblemKind::KeyReused]);
        JsonBody::<T>::describe(description);
    }
}

impl<T: Request> Argument for Query<T> {
    fn describe(description: &mut Description) {
        for field in T::FIELDS {
            description.parameter(
                ParameterIn::Query,
                field.name,
                field.description,
                (field.schema)(),
            );
            (field.components)(&mut description.components);
        }
        if let Some(field) = T::FIELDS.first() {
            description.may_be_wrong(FieldError::new(field.name, "must not be given twice"));
        }
    }
}
