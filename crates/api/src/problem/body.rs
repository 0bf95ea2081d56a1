//! The body of an answer with a problem.

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use holdfast_domain::OrderStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::{FieldError, Problem, ProblemKind};
use crate::shown_time::ShownTime;

/// An RFC 9457 problem.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// The type of the problem: a link to its explanation.
    #[schema(example = "/problems/validation")]
    r#type: &'a str,
    /// The title of the type.
    #[schema(example = "Invalid request")]
    title: &'a str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong with this request.
    #[schema(example = "quantity must be between 1 and 1000")]
    detail: &'a str,
    /// The request id, as in the header `X-Request-Id` and in the server's log.
    #[schema(example = "7f3a5c1e-000000000000002a")]
    request_id: &'a str,
    /// Each wrong field of an invalid request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
    /// The id of the product that the problem is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<i64>,
    /// For `not-enough-stock`: the units left. For `over-limit`: the units that the customer can still order.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<i64>,
    /// For `over-limit`: the most units for each customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    /// For `price-changed`: the current price of one unit, or the price of the hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    current_price: Option<f64>,
    /// For `sale-not-open`: the time at which the sale opens; absent if the sale is held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    starts_at: Option<ShownTime>,
    /// For `version-conflict`: the current version of the product.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// For `order-moved`, `order-may-be-fulfilled` and `hold-ended`: the state of the order or hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "processing")]
    state: Option<&'a str>,
}

impl Problem {
    fn to_body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        let inner = &*self.0;
        ProblemBody {
            r#type: inner.kind.uri(),
            title: inner.kind.title(),
            status: inner.kind.status().as_u16(),
            detail: &inner.detail,
            request_id,
            errors: &inner.errors,
            product_id: inner.facts.product_id,
            left: inner.facts.left,
            limit: inner.facts.limit,
            current_price: inner.facts.current_price,
            starts_at: inner.facts.starts_at.map(ShownTime),
            version: inner.facts.version,
            state: inner.facts.state,
        }
    }

    /// An example body for the document; `wrong` are the wrong fields of the example.
    pub fn example(kind: ProblemKind, wrong: &[FieldError]) -> serde_json::Value {
        let problem = match kind {
            ProblemKind::Validation => Self::validation(wrong.to_vec()),
            ProblemKind::NotEnoughStock => Self::not_enough_stock(3, 2),
            ProblemKind::StockFull => Self::stock_out_of_range(3, 10, 999_999_995, 1_000_000_000),
            ProblemKind::SaleNotOpen => Self::sale_not_open(3, "2036-11-27T10:00:00Z".parse().ok()),
            ProblemKind::SaleOver => Self::sale_over(3),
            ProblemKind::OverLimit => Self::over_limit(3, 2, 1),
            ProblemKind::PriceChanged => Self::price_changed(3, 449.0),
            ProblemKind::VersionConflict => Self::version_conflict(3, 42),
            ProblemKind::PreconditionFailed => Self::precondition_failed(3, 42),
            ProblemKind::OrderMoved => Self::order_moved(OrderStatus::Processing),
            ProblemKind::OrderMayBeFulfilled => Self::order_may_be_fulfilled(OrderStatus::Pending),
            ProblemKind::HoldEnded => Self::wrong_state(kind, "expired", kind.explanation()),
            _ => Self::new(kind),
        };
        // All keys of our types are strings.
        serde_json::to_value(problem.to_body("7f3a5c1e-000000000000002a")).unwrap_or_default()
    }

    /// Puts the problem's body into `answer`, and keeps its headers.
    pub fn write(&self, answer: &mut Response, request_id: &str) -> Bytes {
        let inner = &*self.0;
        *answer.status_mut() = inner.kind.status();
        let headers = answer.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = inner.kind.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if inner.kind == ProblemKind::Unauthorized {
            // RFC 6750, section 3. It deliberately contains no error code.
            let challenge = HeaderValue::from_static("Bearer realm=\"holdfast\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if inner.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let bytes = crate::encode::encode(&self.to_body(request_id));
        *answer.body_mut() = Body::from(Bytes::clone(&bytes));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_of_problem_has_an_example_of_its_own() {
        let wrong = [FieldError::new("quantity", "must be between 1 and 1000")];
        let mut seen = Vec::new();
        for kind in ProblemKind::ALL {
            let example = Problem::example(*kind, &wrong);
            assert_eq!(example["type"], kind.uri());
            assert_eq!(example["status"], kind.status().as_u16());
            assert_eq!(example["errors"].is_array(), *kind == ProblemKind::Validation);
            assert!(!seen.contains(&example), "{kind:?}");
            seen.push(example);
        }
    }
}
