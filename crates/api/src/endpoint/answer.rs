//! Answers of handlers with the schema of their body.

use std::marker::PhantomData;

use axum::{
    Json,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use utoipa::{ToSchema, openapi::Ref};

use super::{Answer, Description, answer_schema};
use crate::encode::encode;

/// An answer with a status whose body is a `T` in JSON.
pub struct JsonAnswer<const STATUS: u16, T>(Response, PhantomData<fn() -> T>);

/// 200 with a `T`.
pub type JsonOk<T> = JsonAnswer<200, T>;
/// 201 with a `T`.
pub type Created<T> = JsonAnswer<201, T>;

impl<const STATUS: u16, T> JsonAnswer<STATUS, T> {
    pub fn new(body: &T) -> Self
    where
        T: Serialize,
    {
        Self::encoded(encode(body))
    }

    /// An answer with the encoded body of a `T`.
    pub fn encoded(body: Bytes) -> Self {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(STATUS).unwrap_or_default();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Self(response, PhantomData)
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }
}

impl<const STATUS: u16, T> IntoResponse for JsonAnswer<STATUS, T> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<const STATUS: u16, T: ToSchema> Answer for JsonAnswer<STATUS, T> {
    fn describe(description: &mut Description) {
        let status = StatusCode::from_u16(STATUS).unwrap_or_default();
        add_component::<T>(description);
        description.answers.push((status, Some(Ref::from_schema_name(T::name()).into())));
    }
}

impl<T: ToSchema> Answer for Json<T> {
    fn describe(description: &mut Description) {
        JsonOk::<T>::describe(description);
    }
}

/// 200 with an array.
#[derive(Clone, Debug)]
pub struct JsonArray<T>(pub Vec<T>);

impl<T: Serialize> IntoResponse for JsonArray<T> {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

impl<T: ToSchema> Answer for JsonArray<T> {
    fn describe(description: &mut Description) {
        add_component::<T>(description);
        let items = Ref::from_schema_name(T::name()).to_array_builder();
        description.answers.push((StatusCode::OK, Some(items.into())));
    }
}

/// 204
#[derive(Clone, Copy, Debug)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl Answer for NoContent {
    fn describe(description: &mut Description) {
        description.answers.push((StatusCode::NO_CONTENT, None));
    }
}

/// Adds the named schema of `T` and the schemas that it refers to.
fn add_component<T: ToSchema>(description: &mut Description) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    let plain = schemas.into_iter().map(|(name, schema)| (name, answer_schema(schema)));
    description.components.extend(plain);
}
