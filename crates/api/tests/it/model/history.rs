//! Generates histories, and runs them on the real system.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use holdfast_domain::{OrderId, ProductId, Sale, SaleName};
use holdfast_sandbox::until;
use holdfast_store::fulfilment::{AttemptResult, EndedClaim, Taken};
use jiff::SignedDuration;
use proptest::{collection::vec, option, prelude::*};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    ModelReplicas,
    linear::{Event, Played},
    request::{FromHold, Items, ModelAnswer, ModelRequest},
    shop::{ANY_PRICE, Contents, LIMIT, LIMITED, ModelProduct, PRODUCTS},
};
use crate::client;

const CLIENTS: usize = 4;
const STEPS: usize = 6;

/// A request before its objects exist: orders and holds are counted from the newest.
#[derive(Clone, Debug)]
pub enum Step {
    Order { items: Units, whose: Whose, price: Option<i64>, key: Option<u8> },
    OrderHeld { hold: usize, more: Units, whose: Whose, price: Option<i64>, key: Option<u8> },
    Price { product: usize, price: i64 },
    Cancel { order: usize },
    Hold { product: usize, quantity: i64, whose: Whose },
    Release { hold: usize },
    Adjust { product: usize, delta: i64 },
    Retire { product: usize },
    Claim { order: usize },
    Return { claim: usize, taken: bool },
}

/// Products with quantities.
type Units = Vec<(usize, i64)>;
/// The customer, if one is named.
type Whose = Option<&'static str>;

#[derive(Clone, Debug)]
pub struct History {
    stocks: [i64; PRODUCTS],
    clients: Vec<Vec<Step>>,
}

pub fn histories() -> impl Strategy<Value = History> {
    let product = || 0..PRODUCTS;
    let key = || option::weighted(0.3, 0..3_u8);
    let whose = || option::weighted(0.7, prop::sample::select(vec!["ann", "bob"]));
    let price = || option::weighted(0.15, prop::sample::select(vec![100_i64, 200]));
    let items = |least: usize| vec((product(), 1..4_i64), least..=3);
    let step = prop_oneof![
        8 => (items(1), whose(), price(), key())
            .prop_map(|(items, whose, price, key)| Step::Order { items, whose, price, key }),
        3 => (0..3_usize, items(0), whose(), price(), key()).prop_map(
            |(hold, more, whose, price, key)| Step::OrderHeld { hold, more, whose, price, key }
        ),
        1 => (product(), prop::sample::select(vec![100_i64, 200]))
            .prop_map(|(product, price)| Step::Price { product, price }),
        4 => (0..3_usize).prop_map(|order| Step::Cancel { order }),
        3 => (product(), 1..4_i64, whose())
            .prop_map(|(product, quantity, whose)| Step::Hold { product, quantity, whose }),
        2 => (0..3_usize).prop_map(|hold| Step::Release { hold }),
        3 => (product(), -3..6_i64)
            .prop_filter("0 is refused", |(_, delta)| *delta != 0)
            .prop_map(|(product, delta)| Step::Adjust { product, delta }),
        1 => product().prop_map(|product| Step::Retire { product }),
        3 => (0..3_usize).prop_map(|order| Step::Claim { order }),
        2 => (0..2_usize, any::<bool>())
            .prop_map(|(claim, taken)| Step::Return { claim, taken }),
    ];
    (proptest::array::uniform3(0..8_i64), vec(vec(step, 1..=STEPS), CLIENTS))
        .prop_map(|(stocks, clients)| History { stocks, clients })
}

/// The orders and holds in the answers so far, of all clients.
#[derive(Default)]
struct Known {
    orders: Vec<i64>,
    /// With product and quantity.
    holds: Vec<(i64, usize, i64)>,
    /// Order and attempt.
    claims: Vec<(i64, i32)>,
}

fn newest<T: Copy>(items: &[T], back: usize) -> Option<T> {
    items.iter().rev().nth(back).or(items.first()).copied()
}

impl Step {
    /// The request, if its objects exist.
    fn request(&self, known: &Known, keys: &str) -> Option<ModelRequest> {
        let key = |key: &Option<u8>| key.map(|key| format!("{keys}-{key}"));
        Some(match self {
            Self::Order { items, whose, price, key: given } => ModelRequest::Order {
                items: sums(items),
                hold: None,
                customer: *whose,
                price: *price,
                key: key(given),
            },
            Self::OrderHeld { hold, more, whose, price, key: given } => {
                let (id, product, quantity) = newest(&known.holds, *hold)?;
                ModelRequest::Order {
                    items: sums(more),
                    hold: Some(FromHold { id, product, quantity }),
                    customer: *whose,
                    price: *price,
                    key: key(given),
                }
            }
            Self::Price { product, price } => {
                ModelRequest::Price { product: *product, price: *price }
            }
            Self::Cancel { order } => {
                ModelRequest::Cancel { order: newest(&known.orders, *order)? }
            }
            Self::Claim { order } => ModelRequest::Claim { order: newest(&known.orders, *order)? },
            Self::Return { claim, taken } => {
                let (order, attempt) = newest(&known.claims, *claim)?;
                let taken = if *taken { Taken::Maybe } else { Taken::Never };
                ModelRequest::Return { order, attempt, taken }
            }
            Self::Hold { product, quantity, whose } => {
                ModelRequest::Hold { product: *product, quantity: *quantity, customer: *whose }
            }
            Self::Release { hold } => {
                ModelRequest::Release { hold: newest(&known.holds, *hold)?.0 }
            }
            Self::Adjust { product, delta } => {
                ModelRequest::Adjust { product: *product, delta: *delta }
            }
            Self::Retire { product } => ModelRequest::Retire { product: *product },
        })
    }
}

