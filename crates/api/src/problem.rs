//! Errors as RFC 9457 `application/problem+json`.
//!
//! A handler returns a [`Problem`]. `http::service`, which knows the request id, turns it into a body. The body
//! contains nothing internal: the cause is logged with the same request id.

use std::{borrow::Cow, error::Error, sync::Arc};

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use holdfast_domain::OrderStatus;
use holdfast_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

mod body;
mod kind;
mod refusal;

pub use body::ProblemBody;
pub use kind::ProblemKind;

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name in the body, the query or the path; `body` for the body as a whole.
    #[schema(value_type = String, example = "quantity")]
    pub field: Cow<'static, str>,
    /// The error, as the rest of a sentence that begins with the field's name.
    #[schema(value_type = String, example = "must be between 1 and 1000")]
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// `detail` continues a sentence that begins with the field's name: "must be …".
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }

    /// The error for an unknown query parameter. `known` are the parameters of the operation.
    pub fn unknown_parameter(name: String, known: &[String]) -> Self {
        let known = match known {
            [] => "it has none".to_owned(),
            known => format!("the parameters are {}", known.join(", ")),
        };
        Self::new(name, format!("is not a parameter of this operation; {known}"))
    }
}

/// An error of a request.
#[derive(Clone, Debug)]
pub struct Problem(Box<ProblemParts>);

#[derive(Clone, Debug)]
struct ProblemParts {
    kind: ProblemKind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    facts: Facts,
    /// The rest of the request was not read, so the connection cannot be used again.
    close: bool,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// Additional members of a problem.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    product_id: Option<i64>,
    left: Option<i64>,
    limit: Option<i64>,
    current_price: Option<f64>,
    starts_at: Option<jiff::Timestamp>,
    version: Option<i64>,
    /// A status of the domain, as text.
    state: Option<&'static str>,
}

impl Problem {
    /// A problem with the explanation of its kind.
    pub fn new(kind: ProblemKind) -> Self {
        Self::with_detail(kind, kind.explanation())
    }

    /// A problem with a detail about this request.
    pub fn with_detail(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(ProblemParts {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            facts: Facts::default(),
            close: false,
            cause: None,
        }))
    }

    /// All wrong fields.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        use std::fmt::Write as _;

        let mut detail = String::new();
        for error in &errors {
            let separator = if detail.is_empty() { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(detail, "{separator}{} {}", error.field, error.detail);
        }
        let mut problem = Self::with_detail(ProblemKind::Validation, detail);
        problem.0.errors = errors;
        problem
    }

    /// The body as a whole is wrong.
    pub fn body(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::validation(vec![FieldError::new("body", detail)])
    }

    /// The product does not exist.
    pub fn unknown_product(id: i64) -> Self {
        let mut problem =
            Self::with_detail(ProblemKind::NotFound, format!("There is no product with id {id}."));
        problem.0.facts.product_id = Some(id);
        problem
    }

    /// Fewer units are left than were asked for.
    pub fn not_enough_stock(product_id: i64, left: i64) -> Self {
        let mut problem = Self::new(ProblemKind::NotEnoughStock);
        problem.0.facts =
            Facts { product_id: Some(product_id), left: Some(left), ..Facts::default() };
        problem
    }

    /// The product's flash sale is not open yet, and when it will be.
    pub fn sale_not_open(product_id: i64, starts_at: Option<jiff::Timestamp>) -> Self {
        let mut problem = Self::with_detail(
            ProblemKind::SaleNotOpen,
            starts_at.map_or_else(
                || format!("The sale of product {product_id} is held back."),
                |start| format!("The sale of product {product_id} opens at {start}."),
            ),
        );
        problem.0.facts = Facts { product_id: Some(product_id), starts_at, ..Facts::default() };
        problem
    }

    /// The product's flash sale is over.
    pub fn sale_over(product_id: i64) -> Self {
        let mut problem = Self::new(ProblemKind::SaleOver);
        problem.0.facts.product_id = Some(product_id);
        problem
    }

    /// The customer would exceed the limit of the product's flash sale.
    pub fn over_limit(product_id: i64, limit: i64, left: i64) -> Self {
        let mut problem = Self::new(ProblemKind::OverLimit);
        problem.0.facts = Facts {
            product_id: Some(product_id),
            limit: Some(limit),
            left: Some(left),
            ..Facts::default()
        };
        problem
    }

    /// The price is not the one that the request expects.
    pub fn price_changed(product_id: i64, current_price: f64) -> Self {
        let mut problem = Self::new(ProblemKind::PriceChanged);
        problem.0.facts = Facts {
            product_id: Some(product_id),
            current_price: Some(current_price),
            ..Facts::default()
        };
        problem
    }

    /// The product has changed since the version that the request names.
    pub fn version_conflict(product_id: i64, version: i64) -> Self {
        let mut problem = Self::new(ProblemKind::VersionConflict);
        problem.0.facts =
            Facts { product_id: Some(product_id), version: Some(version), ..Facts::default() };
        problem
    }

    /// The product does not meet the conditions of the request.
    pub fn precondition_failed(product_id: i64, version: i64) -> Self {
        let mut problem = Self::new(ProblemKind::PreconditionFailed);
        problem.0.facts =
            Facts { product_id: Some(product_id), version: Some(version), ..Facts::default() };
        problem
    }

    /// The change would leave a stock outside of `0..=max`. The current stock is `left`.
    pub fn stock_out_of_range(product_id: i64, delta: i64, left: i64, max: i64) -> Self {
        let kind = if delta < 0 { ProblemKind::NotEnoughStock } else { ProblemKind::StockFull };
        let mut problem = Self::with_detail(
            kind,
            format!("The stock is {left}: a delta from {} to {} is allowed.", -left, max - left),
        );
        problem.0.facts =
            Facts { product_id: Some(product_id), left: Some(left), ..Facts::default() };
        problem
    }

    /// The order is in another state than the request needs.
    pub fn order_moved(status: OrderStatus) -> Self {
        Self::wrong_state(
            ProblemKind::OrderMoved,
            status.as_str(),
            format!(
                "The order is {status}. Only a pending order can be cancelled, and only a failed \
                 one replayed or discarded."
            ),
        )
    }

    /// The order may have been fulfilled.
    pub fn order_may_be_fulfilled(status: OrderStatus) -> Self {
        let kind = ProblemKind::OrderMayBeFulfilled;
        Self::wrong_state(kind, status.as_str(), kind.explanation())
    }

    /// The order or hold is in another state than the request needs.
    pub fn wrong_state(
        kind: ProblemKind,
        status: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut problem = Self::with_detail(kind, detail);
        problem.0.facts.state = Some(status);
        problem
    }

    /// An internal error. `cause` is only logged.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::new(ProblemKind::Internal).because(cause)
    }

    /// Adds a cause, which is only logged.
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// The connection is closed after this answer, because the request was not read completely.
    pub fn and_close(mut self) -> Self {
        self.0.close = true;
        self
    }

    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The cause, which is only logged.
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.kind.status();
        response.extensions_mut().insert(self);
        response
    }
}

