//! Who of a batch gets what: pure, between the lock and the write.

use std::collections::HashMap;

use holdfast_domain::{
    CustomerRef, Demand, Grant, HeldUnits, HoldId, HoldStatus, Metadata, ProductId, Shelf,
    Shortfall,
};
use holdfast_store::{Cancelled, Ended, NewHold, NewOrder, Records, ResultKind};

use super::{
    Refusal,
    ticket::{Accepted, OrderedBy, Ticket},
};

/// What is to be said to the caller of a ticket once the batch is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Granted(Grant),
    Refused(Refusal),
    /// The same request as that of an earlier ticket of the batch, by its place.
    RepeatOf(usize),
    /// The same request as one that was granted before the batch.
    Earlier {
        kind: ResultKind,
        id: i64,
    },
}

/// Rules on tickets in the order of their arrival. Keys that were used before the batch have been dealt
/// with.
pub(super) fn rule(shelf: &mut Shelf, tickets: &[Ticket]) -> Vec<Ruling> {
    let mut granted_by_key = HashMap::new();
    tickets
        .iter()
        .enumerate()
        .map(|(place, ticket)| {
            let key = ticket.details.key;
            if let Some(key) = key
                && let Some(&first) = granted_by_key.get(&key.id())
            {
                let first_ticket: &Ticket = &tickets[first];
                let same = first_ticket.details.key.is_some_and(|other| key.is_repeat_of(&other))
                    && first_ticket.kind() == ticket.kind();
                return if same {
                    Ruling::RepeatOf(first)
                } else {
                    Ruling::Refused(Refusal::KeyReused)
                };
            }
            match shelf.serve(&ticket.demand, ticket.details.customer_ref.as_ref()) {
                Ok(grant) => {
                    if let Some(key) = key {
                        granted_by_key.insert(key.id(), place);
                    }
                    Ruling::Granted(grant)
                }
                Err(shortfall) => Ruling::Refused(Refusal::Short(shortfall)),
            }
        })
        .collect()
}

/// The products of which more might be there if their expired holds were given back.
pub(super) fn short_of_held(shelf: &Shelf, rulings: &[Ruling]) -> Vec<ProductId> {
    let mut short: Vec<_> = rulings
        .iter()
        .filter_map(|ruling| match ruling {
            Ruling::Refused(Refusal::Short(Shortfall::NotEnough { product_id, .. })) => {
                Some(*product_id)
            }
            _ => None,
        })
        .filter(|product_id| shelf.has_holds(*product_id))
        .collect();
    short.sort_unstable();
    short.dedup();
    short
}

/// Gives back the units of expired holds, and says which of them came back.
pub(super) fn expire(shelf: &mut Shelf, expired: Vec<(HoldId, HeldUnits)>) -> Vec<Ended> {
    expired
        .into_iter()
        .filter_map(|(hold_id, hold)| {
            shelf.put_hold(hold_id, hold);
            shelf.expire(hold_id).ok()?;
            Some(Ended { hold_id, status: HoldStatus::Expired })
        })
        .collect()
}

/// What is to be written for the grants.
pub(super) fn records<'a>(
    tickets: &'a [Ticket],
    rulings: &'a [Ruling],
    ended: Vec<Ended>,
) -> Records<'a> {
    let mut records = Records { ended, ..Records::default() };
    for (ticket, ruling) in tickets.iter().zip(rulings) {
        let Ruling::Granted(grant) = ruling else { continue };
        let details = &ticket.details;
        match (&ticket.demand, grant) {
            (Demand::Order(lines), Grant::Order { unit_prices, inherited }) => {
                let customer = details.customer_ref.as_ref().or(inherited.as_ref());
                records.orders.push(NewOrder {
                    lines,
                    unit_prices,
                    customer_ref: customer.map(CustomerRef::as_str),
                    metadata: details.metadata.as_ref().map(Metadata::as_str),
                    trace_context: details.trace_context.as_deref(),
                    key: details.key,
                });
            }
            (Demand::Hold { product_id, quantity, .. }, Grant::Hold(unit_price)) => {
                records.holds.push(NewHold {
                    product_id: *product_id,
                    quantity: *quantity,
                    unit_price: *unit_price,
                    lasts: details.lasts,
                    customer_ref: details.customer_ref.as_ref().map(CustomerRef::as_str),
                    key: details.key,
                });
            }
            (Demand::Cancel { order_id, .. }, _) => records.cancelled.push(Cancelled {
                order_id: *order_id,
                ordered: details.ordered.as_ref().map(OrderedBy::as_ordered),
            }),
            (Demand::Release { hold_id, .. }, _) => {
                records.ended.push(Ended { hold_id: *hold_id, status: HoldStatus::Released });
            }
            (_, Grant::Expired(holds)) => {
                let ended = |id: &HoldId| Ended { hold_id: *id, status: HoldStatus::Expired };
                records.ended.extend(holds.iter().map(ended));
            }
            // A grant of another kind than its demand does not exist.
            _ => {}
        }
    }
    records
}

/// The answer to a repeat within a batch, from the answer to the first.
pub(super) fn repeat_of(first: &Accepted) -> Accepted {
    use holdfast_store::ResultKind;

    match first {
        Accepted::Order(order) => Accepted::Repeat { kind: ResultKind::Order, id: order.id.0 },
        Accepted::Hold(hold) => Accepted::Repeat { kind: ResultKind::Hold, id: hold.id.0 },
        other => other.clone(),
    }
}
