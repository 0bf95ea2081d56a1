//! Parameters in the path of a request.

use std::marker::PhantomData;

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use holdfast_domain::{HoldId, Invalid, MAX_SALE_NAME_CHARS, OrderId, ProductId, SaleName};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, path::ParameterIn, schema::Type};

use super::value::integer;
use crate::{
    endpoint::{Argument, Description},
    problem::{FieldError, Problem},
};

/// The kind of an id in the path.
pub trait InPath {
    /// Its description in the document.
    const DESCRIPTION: &'static str;
}

impl InPath for ProductId {
    const DESCRIPTION: &'static str = "The product's id";
}

impl InPath for OrderId {
    const DESCRIPTION: &'static str = "The order's id";
}

impl InPath for HoldId {
    const DESCRIPTION: &'static str = "The hold's id";
}

/// A numeric id, which is the second part of its path: `/orders/{id}/cancel`. Any whole number of 64 bits is accepted;
/// an unknown id is answered with 404.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub i64, PhantomData<T>);

impl<T> Id<T> {
    /// The id in `path`.
    ///
    /// # Errors
    /// It is not a whole number of 64 bits.
    pub fn of(path: &str) -> Result<Self, Problem> {
        let text = path.split('/').nth(2).unwrap_or_default();
        // `parse` would accept "+1".
        let id = text.parse().ok().filter(|_| !text.starts_with('+'));
        id.map(|id| Self(id, PhantomData)).ok_or_else(|| Problem::validation(vec![wrong_id()]))
    }
}

/// The error for an invalid id.
pub fn wrong_id() -> FieldError {
    FieldError::new("id", "must be a whole number of 64 bits")
}

impl<S: Sync, T> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts.uri.path())
    }
}

/// A text in the path, percent-decoded.
pub trait PathText: Sized {
    /// Its name in the path's template.
    const NAME: &'static str;
    /// Its description in the document.
    const DESCRIPTION: &'static str;
    /// The error for an invalid text, if a text can be invalid.
    const WRONG: Option<&'static str> = None;

    /// Reads the text.
    ///
    /// # Errors
    /// The text is invalid.
    fn read(text: String) -> Result<Self, Invalid>;

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).into()
    }
}

impl PathText for SaleName {
    const NAME: &'static str = "name";
    const DESCRIPTION: &'static str = "The name of the sale; a `/` in it is sent as `%2F`";
    const WRONG: Option<&'static str> = Some(
        "must be 1 to 320 lower-case letters, digits, -, ., _ and /; parts between / must not be empty or consist of dots",
    );

    fn read(text: String) -> Result<Self, Invalid> {
        Self::new(text)
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_SALE_NAME_CHARS))
            .pattern(Some(r"^\.*[a-z0-9_-][a-z0-9._-]*(/\.*[a-z0-9_-][a-z0-9._-]*)*$"))
            .into()
    }
}

/// A [`PathText`] as an argument of a handler.
#[derive(Clone, Debug)]
pub struct PathArgument<T>(pub T);

impl<S: Send + Sync, T: PathText> FromRequestParts<S> for PathArgument<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => text,
            // Not UTF-8, so no name matches the raw text.
            Err(_) => parts.uri.path().split('/').nth(2).unwrap_or_default().to_owned(),
        };
        T::read(text)
            .map(Self)
            .map_err(|Invalid(reason)| Problem::validation(vec![FieldError::new(T::NAME, reason)]))
    }
}

impl<T: InPath> Argument for Id<T> {
    fn describe(description: &mut Description) {
        description.parameter(ParameterIn::Path, "id", T::DESCRIPTION, integer().into());
        description.may_be_wrong(wrong_id());
    }
}

impl<T: PathText> Argument for PathArgument<T> {
    fn describe(description: &mut Description) {
        description.parameter(ParameterIn::Path, T::NAME, T::DESCRIPTION, T::schema());
        if let Some(wrong) = T::WRONG {
            description.may_be_wrong(FieldError::new(T::NAME, wrong));
        }
    }
}
