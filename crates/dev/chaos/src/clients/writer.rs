//! A client that writes on every route, to products of the shop and to its own objects.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_bench::audit::{LoggedLine, LoggedSale, Write};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value;
use tokio::sync::watch;

use super::exchange::{HangUp, KeptConnection, Moment, Told};
use super::{ClientsRecord, PAUSE, ReplicaAddress, RequestOutcome};
use crate::downstream::REFUSED_AT_FIRST;

/// The statuses with which the API may refuse a request: a conflict, or an unavailable server. Answered objects exist, so
/// 404 is wrong.
const DECLINED: [u16; 2] = [409, 504];

/// The longest wait before a hang-up: about the time of an answer.
const WAIT_US: u64 = 4_000;

/// The number of repetitions of a request with a key that had no answer.
const TRIES: u32 = 4;

/// The most objects of each kind that are remembered.
const OWN_MAX: usize = 20;

/// The weight of each route, in the order of [`Write::ROUTES`].
const WEIGHTS: [u32; 15] = [6, 8, 3, 10, 30, 6, 10, 5, 4, 3, 4, 3, 4, 3, 2];

pub(super) struct Writer {
    /// The prefix of its names.
    name: String,
    made_up: u64,
    public: KeptConnection,
    admin: KeptConnection,
    hang_ups: f64,
    random: StdRng,
    /// The products of the shop.
    products: Vec<i64>,
    own: Own,
    /// The next request, if it is not random.
    next: Option<Next>,
}

/// The objects that it has created and can still write to. An object is removed before a write, and added again when the
/// outcome is known.
#[derive(Default)]
struct Own {
    products: VecDeque<i64>,
    orders: VecDeque<i64>,
    /// Orders that the receiver refuses at first.
    refused: VecDeque<i64>,
    /// With product, quantity and customer.
    holds: VecDeque<(i64, i64, i32, String)>,
    keys: VecDeque<String>,
    sales: VecDeque<(String, LoggedSale)>,
}

/// A repeated request, or one that follows from the previous one.
struct Next {
    write: Write,
    /// The number of times it was sent without an answer.
    tries: u32,
    /// It was answered before, so it has no further effect.
    repeat: bool,
}

impl Next {
    fn first(write: Write) -> Self {
        Self { write, tries: 0, repeat: false }
    }
}

impl Writer {
    pub(super) fn new(
        name: String,
        target: ReplicaAddress,
        products: Vec<i64>,
        hang_ups: f64,
        random: StdRng,
    ) -> Self {
        let (public, admin) =
            (KeptConnection::new(target.public), KeptConnection::new(target.admin));
        let own = Own::default();
        Self { name, made_up: 0, public, admin, hang_ups, random, products, own, next: None }
    }

