//! A client that orders continuously and does not hang up.

use std::net::SocketAddr;
use std::time::Instant;

use holdfast_bench::load::{Accepted, http_request};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use super::exchange::{KeptConnection, Told};
use super::{ClientEvent, ClientsRecord, PAUSE, RequestOutcome};

/// Orders these products in turn, one unit each, until it is stopped.
pub(super) async fn run(
    target: SocketAddr,
    products: Vec<i64>,
    skip: usize,
    seen: &Mutex<ClientsRecord>,
    stop: watch::Receiver<bool>,
) {
    let mut connection = KeptConnection::new(target);
    for product in products.iter().cycle().skip(skip) {
        if *stop.borrow() {
            return;
        }
        order(&mut connection, *product, seen).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn order(connection: &mut KeptConnection, product: i64, seen: &Mutex<ClientsRecord>) {
    let begun = Instant::now();
    let body = json!({ "product_id": product, "quantity": 1 }).to_string();
    let told = connection.send(&http_request("POST", "/orders", None, Some(&body)), None).await;
    let mut outcome = told.outcome(&[]);
    let mut seen = seen.lock();
    match (&told, outcome) {
        (Told::Answer { status: 201, body, .. }, RequestOutcome::Accepted)
            if body["id"].is_i64() =>
        {
            let id = body["id"].as_i64().unwrap_or_default();
            seen.log.accepted.push(Accepted { id, product_id: product, quantity: 1 });
        }
        (_, RequestOutcome::Accepted) => outcome = RequestOutcome::Wrong,
        (_, RequestOutcome::CutOff) => seen.log.cut_off += 1,
        _ => {}
    }
    if outcome == RequestOutcome::Wrong {
        seen.wrong(format!("POST /orders: {}, after {:?}", told.words(), begun.elapsed()));
    }
    *seen.answers.entry(told.words()).or_default() += 1;
    seen.events.push(ClientEvent { at: Instant::now(), took: begun.elapsed(), product, outcome });
}
