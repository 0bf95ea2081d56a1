//! What went wrong, as RFC 9457 `application/problem+json`.
//!
//! A handler answers with a [`Problem`]; it becomes a body in one place, around every request
//! (`http::service`), where the request's id is known. Nothing internal is ever in it: a cause
//! goes to the log, with the same request id.

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
    /// What is wrong with it.
    #[schema(value_type = String, example = "must be between 1 and 1000")]
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// `detail` follows the field's name in a sentence: "must be …".
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// What went wrong with a request.
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

/// What else a program may want to know.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    product_id: Option<i64>,
    left: Option<i64>,
    limit: Option<i64>,
    current_price: Option<f64>,
    starts_at: Option<jiff::Timestamp>,
    version: Option<i64>,
    /// A word that the domain has for it.
    state: Option<&'static str>,
}

impl Problem {
    /// A problem of this kind, with the sentence that explains the kind.
    pub fn new(kind: ProblemKind) -> Self {
        Self::with_detail(kind, kind.explanation())
    }

    /// A problem of this kind; `detail` is for the person who sent the request.
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

    /// Wrong fields, all of them.
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

    /// There is no such product.
    pub fn unknown_product(id: i64) -> Self {
        let mut problem = Self::with_detail(
            ProblemKind::NotFound,
            format!("There is no product with the id {id}."),
        );
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
                || format!("The sale of the product {product_id} is held back."),
                |start| format!("The sale of the product {product_id} opens at {start}."),
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

    /// The customer would get more of the product than its flash sale allows.
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

    /// One unit costs something else than the request expects.
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

    /// The product is not the one that the request's conditions name.
    pub fn precondition_failed(product_id: i64, version: i64) -> Self {
        let mut problem = Self::new(ProblemKind::PreconditionFailed);
        problem.0.facts =
            Facts { product_id: Some(product_id), version: Some(version), ..Facts::default() };
        problem
    }

    /// A change that would leave a stock outside of `0..=max`; it is `left` now.
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

    /// The order may be fulfilled, whatever its status.
    pub fn order_may_be_fulfilled(status: OrderStatus) -> Self {
        let kind = ProblemKind::OrderMayBeFulfilled;
        Self::wrong_state(kind, status.as_str(), kind.explanation())
    }

    /// What the request is about is in another state than the request needs.
    pub fn wrong_state(
        kind: ProblemKind,
        status: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut problem = Self::with_detail(kind, detail);
        problem.0.facts.state = Some(status);
        problem
    }

    /// Something of ours is broken. `cause` goes to the log only.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::new(ProblemKind::Internal).because(cause)
    }

    /// Adds what only the log gets to see.
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// The connection ends with this answer, because the request was not read to its end.
    pub fn and_close(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// Its kind.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// What only the log gets to see.
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
    /// For an error of the database after the change that was asked for is made: the answer must not say that
    /// nothing happened.
    pub fn after_change(error: StoreError) -> Self {
        Self::new(ProblemKind::OutcomeUnknown).because(error)
    }

    /// The kind for an error of the database.
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
    /// For an error status that nobody gave a problem for.
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
            assert!(problem.cause().is_some(), "{shown}: the log must tell why");
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