impl Problem {
    /// A database error after the requested change. The answer must not say that nothing was changed.
    pub fn after_change(error: StoreError) -> Self {
        Self::new(ProblemKind::OutcomeUnknown).because(error)
    }

    /// The kind of a database error.
    pub fn kind_of(error: &StoreError) -> ProblemKind {
        match error {
            StoreError::LockTimeout(_) => ProblemKind::Locked,
            StoreError::Busy(_) | StoreError::Timeout(_) | StoreError::TooManyWaiting => {
                ProblemKind::Overloaded
            }
            StoreError::Unavailable(_) => ProblemKind::Unavailable,
            StoreError::Unanswered(_) => ProblemKind::OutcomeUnknown,
            _ => ProblemKind::Internal,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(Self::kind_of(&error)).because(error)
    }
}

impl From<StatusCode> for Problem {
    /// The problem for an error status that has no problem yet.
    fn from(status: StatusCode) -> Self {
        Self::new(ProblemKind::of_status(status))
    }
}

impl Problem {
    /// The wrong fields.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0.errors
    }

    /// The names of the wrong fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.errors.iter().map(|error| &*error.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_after_a_change_does_not_say_that_nothing_was_changed() {
        let corrupt = || StoreError::Corrupt { what: "order", reason: String::new() };
        for error in [
            StoreError::LockTimeout(sqlx::Error::PoolClosed),
            StoreError::Timeout(sqlx::Error::PoolClosed),
            StoreError::Busy(sqlx::Error::PoolTimedOut),
            StoreError::TooManyWaiting,
            StoreError::Unavailable(sqlx::Error::PoolClosed),
            StoreError::Unanswered(sqlx::Error::PoolClosed),
            StoreError::KeyTaken,
            corrupt(),
            StoreError::Database(sqlx::Error::RowNotFound),
        ] {
            let shown = format!("{error:?}");
            let problem = Problem::after_change(error);
            assert_eq!(problem.kind(), ProblemKind::OutcomeUnknown, "{shown}");
            assert!(problem.cause().is_some(), "{shown}: the log must contain the cause");
        }
    }

    #[test]
    fn an_error_before_a_change_has_its_own_type() {
        let kind = |error| Problem::from(error).kind();
        assert_eq!(kind(StoreError::Busy(sqlx::Error::PoolTimedOut)), ProblemKind::Overloaded);
        assert_eq!(kind(StoreError::TooManyWaiting), ProblemKind::Overloaded);
        assert_eq!(kind(StoreError::LockTimeout(sqlx::Error::PoolClosed)), ProblemKind::Locked);
        assert_eq!(
            kind(StoreError::Unavailable(sqlx::Error::PoolClosed)),
            ProblemKind::Unavailable
        );
        assert_eq!(
            kind(StoreError::Unanswered(sqlx::Error::PoolClosed)),
            ProblemKind::OutcomeUnknown
        );
        assert_eq!(kind(StoreError::KeyTaken), ProblemKind::Internal);
    }
}