fn sums(items: &Units) -> Items {
    let mut sums = Items::new();
    for (product, quantity) in items {
        *sums.entry(*product).or_default() += quantity;
    }
    sums
}

/// Puts a product into an open sale with a limit per customer.
async fn open_sale(replicas: &ModelReplicas, product_id: i64) -> SaleName {
    let now = replicas.store.clock().await.unwrap();
    let name = SaleName::new(format!("sale-{product_id}")).unwrap();
    let sale = Sale {
        name: name.clone(),
        products: [ProductId(product_id)].into(),
        starts_at: now - SignedDuration::from_secs(1),
        ends_at: now + SignedDuration::from_hours(1),
        per_customer: Some(u32::try_from(LIMIT).unwrap()),
        held_back: false,
    };
    replicas.store.put_sale(&sale).await.unwrap();
    name
}

/// Runs a history with its own products. Each client uses one of the replicas.
pub async fn play(replicas: &ModelReplicas, history: &History) -> Played {
    let mut product_ids = Vec::new();
    for stock in history.stocks {
        let body = json!({ "name": "Lamp", "price": 1, "stock": stock });
        let answer = replicas.apis[0].post("/products", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        product_ids.push(answer.json()["id"].as_i64().unwrap());
    }
    let sale = open_sale(replicas, product_ids[LIMITED]).await;
    let known = Arc::new(Mutex::new(Known::default()));
    let keys = format!("{}", product_ids[0]);
    let clients = history.clients.iter().enumerate().map(|(client, steps)| {
        let (known, keys, product_ids) = (Arc::clone(&known), &keys, &product_ids);
        async move {
            let mut events = Vec::new();
            for step in steps {
                let request = step.request(&known.lock().unwrap(), keys);
                let Some(request) = request else { continue };
                let sent = Instant::now();
                let answer = send(replicas, client, product_ids, &request).await;
                let answered = Instant::now();
                let mut known = known.lock().unwrap();
                match (&answer, &request) {
                    (ModelAnswer::Placed(id), _) if !known.orders.contains(id) => {
                        known.orders.push(*id);
                    }
                    (ModelAnswer::Claimed(attempt), ModelRequest::Claim { order }) => {
                        known.claims.push((*order, *attempt));
                    }
                    (ModelAnswer::Held(id), ModelRequest::Hold { product, quantity, .. }) => {
                        known.holds.push((*id, *product, *quantity));
                    }
                    _ => {}
                }
                events.push(Event { client, sent, answered, request, answer });
            }
            events
        }
    });
    let events = futures::future::join_all(clients).await.concat();
    // There may be a thousand of them.
    assert!(replicas.store.delete_sale(&sale).await.unwrap());
    Played { product_ids, stocks: history.stocks, events }
}

async fn send(
    replicas: &ModelReplicas,
    client: usize,
    ids: &[i64],
    request: &ModelRequest,
) -> ModelAnswer {
    let api = &replicas.apis[client % replicas.apis.len()];
    let answer = match request {
        ModelRequest::Order { items, hold, customer, price, key } => {
            let line = |product: usize, quantity: i64, hold: Option<i64>| {
                json!({
                    "product_id": ids[product], "quantity": quantity, "hold_id": hold,
                    "expected_price": price.map(|minor| minor / 100),
                })
            };
            let mut lines: Vec<_> =
                items.iter().map(|(product, quantity)| line(*product, *quantity, None)).collect();
            lines.extend(hold.map(|hold| line(hold.product, hold.quantity, Some(hold.id))));
            let body = json!({ "items": lines, "customer_ref": customer });
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
            api.send(Method::POST, "/orders", &headers, body.to_string()).await
        }
        ModelRequest::Cancel { order } => {
            api.post(&format!("/orders/{order}/cancel"), &json!({})).await
        }
        ModelRequest::Price { product, price } => {
            let body = json!({ "price": price / 100 });
            api.put(&format!("/products/{}", ids[*product]), &body).await
        }
        ModelRequest::Hold { product, quantity, customer } => {
            let body = json!({
                "product_id": ids[*product], "quantity": quantity, "customer_ref": customer,
            });
            api.post("/holds", &body).await
        }
        ModelRequest::Release { hold } => api.delete(&format!("/holds/{hold}")).await,
        ModelRequest::Adjust { product, delta } => {
            let body = json!({ "delta": delta, "reason": "count" });
            api.post(&format!("/products/{}/stock", ids[*product]), &body).await
        }
        ModelRequest::Retire { product } => {
            api.delete(&format!("/products/{}", ids[*product])).await
        }
        ModelRequest::Claim { order } => {
            let lease = Duration::from_hours(1);
            let claims = replicas.store.claim(&[OrderId(*order)], lease).await.unwrap();
            let unknown = ModelAnswer::Stands(String::new());
            return claims.first().map_or(unknown, |claim| ModelAnswer::Claimed(claim.attempt));
        }
        ModelRequest::Return { order, attempt, taken } => {
            let ended = EndedClaim {
                order_id: OrderId(*order),
                attempt: *attempt,
                verdict: AttemptResult::Retry(Duration::ZERO, "again".to_owned()),
                taken: *taken,
            };
            let ended = [ended];
            let written = until("its row is free", async || {
                let written = replicas.store.finish(&ended).await.unwrap();
                written.locked.is_empty().then_some(written)
            })
            .await;
            let lost = ModelAnswer::Stands(String::new());
            return if written.done.is_empty() { lost } else { ModelAnswer::Done };
        }
    };
    read(request, ids, &answer)
}

/// The meaning of an answer. The test fails for any other answer, such as a 503 or a deadlock.
fn read(request: &ModelRequest, ids: &[i64], answer: &client::ApiAnswer) -> ModelAnswer {
    let id = |body: &Value| body["id"].as_i64().unwrap();
    match (request, answer.status) {
        (ModelRequest::Order { .. }, 201) => ModelAnswer::Placed(id(&answer.json())),
        (ModelRequest::Hold { .. }, 201) => ModelAnswer::Held(id(&answer.json())),
        (ModelRequest::Adjust { .. }, 201) => {
            ModelAnswer::Adjusted { stock: answer.json()["stock"].as_i64().unwrap() }
        }
        (_, 200 | 204) => ModelAnswer::Done,
        (_, 404) if answer.text.contains("product") => ModelAnswer::UnknownProduct,
        (_, 409 | 422) => {
            let problem = answer.problem();
            let product = || {
                let id = problem["product_id"].as_i64();
                ids.iter().position(|known| Some(*known) == id).unwrap()
            };
            match problem["type"].as_str().unwrap() {
                "/problems/not-enough-stock" => ModelAnswer::NotEnough {
                    product: product(),
                    left: problem["left"].as_i64().unwrap(),
                },
                "/problems/order-moved" | "/problems/hold-ended" => {
                    ModelAnswer::Stands(problem["state"].as_str().unwrap().to_owned())
                }
                "/problems/order-may-be-fulfilled" => ModelAnswer::MayBeFulfilled,
                "/problems/idempotency-key-reused" => ModelAnswer::KeyReused,
                "/problems/over-limit" => {
                    ModelAnswer::OverLimit { left: problem["left"].as_i64().unwrap() }
                }
                "/problems/price-changed" => {
                    let current = if problem["current_price"] == 1.0 { 100 } else { 200 };
                    ModelAnswer::PriceChanged { product: product(), current }
                }
                "/problems/validation" if answer.wrong_fields() == ["customer_ref"] => {
                    ModelAnswer::WrongCustomer
                }
                _ => panic!("{request:?} → {answer:?}"),
            }
        }
        _ => panic!("{request:?} → {answer:?}"),
    }
}

/// The state of the database, once both replicas show the same products. That may take a moment, but is bounded.
pub async fn shop_as_it_is(replicas: &ModelReplicas, played: &Played) -> Contents {
    let rows: Vec<(i64, i64, i64, bool)> = sqlx::query_as(
        "SELECT id, stock, held, retired_at IS NULL FROM products WHERE id = ANY ($1) ORDER BY id",
    )
    .bind(&played.product_ids)
    .fetch_all(replicas.store.pool())
    .await
    .unwrap();
    let mut products = Vec::new();
    for (id, stock, held, on_sale) in rows {
        for api in &replicas.apis {
            shown(api, id, on_sale.then_some(stock)).await;
        }
        products.push(ModelProduct { stock, held, on_sale, price: ANY_PRICE });
    }
    let orders = "SELECT DISTINCT o.id, o.status FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id \
                  WHERE o.product_id = ANY ($1) OR l.product_id = ANY ($1)";
    let holds = "SELECT id, status FROM holds WHERE product_id = ANY ($1)";
    (products, statuses(replicas, orders, played).await, statuses(replicas, holds, played).await)
}

async fn statuses(
    replicas: &ModelReplicas,
    query: &'static str,
    played: &Played,
) -> BTreeMap<i64, String> {
    let rows: Vec<(i64, String)> = sqlx::query_as(query)
        .bind(&played.product_ids)
        .fetch_all(replicas.store.pool())
        .await
        .unwrap();
    rows.into_iter().collect()
}

async fn shown(api: &client::Client, id: i64, stock: Option<i64>) {
    until("a product is shown as it is", async || {
        let answer = api.get(&format!("/products/{id}")).await;
        let now = (answer.status == 200).then(|| answer.json()["stock"].as_i64().unwrap());
        (now == stock).then_some(()).ok_or_else(|| format!("{id}: {now:?}, and not {stock:?}"))
    })
    .await;
}
