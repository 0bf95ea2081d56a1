//! Checks whether a history can be explained by a sequence of single requests.
//!
//! This is the search of Wing and Gong (1993), with Lowe's cache of visited states (2017). The state of the shop
//! follows from the set of applied requests, so only that set is remembered.

use std::{collections::HashSet, time::Instant};

use super::{
    request::{ModelAnswer, ModelRequest},
    shop::ModelShop,
};

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Event {
    pub client: usize,
    pub sent: Instant,
    pub answered: Instant,
    pub request: ModelRequest,
    pub answer: ModelAnswer,
}

/// A complete history.
#[derive(Debug)]
pub struct Played {
    pub product_ids: Vec<i64>,
    pub stocks: [i64; super::shop::PRODUCTS],
    pub events: Vec<Event>,
}

/// The shop in its current state.
///
/// # Errors
/// No order of the requests explains the answers; the error contains the history.
pub fn explain(played: &Played) -> Result<ModelShop, String> {
    assert!(played.events.len() <= 64);
    let mut tried = HashSet::new();
    search(&played.events, 0, &ModelShop::new(played.stocks), &mut tried).ok_or_else(|| {
        let begun = played.events.iter().map(|event| event.sent).min();
        let since = |at: Instant| begun.map(|begun| at.duration_since(begun).as_micros());
        let mut events: Vec<_> = played.events.iter().collect();
        events.sort_by_key(|event| event.sent);
        let lines = events.iter().map(|event| {
            format!(
                "{:>7?}–{:>7?} µs, client {}: {:?} → {:?}\n",
                since(event.sent),
                since(event.answered),
                event.client,
                event.request,
                event.answer
            )
        });
        format!("stocks {:?}:\n{}", played.stocks, lines.collect::<String>())
    })
}

/// `done` has a bit for each event that was applied to `shop`.
fn search(
    events: &[Event],
    done: u64,
    shop: &ModelShop,
    tried: &mut HashSet<(u64, String)>,
) -> Option<ModelShop> {
    let open = |at: &usize| done & (1 << at) == 0;
    let Some(first_end) = (0..events.len()).filter(open).map(|at| events[at].answered).min() else {
        return Some(shop.clone());
    };
    // The same events in another order can lead to another state, because a hold keeps the price of its time.
    if !tried.insert((done, format!("{shop:?}"))) {
        return None;
    }
    // A request that changes nothing is applied as soon as its answer is possible. This excludes no other order.
    let refused = (0..events.len()).filter(open).find(|&at| {
        events[at].answer.is_refusal()
            && shop.after(&events[at].request, &events[at].answer).is_some()
    });
    if let Some(at) = refused {
        return search(events, done | 1 << at, shop, tried);
    }
    (0..events.len()).filter(open).filter(|&at| events[at].sent <= first_end).find_map(|at| {
        let after = shop.after(&events[at].request, &events[at].answer)?;
        search(events, done | 1 << at, &after, tried)
    })
}
