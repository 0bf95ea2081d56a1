//! Many concurrent clients: nothing is oversold, and no change of stock is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Instant,
};

use holdfast_sandbox::PATIENCE;
use serde_json::json;

use crate::server::{PATIENT, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_sold_out_product_is_sold_exactly_as_often_as_there_is_stock() {
    let server = Arc::new(Server::with(&PATIENT).await);
    let id = server.product(100).await;
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut sold = 0;
                for _ in 0..10 {
                    match server.order(id, 1).await.status {
                        201 => sold += 1,
                        409 => {}
                        other => panic!("{other}"),
                    }
                }
                sold
            })
        })
        .collect();
    let mut sold = 0;
    for client in clients {
        sold += client.await.unwrap();
    }
    assert_eq!(sold, 100);
    assert_eq!(server.api.get(&format!("/products/{id}")).await.json()["stock"], 0);
    assert_eq!(server.api.get("/orders?limit=1000").await.json().as_array().unwrap().len(), 100);
    let refused = server.order(id, 1).await;
    assert_eq!(refused.problem()["left"], 0);
}

/// While orders take stock, one client restocks with relative changes, and another sets the stock with conditional
/// ones. Every unit must be accounted for.
#[tokio::test(flavor = "multi_thread")]
async fn stock_that_is_changed_while_orders_run_loses_no_update() {
    let server = Arc::new(Server::with(&PATIENT).await);
    let id = server.product(500).await;
    let path = format!("/products/{id}");
    let running = Arc::new(AtomicBool::new(true));
    // Whether the conditional change has met another one.
    let met = Arc::new(AtomicBool::new(false));
    let put_in = Arc::new(AtomicI64::new(500));

    let buyers: Vec<_> = (0..8)
        .map(|_| {
            let (server, running) = (Arc::clone(&server), Arc::clone(&running));
            tokio::spawn(async move {
                let mut sold = 0;
                while running.load(Ordering::Relaxed) {
                    match server.order(id, 2).await.status {
                        201 => sold += 2,
                        409 => tokio::task::yield_now().await,
                        other => panic!("{other}"),
                    }
                }
                sold
            })
        })
        .collect();

    let relative = {
        let (server, put_in, path) = (Arc::clone(&server), Arc::clone(&put_in), path.clone());
        let met = Arc::clone(&met);
        tokio::spawn(async move {
            let mut changes = 0;
            while changes < 40 || !met.load(Ordering::Relaxed) {
                let answer = server.api.put(&path, &json!({ "stock_change": 10 })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                put_in.fetch_add(10, Ordering::Relaxed);
                changes += 1;
            }
        })
    };
    let conditional = {
        let (server, put_in, path) = (Arc::clone(&server), Arc::clone(&put_in), path.clone());
        let met = Arc::clone(&met);
        tokio::spawn(async move {
            let (begun, mut done, mut conflicts) = (Instant::now(), 0, 0);
            while (done < 5 || conflicts == 0) && begun.elapsed() < PATIENCE {
                let product = server.api.get(&path).await.json();
                let stock = product["stock"].as_i64().unwrap() + 7;
                let body = json!({ "stock": stock, "version": product["version"] });
                match server.api.put(&path, &body).await.status {
                    200 => {
                        done += 1;
                        put_in.fetch_add(7, Ordering::Relaxed);
                    }
                    409 => {
                        conflicts += 1;
                        met.store(true, Ordering::Relaxed);
                    }
                    other => panic!("{other}"),
                }
            }
            // The other client does not go on after a defect either.
            met.store(true, Ordering::Relaxed);
            (done, conflicts)
        })
    };
    let (done, conflicts) = conditional.await.unwrap();
    running.store(false, Ordering::Relaxed);
    relative.await.unwrap();
    let mut sold = 0;
    for buyer in buyers {
        sold += buyer.await.unwrap();
    }
    assert!(done > 0 && conflicts > 0, "no race: {done} done, {conflicts} conflicts");
    let left = server.api.get(&path).await.json()["stock"].as_i64().unwrap();
    assert_eq!(sold + left, put_in.load(Ordering::Relaxed), "{sold} sold, {left} left");
}
