//! Dead letters: listing, replaying and discarding them.

use holdfast_queue::{Queue, QueueSettings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{client::ApiAnswer, server::Server};

/// Failed orders of one unit of a product; order n failed at hour n of the year.
pub async fn failed(server: &Server, product: i64, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(server.order(product, 1).await.json()["id"].as_i64().unwrap());
    }
    sqlx::query(
        "UPDATE orders SET status = 'failed', attempt = 1, failure = 'no such street', \
             created_at = failed_at - interval '2 s', processing_at = failed_at - interval '1 s', \
             finished_at = failed_at \
         FROM (SELECT id AS of, '2026-01-01T00:00:00Z'::timestamptz + id * interval '1 h' AS failed_at \
             FROM orders) AS times \
         WHERE id = of AND id = ANY ($1)",
    )
    .bind(&ids)
    .execute(server.store.pool())
    .await
    .unwrap();
    ids
}

fn ids(answer: &ApiAnswer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json().as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

pub async fn stock(server: &Server, product: i64) -> Value {
    server.api.get(&format!("/products/{product}")).await.json()["stock"].clone()
}

/// The last step of the history.
pub fn last_step(answer: &ApiAnswer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["history"].as_array().unwrap().last().unwrap().clone()
}

fn state(answer: &ApiAnswer) -> (u16, String) {
    (answer.status, answer.problem()["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn dead_letters_are_listed_by_pages_and_filters() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(10).await, server.product(10).await);
    let of_lamp = failed(&server, lamp, 3).await;
    let of_mill = failed(&server, mill, 2).await;
    let alive = server.order(lamp, 1).await.json()["id"].as_i64().unwrap();
    let all: Vec<_> = of_lamp.iter().chain(&of_mill).rev().copied().collect();

    let list = server.admin.get("/dead-letters").await;
    assert_eq!(ids(&list), all);
    assert_eq!(list.header("link"), "");
    let first = &list.json()[0];
    assert_eq!((&first["status"], &first["failure"]), (&json!("failed"), &json!("no such street")));
    let by_product = server.admin.get(&format!("/dead-letters?product_id={mill}")).await;
    assert_eq!(ids(&by_product), [of_mill[1], of_mill[0]]);
    let (since, before) = (of_lamp[1], of_mill[0]);
    let times = format!(
        "failed_since=2026-01-01T{since:02}:00:00Z&failed_before=2026-01-01T{before:02}:00:00Z"
    );
    let between = server.admin.get(&format!("/dead-letters?{times}")).await;
    assert_eq!(ids(&between), [of_lamp[2], of_lamp[1]]);

    let (mut seen, mut path) = (Vec::new(), "/dead-letters?limit=2".to_owned());
    loop {
        let page = server.admin.get(&path).await;
        seen.extend(ids(&page));
        let Some((next, _)) = page.header("link").split_once('>') else { break };
        path = next.trim_start_matches('<').to_owned();
    }
    assert_eq!(seen, all);
    // The cursor of this list is not valid for another list.
    let cursor = path.split_once("cursor=").unwrap().1;
    for (client, other) in [
        (&server.api, format!("/orders?status=failed&cursor={cursor}")),
        (&server.admin, format!("/dead-letters?product_id={lamp}&cursor={cursor}")),
    ] {
        assert_eq!(client.get(&other).await.wrong_fields(), ["cursor"], "{other}");
    }
    let wrong =
        "/dead-letters?limit=0&product_id=x&failed_since=now&failed_before=1969-01-01T00:00:00Z";
    assert_eq!(
        server.admin.get(wrong).await.wrong_fields(),
        ["failed_before", "failed_since", "limit", "product_id"]
    );

    let one = server.admin.get(&format!("/dead-letters/{}", of_lamp[0])).await;
    let statuses: Vec<_> = one.json()["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["status"].clone(), step["detail"].clone()))
        .collect();
    assert_eq!(
        statuses,
        [
            (json!("pending"), Value::Null),
            (json!("processing"), Value::Null),
            (json!("failed"), json!("no such street")),
        ]
    );
    for path in [format!("/dead-letters/{alive}"), "/dead-letters/4711".to_owned()] {
        let none = server.admin.get(&path).await;
        assert_eq!(
            (none.status, none.problem()["type"].as_str()),
            (404, Some("/problems/not-found"))
        );
    }
}

#[tokio::test]
async fn a_replayed_order_is_pending_and_published_and_records_the_operator() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let id = failed(&server, lamp, 1).await[0];
    let queue = Queue::connect(QueueSettings::new(server.redis.url())).unwrap();
    queue.ensure_group().await.unwrap();
    let depth = async || queue.depth().await.unwrap().waiting;
    server.until("the order itself is published", async || depth().await == 1).await;

    let path = format!("/dead-letters/{id}/replay");
    let body = json!({ "by": "ada", "note": "the carrier is back" });
    // Of two operators at once, exactly one succeeds.
    let (one, other) =
        tokio::join!(server.admin.post(&path, &body), server.admin.post(&path, &body));
    let (done, late) = if one.status == 200 { (one, other) } else { (other, one) };
    let step = last_step(&done);
    assert_eq!(
        (&step["status"], &step["by"], &step["detail"]),
        (&json!("pending"), &json!("ada"), &json!("the carrier is back"))
    );
    let at: jiff::Timestamp = step["at"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(at).as_secs() < 60, "{at}");
    assert_eq!(state(&late), (409, "pending".to_owned()));
    server.until("its replay is published, once", async || depth().await == 2).await;
    // It keeps its units.
    assert_eq!(stock(&server, lamp).await, 4);
    assert_eq!(server.admin.post("/dead-letters/4711/replay", &body).await.status, 404);
}

#[tokio::test]
async fn a_discarded_order_returns_its_units_once_and_records_the_operator() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(3).await, server.product(9).await);
    let items = json!({ "items": [
        { "product_id": lamp, "quantity": 3 }, { "product_id": mill, "quantity": 4 } ] });
    let id = server.api.post("/orders", &items).await.json()["id"].as_i64().unwrap();
    sqlx::query("UPDATE orders SET status = 'failed', failure = 'x', finished_at = now()")
        .execute(server.store.pool())
        .await
        .unwrap();
    assert_eq!(server.order(lamp, 1).await.status, 409, "sold out");
    // A cancellation by a customer is not a discard.
    let cancel = server.api.post(&format!("/orders/{id}/cancel"), &json!({})).await;
    assert_eq!(state(&cancel), (409, "failed".to_owned()));

    let path = format!("/dead-letters/{id}/discard");
    let body = json!({ "by": "ada", "note": "refunded" });
    let (one, other) =
        tokio::join!(server.admin.post(&path, &body), server.admin.post(&path, &body));
    let (done, late) = if one.status == 200 { (one, other) } else { (other, one) };
    let step = last_step(&done);
    assert_eq!(
        (&step["status"], &step["by"], &step["detail"]),
        (&json!("cancelled"), &json!("ada"), &json!("refunded"))
    );
    let history = done.json()["history"].as_array().unwrap().clone();
    let told: Vec<_> = history.iter().map(|step| step["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["pending", "failed", "cancelled"]);
    assert_eq!(history[1]["detail"], "x");
    assert_eq!(state(&late), (409, "cancelled".to_owned()));
    assert_eq!((stock(&server, lamp).await, stock(&server, mill).await), (json!(3), json!(9)));
    // The ledger shows them as returned, and they can be sold at once.
    let ledger = server.api.get(&format!("/products/{mill}/stock-ledger")).await;
    assert_eq!(ledger.json()[0]["returned"], 4, "{}", ledger.text);
    assert_eq!(server.order(lamp, 3).await.status, 201);

    let replay = server.admin.post(&format!("/dead-letters/{id}/replay"), &body).await;
    assert_eq!(state(&replay), (409, "cancelled".to_owned()));
    assert_eq!(server.admin.post("/dead-letters/4711/discard", &body).await.status, 404);
}

#[tokio::test]
async fn a_discarded_order_returns_the_units_of_its_hold_but_not_the_hold() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let hold =
        server.api.post("/holds", &json!({ "product_id": lamp, "quantity": 5 })).await.json();
    let body = json!({ "product_id": lamp, "quantity": 5, "hold_id": hold["id"] });
    let id = server.api.post("/orders", &body).await.json()["id"].as_i64().unwrap();
    sqlx::query("UPDATE orders SET status = 'failed', failure = 'x', finished_at = now()")
        .execute(server.store.pool())
        .await
        .unwrap();
    let body = json!({ "by": "ada" });
    let done = server.admin.post(&format!("/dead-letters/{id}/discard"), &body).await;
    assert_eq!(last_step(&done).get("detail"), None, "no note, no detail");
    assert_eq!(stock(&server, lamp).await, 5);
    let hold = server.api.get(&format!("/holds/{}", hold["id"])).await.json();
    assert_eq!(hold["status"], "used");
    assert_eq!(server.order(lamp, 5).await.status, 201);
}

#[tokio::test]
async fn exactly_one_of_a_concurrent_replay_and_discard_succeeds() {
    let server = Server::start().await;
    let lamp = server.product(20).await;
    let letters = failed(&server, lamp, 20).await;
    let body = json!({ "by": "ada" });
    let mut discarded = 0;
    for id in letters {
        let (replay, discard) =
            (format!("/dead-letters/{id}/replay"), format!("/dead-letters/{id}/discard"));
        let (replay, discard) =
            tokio::join!(server.admin.post(&replay, &body), server.admin.post(&discard, &body));
        let statuses = [replay.status, discard.status];
        assert!(statuses == [200, 409] || statuses == [409, 200], "{statuses:?}");
        discarded += i64::from(discard.status == 200);
    }
    assert_eq!(stock(&server, lamp).await, discarded);
}

#[tokio::test]
async fn many_are_replayed_by_id_or_by_filter_in_limited_steps() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(20).await, server.product(20).await);
    let of_lamp = failed(&server, lamp, 5).await;
    let of_mill = failed(&server, mill, 3).await;
    let alive = server.order(lamp, 1).await.json()["id"].as_i64().unwrap();
    let replay = async |body: Value| server.admin.post("/dead-letters/replay", &body).await;

    let asked = json!({ "by": "ada", "ids": [of_mill[1], alive, 4711, of_mill[0], of_mill[0]] });
    let answer = replay(asked.clone()).await;
    assert_eq!(
        answer.json(),
        json!({
            "replayed": [of_mill[0], of_mill[1]],
            "not_replayed": [{ "id": alive, "status": "pending" }, { "id": 4711 }],
        })
    );
    let again = replay(asked).await.json();
    assert_eq!(again["replayed"], json!([]), "twice is once: {again}");

    let step = json!({ "by": "bob", "note": "again", "product_id": lamp, "limit": 2 });
    let (mut replayed, mut body) = (Vec::new(), step.clone());
    let mut steps = 0;
    loop {
        let answer = replay(body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = answer.json();
        let of_step = answer["replayed"].as_array().unwrap().clone();
        assert!(of_step.len() <= 2, "{answer}");
        replayed.extend(of_step);
        steps += 1;
        if answer.get("cursor").is_none() {
            break;
        }
        body["cursor"] = answer["cursor"].clone();
    }
    assert_eq!((json!(replayed), steps), (json!(of_lamp), 3), "the oldest first");
    assert_eq!(ids(&server.admin.get("/dead-letters").await), [of_mill[2]]);
    let order = server.api.get(&format!("/orders/{}", of_lamp[4])).await;
    let step = last_step(&order);
    assert_eq!((&step["by"], &step["detail"]), (&json!("bob"), &json!("again")));

    let rest = replay(json!({ "by": "ada", "all": true })).await.json();
    assert_eq!(rest, json!({ "replayed": [of_mill[2]] }));
}

#[tokio::test]
async fn an_invalid_request_changes_nothing() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let id = failed(&server, lamp, 1).await[0];
    let before = server.contents().await;
    let long = "x".repeat(501);
    for path in [
        format!("/dead-letters/{id}/replay"),
        format!("/dead-letters/{id}/discard"),
        "/dead-letters/replay".to_owned(),
    ] {
        let many = path == "/dead-letters/replay";
        for (mut body, mut wrong) in [
            (json!({}), vec!["by"]),
            (json!({ "by": null, "note": 7 }), vec!["by", "note"]),
            (json!({ "by": &long, "note": &long }), vec!["by", "note"]),
            (json!({ "by": " ", "note": "a\0b" }), vec!["by", "note"]),
        ] {
            if many {
                body["ids"] = json!([]);
                wrong.insert(1, "ids");
            }
            let answer = server.admin.post(&path, &body).await;
            assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text);
            assert_eq!(answer.wrong_fields(), wrong, "{path} {body}");
        }
        let answer = server.admin.json(Method::POST, &path, "[1").await;
        assert_eq!(answer.wrong_fields(), ["body"], "{path}");
    }
    let body = json!({ "by": "ada" });
    for path in ["/dead-letters/x/replay", "/dead-letters/1e3/discard"] {
        assert_eq!(server.admin.post(path, &body).await.wrong_fields(), ["id"], "{path}");
    }
    assert_eq!(server.admin.get("/dead-letters/x").await.wrong_fields(), ["id"]);
    let made_up = json!({ "by": "ada", "all": true, "cursor": "bWFkZSB1cA" });
    assert_eq!(
        server.admin.post("/dead-letters/replay", &made_up).await.wrong_fields(),
        ["cursor"]
    );
    assert_eq!(server.contents().await, before, "something changed");
    // A cursor for another filter.
    failed(&server, lamp, 2).await;
    let first = json!({ "by": "ada", "all": true, "limit": 1 });
    let cursor = server.admin.post("/dead-letters/replay", &first).await.json()["cursor"].clone();
    assert!(cursor.is_string());
    let other = json!({ "by": "ada", "product_id": lamp, "cursor": cursor });
    assert_eq!(server.admin.post("/dead-letters/replay", &other).await.wrong_fields(), ["cursor"]);
}
