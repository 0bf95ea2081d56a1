//! Checks whether a history can be explained by a sequence of single requests.
//!
//! The search of Wing and Gong (1993), with Lowe's memory of what has been tried (2017): what the shop
//! has become is told by which requests have happened, so that set is all that must be remembered.

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

/// A history that has happened.
#[derive(Debug)]
pub struct Played {
    pub product_ids: Vec<i64>,
    pub stocks: [i64; super::shop::PRODUCTS],
    pub events: Vec<Event>,
}

/// The shop as it must be now.
///
/// # Errors
/// No order of the requests explains the answers; with the history.
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

/// `done` has a bit for each event that has happened in `shop`.
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
    // The same events in another order can lead to another shop: a hold keeps the price of its time.
    if !tried.insert((done, format!("{shop:?}"))) {
        return None;
    }
    // What changes nothing is put in as soon as it is true: that takes no possibility away.
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