    /// Writes until it is stopped.
    pub(super) async fn run(mut self, seen: &Mutex<ClientsRecord>, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let next = match self.next.take() {
                Some(next) => next,
                None => Next::first(self.draw()),
            };
            let hang_up = self.hang_up();
            let connection =
                if next.write.is_administrative() { &mut self.admin } else { &mut self.public };
            let told = connection.send(&next.write.request(), hang_up).await;
            let answered = self.remember(next, &told);
            note(answered, hang_up, &told, seen);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn hang_up(&mut self) -> Option<HangUp> {
        self.random.random_bool(self.hang_ups).then(|| HangUp {
            moment: *Moment::ALL.choose(&mut self.random).unwrap_or(&Moment::AfterRequest),
            part: self.random.random(),
            wait: Duration::from_micros(self.random.random_range(0..WAIT_US)),
        })
    }

    /// A new name.
    fn name(&mut self) -> String {
        self.made_up += 1;
        format!("{}-{}", self.name, self.made_up)
    }

    fn key(&mut self) -> Option<String> {
        self.random.random_bool(0.5).then(|| self.name())
    }

    fn draw(&mut self) -> Write {
        let mut drawn = self.random.random_range(0..WEIGHTS.iter().sum());
        let route = WEIGHTS.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        let of_own = match Write::ROUTES.get(route.unwrap_or_default()).copied().unwrap_or_default()
        {
            "POST /products" => None,
            "PUT /products/{id}" => self.own.products.pop_front().map(|id| self.update(id)),
            "DELETE /products/{id}" => {
                self.own.products.pop_front().map(|id| Write::DeleteProduct { id })
            }
            "POST /products/{id}/stock" => Some(self.adjust()),
            "POST /orders" => Some(self.order()),
            "POST /orders/{id}/cancel" => Some(
                self.own
                    .orders
                    .pop_back()
                    .map_or_else(|| self.order(), |id| Write::CancelOrder { id }),
            ),
            "POST /holds" => Some(self.hold()),
            "DELETE /holds/{id}" => {
                let hold = self.own.holds.pop_front();
                Some(hold.map_or_else(|| self.hold(), |(id, ..)| Write::ReleaseHold { id }))
            }
            "POST /api-keys" => Some(self.api_key()),
            "DELETE /api-keys/{id}" => {
                let key = self.own.keys.pop_front();
                Some(key.map_or_else(|| self.api_key(), |id| Write::RevokeApiKey { id }))
            }
            "PUT /sales/{name}" => self.sale(),
            "DELETE /sales/{name}" => {
                let sale = self.own.sales.pop_front();
                sale.map(|(name, _)| Write::DeleteSale { name }).or_else(|| self.sale())
            }
            route => Some(self.dead_letter(route)),
        };
        of_own.unwrap_or_else(|| self.product())
    }

    fn product(&mut self) -> Write {
        Write::CreateProduct {
            name: self.name(),
            price_minor: self.random.random_range(0..100_000),
            stock: self.random.random_range(1_000..10_000),
            id: None,
        }
    }

    fn update(&mut self, id: i64) -> Write {
        let stock_change = if self.random.random() { self.random.random_range(1..5) } else { 0 };
        let (name, price_minor) = (self.name(), self.random.random_range(0..100_000));
        Write::UpdateProduct { id, name, price_minor, stock_change, version: None }
    }

    /// One of its own products, or one of the shop, which all clients share.
    fn any_product(&mut self) -> i64 {
        let of = if self.random.random() { self.own.products.make_contiguous() } else { &mut [] };
        of.choose(&mut self.random).or(self.products.choose(&mut self.random)).copied().unwrap_or(1)
    }

    fn adjust(&mut self) -> Write {
        let delta = self.random.random_range(1..=5) * if self.random.random() { 1 } else { -1 };
        let (id, note, key) = (self.any_product(), self.name(), self.key());
        Write::AdjustStock { id, delta, note, key, version: None }
    }

    fn order(&mut self) -> Write {
        let hold = if self.random.random_bool(0.3) { self.own.holds.pop_front() } else { None };
        let mut lines = Vec::new();
        // A hold is used by its own customer, which has no other order.
        let customer = match hold {
            Some((id, product_id, quantity, customer)) => {
                lines.push(LoggedLine { product_id, quantity, hold_id: Some(id) });
                customer
            }
            None => self.customer(),
        };
        for _ in 0..self.random.random_range(1..=3) {
            let product_id = self.any_product();
            if lines.iter().all(|line| line.product_id != product_id) {
                let quantity = self.random.random_range(1..=3);
                lines.push(LoggedLine { product_id, quantity, hold_id: None });
            }
        }
        Write::PlaceOrder { customer, lines, key: self.key(), id: None }
    }

    fn customer(&mut self) -> String {
        if self.random.random_bool(0.3) {
            format!("{REFUSED_AT_FIRST}{}", self.name())
        } else {
            self.name()
        }
    }

    fn hold(&mut self) -> Write {
        Write::CreateHold {
            customer: self.customer(),
            product_id: self.any_product(),
            quantity: self.random.random_range(1..=3),
            // Some expire before they are used.
            seconds: if self.random.random_bool(0.2) { 1 } else { 600 },
            key: self.key(),
            id: None,
        }
    }

    fn api_key(&mut self) -> Write {
        let scopes = ["orders:read", "orders:write"].map(ToOwned::to_owned).to_vec();
        Write::CreateApiKey { name: self.name(), scopes, id: None }
    }

    /// A new sale, or a change of an existing one; `None` if it has no product.
    fn sale(&mut self) -> Option<Write> {
        let per_customer = Some(self.random.random_range(1_000..1_000_000));
        if self.random.random()
            && let Some((name, sale)) = self.own.sales.pop_front()
        {
            return Some(Write::PutSale { name, sale: LoggedSale { per_customer, ..sale } });
        }
        let sale = LoggedSale {
            products: vec![*self.own.products.front()?],
            starts_at: "2020-01-01T00:00:00Z".to_owned(),
            ends_at: "2036-01-01T00:00:00Z".to_owned(),
            per_customer,
            held_back: self.random.random_bool(0.1),
        };
        Some(Write::PutSale { name: self.name(), sale })
    }

    /// A replay or discard of orders that the receiver has refused, or such an order.
    fn dead_letter(&mut self, route: &str) -> Write {
        let by = self.name();
        let Some(id) = self.own.refused.pop_front() else { return self.order() };
        match route {
            "POST /dead-letters/{id}/replay" => Write::ReplayDeadLetter { id, by },
            "POST /dead-letters/{id}/discard" => Write::DiscardDeadLetter { id, by },
            _ => {
                let more = self.own.refused.len().min(2);
                let ids = std::iter::once(id).chain(self.own.refused.drain(..more)).collect();
                Write::ReplayDeadLetters { ids, by }
            }
        }
    }

    /// Remembers the outcome; returns the write with the data of its answer for the log.
    fn remember(&mut self, next: Next, told: &Told) -> (Write, RequestOutcome) {
        let Next { write, tries, repeat } = next;
        match (told, told.outcome(&DECLINED)) {
            (Told::Answer { body, .. }, RequestOutcome::Accepted) => {
                let Some(answered) = write.clone().told(body) else {
                    return (write, RequestOutcome::Wrong);
                };
                if !repeat {
                    self.answered(&write, &answered);
                }
                (answered, RequestOutcome::Accepted)
            }
            (_, RequestOutcome::CutOff) => {
                if write.key().is_some() && tries < TRIES {
                    self.next = Some(Next { write: write.clone(), tries: tries + 1, repeat });
                }
                (write, RequestOutcome::CutOff)
            }
            (told, outcome) => {
                let body = if let Told::Answer { body, .. } = told { body } else { &Value::Null };
                if !repeat {
                    self.declined(&write, body);
                }
                (write, outcome)
            }
        }
    }

    fn answered(&mut self, asked: &Write, answered: &Write) {
        match answered {
            Write::CreateProduct { id: Some(id), .. } | Write::UpdateProduct { id, .. } => {
                keep(&mut self.own.products, *id);
            }
            Write::PlaceOrder { id: Some(id), customer, .. } => {
                if customer.starts_with(REFUSED_AT_FIRST) {
                    keep(&mut self.own.refused, *id);
                } else if self.random.random_bool(0.5) {
                    // Before a worker starts it.
                    self.next = Some(Next::first(Write::CancelOrder { id: *id }));
                } else {
                    keep(&mut self.own.orders, *id);
                }
            }
            Write::CreateHold { id: Some(id), product_id, quantity, customer, .. } => {
                keep(&mut self.own.holds, (*id, *product_id, *quantity, customer.clone()));
            }
            Write::CreateApiKey { id: Some(id), .. } => keep(&mut self.own.keys, id.clone()),
            Write::PutSale { name, sale } => {
                keep(&mut self.own.sales, (name.clone(), sale.clone()));
            }
            Write::ReplayDeadLetters { ids: replayed, .. } => {
                let Write::ReplayDeadLetters { ids, .. } = asked else { return };
                for id in ids.iter().filter(|id| !replayed.contains(id)) {
                    keep(&mut self.own.refused, *id);
                }
            }
            _ => {}
        }
        if asked.key().is_some() && self.next.is_none() && self.random.random_bool(0.3) {
            self.next = Some(Next { repeat: true, ..Next::first(asked.clone()) });
        }
    }

    /// Adds an object again that was not changed.
    fn declined(&mut self, write: &Write, problem: &Value) {
        let ended = ["completed", "cancelled"].iter().any(|state| problem["state"] == *state);
        match write {
            Write::UpdateProduct { id, .. } => keep(&mut self.own.products, *id),
            Write::RevokeApiKey { id } => keep(&mut self.own.keys, id.clone()),
            Write::ReplayDeadLetter { id, .. } | Write::DiscardDeadLetter { id, .. } if !ended => {
                keep(&mut self.own.refused, *id);
            }
            Write::ReplayDeadLetters { ids, .. } => self.own.refused.extend(ids),
            _ => {}
        }
    }
}

fn keep<T>(own: &mut VecDeque<T>, one: T) {
    if own.len() == OWN_MAX {
        own.pop_front();
    }
    own.push_back(one);
}

/// Adds the write to the log.
fn note(
    (write, outcome): (Write, RequestOutcome),
    hang_up: Option<HangUp>,
    told: &Told,
    seen: &Mutex<ClientsRecord>,
) {
    let route = write.route();
    let mut seen = seen.lock();
    match (hang_up, told) {
        (Some(hang_up), Told::Nothing) => {
            *seen.hang_ups.entry((route, hang_up.moment)).or_default() += 1;
        }
        _ => *seen.answers.entry(format!("{route}: {}", told.words())).or_default() += 1,
    }
    match outcome {
        RequestOutcome::Accepted => seen.log.answered.push(write),
        RequestOutcome::CutOff => seen.log.unanswered.push(write),
        RequestOutcome::Wrong => seen.wrong(format!("{route}: {}", told.words())),
        // A request that was not sent has no effect.
        RequestOutcome::Refused if matches!(told, Told::NotConnected) => {}
        RequestOutcome::Refused => seen.log.refused.push(write),
    }
}

#[cfg(test)]
mod tests;
