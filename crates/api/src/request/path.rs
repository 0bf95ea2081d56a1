//! What stands in the path of a request.

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

/// What an id in the path is of.
pub trait InPath {
    /// What the document says about it.
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

/// A numeric id, which is the second part of each path that has one: `/orders/{id}/cancel`. Any whole number of 64 bits
/// is taken; one that nothing has is answered with 404.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub i64, PhantomData<T>);

impl<T> Id<T> {
    /// The id in `path`.
    ///
    /// # Errors
    /// It is no whole number of 64 bits.
    pub fn of(path: &str) -> Result<Self, Problem> {
        let text = path.split('/').nth(2).unwrap_or_default();
        // "+1" is not how an id is written.
        let id = text.parse().ok().filter(|_| !text.starts_with('+'));
        id.map(|id| Self(id, PhantomData)).ok_or_else(|| Problem::validation(vec![wrong_id()]))
    }
}

/// What is wrong with an id that is none.
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
    /// What the document says about it.
    const DESCRIPTION: &'static str;
    /// What is said of one that cannot be, if there is such a one.
    const WRONG: Option<&'static str> = None;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(text: String) -> Result<Self, Invalid>;

    /// Its schema.
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).into()
    }
}

impl PathText for SaleName {
    const NAME: &'static str = "name";
    const DESCRIPTION: &'static str = "What it is called; a `/` in it is sent as `%2F`";
    const WRONG: Option<&'static str> = Some(
        "must be 1 to 320 lower-case letters, digits, -, ., _ and /, and no part between / may be empty or have dots only",
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
            // It is no UTF-8: nothing has this name, as it stands in the path.
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
