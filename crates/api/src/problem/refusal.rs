//! The problem for each refusal.

use holdfast_admission::Refusal;
use holdfast_domain::Shortfall;

use super::{FieldError, Problem, ProblemKind};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Short(shortfall) => short(shortfall),
            Refusal::KeyReused => Self::new(ProblemKind::KeyReused),
            Refusal::Full => Self::new(ProblemKind::Overloaded),
            Refusal::LockTimeout => Self::new(ProblemKind::Locked),
            Refusal::Unavailable => Self::new(ProblemKind::Unavailable),
            Refusal::OutcomeUnknown => Self::new(ProblemKind::OutcomeUnknown),
            Refusal::ShuttingDown => Self::new(ProblemKind::ShuttingDown),
            Refusal::Internal => Self::internal(refusal),
        }
    }
}

fn short(shortfall: Shortfall) -> Problem {
    match shortfall {
        Shortfall::UnknownProduct(id) => Problem::unknown_product(id.0),
        Shortfall::NotEnough { product_id, left } => {
            Problem::not_enough_stock(product_id.0, left.units())
        }
        Shortfall::SaleNotOpen { product_id, starts_at } => {
            Problem::sale_not_open(product_id.0, starts_at)
        }
        Shortfall::SaleOver(product_id) => Problem::sale_over(product_id.0),
        Shortfall::OverLimit { product_id, limit, left } => {
            Problem::over_limit(product_id.0, limit.into(), left.into())
        }
        Shortfall::CustomerNeeded(id) => Problem::validation(vec![FieldError::new(
            "customer_ref",
            format!("is required, because the sale of product {id} has a limit for each customer"),
        )]),
        Shortfall::PriceChanged { product_id, current } => {
            Problem::price_changed(product_id.0, current.to_major_f64())
        }
        Shortfall::UnknownHold(id) => {
            Problem::with_detail(ProblemKind::NotFound, format!("There is no hold with id {id}."))
        }
        Shortfall::HoldEnded { hold_id, status } => Problem::wrong_state(
            ProblemKind::HoldEnded,
            status.as_str(),
            format!("Hold {hold_id} is {status}."),
        ),
        Shortfall::HoldDiffers(id) => Problem::validation(vec![FieldError::new(
            "hold_id",
            format!("refers to hold {id}, which is for another product or quantity"),
        )]),
        Shortfall::CustomerDiffers(id) => Problem::validation(vec![FieldError::new(
            "customer_ref",
            format!("must be the customer of hold {id}, or absent"),
        )]),
        Shortfall::UnknownOrder => Problem::new(ProblemKind::NotFound),
        Shortfall::OrderMoved(status) => Problem::order_moved(status),
        Shortfall::OrderMayBeFulfilled(status) => Problem::order_may_be_fulfilled(status),
        Shortfall::StockFull(_) => Problem::new(ProblemKind::StockFull),
    }
}
