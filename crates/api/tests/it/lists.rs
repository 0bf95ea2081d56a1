//! Pages of lists: each filter, and following the links to the end while other clients
//! write.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{client::ApiAnswer, server::Server};

fn ids(answer: &ApiAnswer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json().as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

/// The URL of the next page.
fn next(answer: &ApiAnswer) -> Option<String> {
    let link = answer.header("link");
    (!link.is_empty()).then(|| {
        let (target, relation) = link.split_once(';').unwrap();
        assert_eq!(relation.trim(), "rel=\"next\"", "{link}");
        target.trim_start_matches('<').trim_end_matches('>').to_owned()
    })
}

/// All pages from `path` on, with the ids of each.
async fn pages(server: &Server, path: &str) -> Vec<Vec<i64>> {
    let mut pages = Vec::new();
    let mut at = Some(path.to_owned());
    while let Some(path) = at {
        assert!(pages.len() < 100, "no end: {path}");
        let answer = server.api.get(&path).await;
        pages.push(ids(&answer));
        at = next(&answer);
    }
    pages
}

async fn all(server: &Server, path: &str) -> Vec<i64> {
    pages(server, path).await.concat()
}

#[tokio::test]
async fn orders_are_found_by_status_product_and_customer_newest_first() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(100).await, server.product(100).await);
    let place = async |items: &[i64], customer: &str| -> i64 {
        let items: Vec<_> =
            items.iter().map(|id| json!({ "product_id": id, "quantity": 1 })).collect();
        let body = json!({ "items": items, "customer_ref": customer });
        let answer = server.api.post("/orders", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_i64().unwrap()
    };
    let first = place(&[lamp], "ada").await;
    let both = place(&[lamp, mill], "bob & co").await;
    let third = place(&[mill], "ada").await;
    let last = place(&[mill, lamp], "ada").await;
    assert_eq!(server.api.post(&format!("/orders/{third}/cancel"), &json!({})).await.status, 200);

    for (query, expected) in [
        (String::new(), vec![last, third, both, first]),
        ("customer_ref=ada".to_owned(), vec![last, third, first]),
        ("customer_ref=bob%20%26%20co".to_owned(), vec![both]),
        ("customer_ref=nobody".to_owned(), vec![]),
        // An order is found by each of its products.
        (format!("product_id={lamp}"), vec![last, both, first]),
        (format!("product_id={mill}"), vec![last, third, both]),
        ("status=cancelled".to_owned(), vec![third]),
        ("status=pending".to_owned(), vec![last, both, first]),
        (format!("status=pending&product_id={mill}&customer_ref=ada"), vec![last]),
        (format!("status=cancelled&product_id={lamp}"), vec![]),
    ] {
        for limit in [1, 2, 1000] {
            let path = format!("/orders?{query}&limit={limit}").replace("?&", "?");
            assert_eq!(all(&server, &path).await, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn pages_do_not_shift_or_repeat_while_orders_change() {
    let server = Server::start().await;
    let lamp = server.product(1000).await;
    let mut expected = Vec::new();
    for _ in 0..9 {
        expected.push(server.order(lamp, 1).await.json()["id"].as_i64().unwrap());
    }
    expected.reverse();
    let mut seen = Vec::new();
    let mut at = Some("/orders?status=pending&limit=3".to_owned());
    while let Some(path) = at {
        let answer = server.api.get(&path).await;
        seen.extend(ids(&answer));
        at = next(&answer);
        // New entries appear at the front, and one that was shown leaves the list.
        server.order(lamp, 1).await;
        let gone = seen[seen.len() - 1];
        server.api.post(&format!("/orders/{gone}/cancel"), &json!({})).await;
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn products_are_found_by_name_and_by_stock() {
    let server = Server::start().await;
    let named = async |name: &str, stock: i64| -> i64 {
        let body = json!({ "name": name, "price": 1, "stock": stock });
        server.api.post("/products", &body).await.json()["id"].as_i64().unwrap()
    };
    let lamp = named("Lamp", 5).await;
    let large = named("LAMP, large", 0).await;
    let percent = named("100% wool_sock", 3).await;
    let other = named("Mill", 0).await;

    assert_eq!(ids(&server.api.get("/products").await), [lamp, large, percent, other]);
    for limit in [1, 3] {
        let list =
            async |query: &str| all(&server, &format!("/products?{query}limit={limit}")).await;
        assert_eq!(list("").await, [lamp, large, percent, other]);
        assert_eq!(list("name=lamp&").await, [lamp, large]);
        assert_eq!(list("name=lamp,&").await, [large]);
        // The text is not a pattern: it is searched for literally.
        assert_eq!(list("name=100%25&").await, [percent]);
        assert_eq!(list("name=%25&").await, [0; 0]);
        assert_eq!(list("name=_&").await, [0; 0]);
        assert_eq!(list("in_stock=true&").await, [lamp, percent]);
        assert_eq!(list("in_stock=false&").await, [large, other]);
        assert_eq!(list("name=l&in_stock=false&").await, [large]);
    }
    assert_eq!(ids(&server.api.get("/products?skip=1&limit=2").await), [large, percent]);
}

#[tokio::test]
async fn holds_are_found_by_status_product_and_customer_and_shown_alone() {
    let server = Server::start().await;
    let (lamp, mill) = (server.product(100).await, server.product(100).await);
    let hold = async |product: i64, customer: &str| -> Value {
        let body = json!({ "product_id": product, "quantity": 1, "customer_ref": customer });
        let answer = server.api.post("/holds", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()
    };
    let first = hold(lamp, "ada").await;
    let second = hold(mill, "ada").await;
    let third = hold(lamp, "bob").await;
    let id = |hold: &Value| hold["id"].as_i64().unwrap();
    let shown = server.api.get(&format!("/holds/{}", first["id"])).await;
    assert_eq!((shown.status, shown.json()), (200, first.clone()));
    assert_eq!(server.api.get("/holds/4711").await.status, 404);
    assert_eq!(server.api.delete(&format!("/holds/{}", first["id"])).await.status, 204);
    let shown = server.api.get(&format!("/holds/{}", first["id"])).await;
    assert_eq!(shown.json()["status"], "released");

    for (query, expected) in [
        ("", vec![&third, &second, &first]),
        ("customer_ref=ada&", vec![&second, &first]),
        (&format!("product_id={lamp}&"), vec![&third, &first]),
        ("status=active&", vec![&third, &second]),
        ("status=released&customer_ref=ada&", vec![&first]),
        ("status=expired&", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(id).collect();
        for limit in [1, 1000] {
            let path = format!("/holds?{query}limit={limit}");
            assert_eq!(all(&server, &path).await, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn the_ledger_explains_the_stock() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let path = format!("/products/{lamp}");
    let order = server.order(lamp, 3).await.json();
    server.api.post("/holds", &json!({ "product_id": lamp, "quantity": 2 })).await;
    server.api.post(&format!("/orders/{}/cancel", order["id"]), &json!({})).await;
    server.api.put(&path, &json!({ "stock": 20 })).await;
    server.api.put(&path, &json!({ "name": "Lamp" })).await;
    let change = json!({ "delta": -1, "reason": "broken" });
    assert_eq!(server.api.post(&format!("{path}/stock"), &change).await.status, 201);
    // A deleted product keeps its ledger.
    assert_eq!(server.api.delete(&path).await.status, 204);

    let mut entries = Vec::new();
    let mut at = Some(format!("{path}/stock-ledger?limit=2"));
    while let Some(page) = at {
        let answer = server.api.get(&page).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        entries.extend(answer.json().as_array().unwrap().clone());
        at = next(&answer);
    }
    entries.reverse();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let number = |name: &str| entry[name].as_i64().unwrap();
            (entry["kind"].as_str().unwrap(), number("delta"), number("stock"), number("held"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("opening", 10, 10, 0),
            ("admission", -3, 7, 0),
            ("admission", -2, 5, 2),
            ("admission", 3, 8, 2),
            ("set", 12, 20, 2),
            ("adjustment", -1, 19, 2),
        ]
    );
    let units = |entry: usize, name: &str| entries[entry][name].as_i64();
    assert_eq!(
        (units(1, "sold"), units(2, "put_on_hold"), units(3, "returned")),
        (Some(3), Some(2), Some(3))
    );
    assert_eq!(entries[5]["reason"], "broken");
    assert_eq!(server.api.get("/products/4711/stock-ledger").await.status, 404);
}

#[tokio::test]
async fn a_forged_cursor_or_one_of_another_list_is_refused() {
    let server = Server::start().await;
    let lamp = server.product(100).await;
    server.product(100).await;
    for _ in 0..2 {
        server.order(lamp, 1).await;
        server.api.post("/holds", &json!({ "product_id": lamp, "quantity": 1 })).await;
    }
    let mut lists = vec![
        "/orders?limit=1".to_owned(),
        "/orders?limit=1&status=pending".to_owned(),
        format!("/orders?limit=1&product_id={lamp}"),
        "/products?limit=1".to_owned(),
        "/products?limit=1&name=e".to_owned(),
        "/holds?limit=1".to_owned(),
        format!("/products/{lamp}/stock-ledger?limit=1"),
    ];
    let mut cursors = BTreeSet::new();
    for list in &lists {
        let next = next(&server.api.get(list).await).unwrap();
        assert!(next.starts_with(&format!("{list}&cursor=")), "{next}");
        let cursor = next.split_once("cursor=").unwrap().1.to_owned();
        assert!(cursors.insert(cursor.clone()));
        assert_eq!(server.api.get(&format!("{list}&cursor={cursor}")).await.status, 200);
    }
    lists.push("/holds?limit=1&status=active".to_owned());
    for list in &lists {
        let mut own = 0;
        for cursor in &cursors {
            let answer = server.api.get(&format!("{list}&cursor={cursor}")).await;
            if answer.status == 200 {
                own += 1;
            } else {
                assert_eq!(
                    (answer.status, answer.wrong_fields()),
                    (422, vec!["cursor".to_owned()])
                );
            }
        }
        assert!(own <= 1, "{list} takes {own} cursors");
        for cursor in ["", "x", "AAAA", "1", "%00", "null", &"A".repeat(5000)] {
            let answer = server.api.get(&format!("{list}&cursor={cursor}")).await;
            assert_eq!(answer.status, 422, "{list} {cursor}: {}", answer.text);
            assert_eq!(answer.wrong_fields(), ["cursor"]);
        }
    }
}
