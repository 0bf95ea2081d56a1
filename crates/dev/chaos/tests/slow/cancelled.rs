//! Cancellations that race with the workers: an order is either cancelled or sent to the receiver, never both.

use std::time::{Duration, Instant};

use holdfast_chaos::environment::{Environment, EnvironmentOptions, STOCK};
use holdfast_sandbox::{HttpAnswer, PATIENCE, http_post_json};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::waits::settled;

const ORDERS: u64 = 300;

/// The answer other than 503, which a busy machine may get and after which nothing has happened.
async fn answered(url: &str, body: &Value) -> HttpAnswer {
    let begun = Instant::now();
    loop {
        let answer = http_post_json(url, body).await.unwrap();
        if answer.status != 503 {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{url}: still 503");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Places an order and cancels it a little later. Returns its id and the status of the cancellation.
async fn ordered_and_cancelled(url: String, wait: Duration) -> (i64, u16) {
    let order = answered(&url, &json!({ "product_id": 1, "quantity": 1 })).await;
    assert_eq!(order.status, 201);
    let id = order.json().unwrap()["id"].as_i64().unwrap();
    // The moment of the cancellation is the subject.
    tokio::time::sleep(wait).await;
    let answer = answered(&format!("{url}/{id}/cancel"), &json!({})).await;
    (id, answer.status)
}

fn both(answers: &[(i64, u16)]) -> bool {
    let cancelled = answers.iter().filter(|(_, status)| *status == 200).count();
    cancelled > 0 && cancelled < answers.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_either_cancelled_or_sent_to_the_receiver() {
    let options =
        EnvironmentOptions { apis: 2, workers: 2, products: 1, ..EnvironmentOptions::default() };
    let environment = Environment::start(&options).await.unwrap();
    // Several rounds, until some were cancelled and some were not: which comes first depends on the machine.
    let mut answers = Vec::new();
    let begun = Instant::now();
    while !both(&answers) {
        assert!(begun.elapsed() < PATIENCE, "{} orders, all with the same end", answers.len());
        let mut clients = JoinSet::new();
        for number in 0..ORDERS {
            let api = &environment.apis[usize::try_from(number % 2).unwrap()];
            let url = format!("http://{}/orders", api.address());
            // About the time until a worker gets an order.
            clients.spawn(ordered_and_cancelled(url, Duration::from_micros(number * 97 % 20_000)));
            if number % 10 == 0 {
                // One after the other, so that some are cancelled during an attempt.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        answers.extend(clients.join_all().await);
    }

    let mut connection = environment.connect().await.unwrap();
    settled(&mut connection).await;
    let cancelled = answers.iter().filter(|(_, status)| *status == 200).count();
    println!("{cancelled} of {} were cancelled", answers.len());
    let sold = i64::try_from(answers.len() - cancelled).unwrap();
    for (id, status) in answers {
        assert!([200, 409].contains(&status), "{id}: {status}");
        assert_eq!(environment.downstream.has(id), status == 409, "{id}: {status}");
    }
    let stock = "SELECT stock FROM products WHERE id = 1";
    let stock = sqlx::query_scalar::<_, i64>(stock).fetch_one(&mut connection).await.unwrap();
    assert_eq!(stock, STOCK - sold);
}
