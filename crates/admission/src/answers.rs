//! What the callers of a batch are told.

use holdfast_domain::Grant;
use holdfast_store::Placed;

use super::{
    Refusal,
    rule::{Ruling, repeat_of},
    ticket::{Accepted, AcceptedHold, AcceptedOrder},
};

/// For each ticket, what its caller is told.
pub(super) struct Answers(pub Vec<Result<Accepted, Refusal>>);

impl Answers {
    pub fn new(rulings: Vec<Ruling>, placed: Option<&Placed>) -> Self {
        let mut orders = placed.map(|placed| placed.orders.iter()).into_iter().flatten();
        let mut holds = placed.map(|placed| placed.holds.iter()).into_iter().flatten();
        let created_at = placed.map(|placed| placed.created_at);
        let mut answers: Vec<Result<Accepted, Refusal>> = Vec::with_capacity(rulings.len());
        for ruling in rulings {
            let answer = match ruling {
                Ruling::Refused(refusal) => Err(refusal),
                Ruling::Earlier { kind, id } => Ok(Accepted::Repeat { kind, id }),
                // A first one is always granted.
                Ruling::RepeatOf(first) => match answers.get(first) {
                    Some(Ok(first)) => Ok(repeat_of(first)),
                    _ => Err(Refusal::OutcomeUnknown),
                },
                Ruling::Granted(Grant::Returned) => Ok(Accepted::Returned),
                Ruling::Granted(Grant::Expired(holds)) => {
                    Ok(Accepted::Expired { holds: holds.len() })
                }
                // As many ids as records come back; the statement makes them so.
                Ruling::Granted(Grant::Order { unit_prices, inherited }) => orders
                    .next()
                    .zip(created_at)
                    .map(|(id, created_at)| {
                        let id = *id;
                        Accepted::Order(AcceptedOrder { id, unit_prices, inherited, created_at })
                    })
                    .ok_or(Refusal::OutcomeUnknown),
                Ruling::Granted(Grant::Hold(unit_price)) => holds
                    .next()
                    .zip(created_at)
                    .map(|(id, created_at)| {
                        Accepted::Hold(AcceptedHold { id: *id, unit_price, created_at })
                    })
                    .ok_or(Refusal::OutcomeUnknown),
            };
            answers.push(answer);
        }
        Self(answers)
    }
}
