//! Flash sales on two replicas: the window by the database's clock, and the limit per customer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use holdfast_domain::{ProductId, Sale, SaleName};
use holdfast_sandbox::Process;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    client::{ApiAnswer, Client},
    server::{self, PATIENT, Server},
};

struct SaleShop {
    server: Server,
    other: Client,
    _process: Process,
}

/// Its limits are longer than any wait of an order on a busy machine.
async fn shop() -> Arc<SaleShop> {
    let server = Server::with(&PATIENT).await;
    let process = server::spawn(&server.database_url, &server.redis.url(), &PATIENT).await;
    let [address, ..] = server::addresses(&process).await;
    let other = Client::new(&address);
    server.until("the other is ready", async || other.get("/readyz").await.status == 200).await;
    Arc::new(SaleShop { server, other, _process: process })
}

impl SaleShop {
    /// A sale of these products that starts and ends in this many seconds.
    async fn sale(&self, products: &[i64], from: f64, to: f64, per_customer: Option<u32>) -> Sale {
        let now = self.server.store.clock().await.unwrap();
        let at = |seconds: f64| now + SignedDuration::from_secs_f64(seconds);
        let sale = Sale {
            name: SaleName::new(format!("sale-{}", products[0])).unwrap(),
            products: products.iter().copied().map(ProductId).collect::<BTreeSet<_>>(),
            starts_at: at(from),
            ends_at: at(to),
            per_customer,
            held_back: false,
        };
        self.server.store.put_sale(&sale).await.unwrap();
        sale
    }

    /// One of the replicas.
    fn api(&self, number: usize) -> &Client {
        [&self.server.api, &self.other][number % 2]
    }

    async fn order(&self, number: usize, product: i64, customer: &str, units: i64) -> ApiAnswer {
        let order = json!({"product_id": product, "quantity": units, "customer_ref": customer});
        self.api(number).post("/orders", &order).await
    }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_accepted_from_start_to_end_by_the_databases_clock() {
    let shop = shop().await;
    let (product, always) = (shop.server.product(10_000).await, shop.server.product(10).await);
    let sale = shop.sale(&[product], 2.0, 5.0, None).await;
    let mut kinds = [0; 3];
    for number in 0.. {
        let answer = shop.order(number, product, "ann", 1).await;
        let now = shop.server.store.clock().await.unwrap();
        match answer.status {
            201 => {
                let order = answer.json();
                let path = format!("/orders/{}", order["id"]);
                let created = time(&shop.server.api.get(&path).await.json()["created_at"]);
                assert!(sale.starts_at <= created && created < sale.ends_at, "{created}: {sale:?}");
                kinds[1] += 1;
            }
            409 => {
                let problem = answer.problem();
                assert_eq!(problem["product_id"], product);
                if problem["type"] == "/problems/sale-not-open" {
                    assert_eq!(time(&problem["starts_at"]), sale.starts_at);
                    kinds[0] += 1;
                } else {
                    assert_eq!(problem["type"], "/problems/sale-over", "{problem}");
                    assert!(now >= sale.ends_at);
                    kinds[2] += 1;
                }
            }
            _ => panic!("{answer:?}"),
        }
        if kinds[2] > 3 {
            break;
        }
    }
    assert!(kinds.iter().all(|count| *count > 3), "{kinds:?}");
    let hold = json!({"product_id": product, "quantity": 1, "seconds": 10});
    let refused = shop.other.post("/holds", &hold).await;
    assert_eq!(refused.problem()["type"], "/problems/sale-over");
    assert_eq!(shop.order(0, always, "ann", 1).await.status, 201, "it is in no sale");
    // Without the sale, it is sold as usual.
    assert!(shop.server.store.delete_sale(&sale.name).await.unwrap());
    assert_eq!(shop.order(0, product, "ann", 1).await.status, 201);
    let report = shop.server.store.sale_report(&sale.name).await.unwrap();
    assert_eq!(report, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_gets_exactly_the_limit_with_many_concurrent_orders() {
    let shop = shop().await;
    let product = shop.server.product(10_000).await;
    let sale = shop.sale(&[product], -1.0, 600.0, Some(5)).await;
    let mut orders = JoinSet::new();
    for number in 0..192 {
        let shop = Arc::clone(&shop);
        let customer = ["ann", "bob", "cem"][number % 3];
        orders.spawn(async move { (customer, shop.order(number, product, customer, 1).await) });
    }
    let mut got = std::collections::BTreeMap::<_, i64>::new();
    let mut first = None;
    for (customer, answer) in orders.join_all().await {
        if answer.status == 201 {
            *got.entry(customer).or_default() += 1;
            first = first.or((customer == "ann").then(|| answer.json()["id"].clone()));
        } else {
            let problem = answer.problem();
            assert_eq!((answer.status, &problem["type"]), (409, &json!("/problems/over-limit")));
            assert_eq!((&problem["limit"], &problem["left"]), (&json!(5), &json!(0)));
        }
    }
    assert_eq!(got.into_iter().collect::<Vec<_>>(), [("ann", 5), ("bob", 5), ("cem", 5)]);

    // Cancelled units may be ordered again, and held units count.
    let cancel = format!("/orders/{}/cancel", first.unwrap());
    assert_eq!(shop.other.post(&cancel, &json!({})).await.status, 200);
    assert_eq!(shop.order(0, product, "ann", 2).await.problem()["left"], 1);
    let hold = json!({
        "product_id": product, "quantity": 1, "seconds": 60, "customer_ref": "ann",
    });
    let kept = shop.other.post("/holds", &hold).await;
    assert_eq!(kept.status, 201, "{}", kept.text);
    assert_eq!(shop.order(1, product, "ann", 1).await.problem()["left"], 0);
    let of_hold = json!({
        "product_id": product, "quantity": 1, "hold_id": kept.json()["id"], "customer_ref": "ann",
    });
    assert_eq!(shop.server.api.post("/orders", &of_hold).await.status, 201);
    assert_eq!(shop.order(1, product, "ann", 1).await.problem()["left"], 0);

    // Several lines count together, a repeated request counts once, and an order without a customer is refused.
    let other = shop.server.product(10).await;
    let items = json!({"items": [{"product_id": other, "quantity": 1},
        {"product_id": product, "quantity": 4}], "customer_ref": "dee"});
    assert_eq!(shop.other.post("/orders", &items).await.status, 201);
    assert_eq!(shop.order(0, product, "dee", 2).await.problem()["left"], 1);
    let one = json!({"product_id": product, "quantity": 1, "customer_ref": "eve"}).to_string();
    for number in 0..3 {
        let key = [("idempotency-key", "the same"), ("content-type", "application/json")];
        let answer =
            shop.api(number).send(reqwest::Method::POST, "/orders", &key, one.clone()).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    assert_eq!(shop.order(0, product, "eve", 5).await.problem()["left"], 4);
    let nobody = shop.server.order(product, 1).await;
    assert_eq!((nobody.status, nobody.wrong_fields()), (422, vec!["customer_ref".to_owned()]));

    // The report is complete within a second or two.
    let store = &shop.server.store;
    shop.server
        .until("the refusals are counted", async || {
            let report = store.sale_report(&sale.name).await.unwrap().unwrap();
            report.refused.get("over_limit").is_some_and(|count| *count >= 192 - 15)
                && report.refused.contains_key("customer_needed")
        })
        .await;
    let report = store.sale_report(&sale.name).await.unwrap().unwrap();
    assert_eq!((report.sold, report.left), (15 + 4 + 1, 10_000 - 20), "{report:?}");
    assert!(report.peak_orders_per_second >= 1 && report.lock_wait_p99.is_some(), "{report:?}");
    assert!(report.lock_wait_p99.unwrap() < Duration::from_secs(20), "{report:?}");
}

/// An answer that refuses units above the limit, and the rest of the limit.
fn over_limit(answer: &ApiAnswer) -> i64 {
    let problem = answer.problem();
    assert_eq!((answer.status, &problem["type"]), (409, &json!("/problems/over-limit")));
    problem["left"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_do_not_bypass_the_limit() {
    let shop = shop().await;
    let (product, other) = (shop.server.product(10_000).await, shop.server.product(10).await);
    let hold = async |number, customer: Option<&str>, units: i64| {
        let hold = json!({"product_id": product, "quantity": units, "customer_ref": customer});
        shop.api(number).post("/holds", &hold).await
    };
    let from_hold = async |number, hold: &ApiAnswer, customer: Option<&str>, more: i64| {
        let hold = hold.json();
        let mut items = vec![
            json!({"product_id": product, "quantity": hold["quantity"], "hold_id": hold["id"]}),
            json!({"product_id": other, "quantity": 1}),
        ];
        if more > 0 {
            items.push(json!({"product_id": product, "quantity": more}));
        }
        shop.api(number).post("/orders", &json!({"items": items, "customer_ref": customer})).await
    };
    // A hold from before the sale, of more units than its limit.
    let early = [hold(0, Some("ann"), 2).await, hold(1, Some("ann"), 2).await];
    let nobodys = hold(0, None, 1).await;
    shop.sale(&[product], -1.0, 600.0, Some(3)).await;

    assert_eq!(hold(0, None, 1).await.wrong_fields(), ["customer_ref"]);
    assert_eq!(over_limit(&shop.order(0, product, "ann", 1).await), 0);
    assert_eq!(over_limit(&hold(1, Some("ann"), 1).await), 0);
    // An order from a hold belongs to the hold's customer.
    assert_eq!(from_hold(0, &early[0], Some("bob"), 0).await.wrong_fields(), ["customer_ref"]);
    let placed = from_hold(1, &early[0], None, 0).await;
    assert_eq!((placed.status, &placed.json()["customer_ref"]), (201, &json!("ann")));
    let path = format!("/orders/{}", placed.json()["id"]);
    assert_eq!(shop.api(0).get(&path).await.json()["customer_ref"], "ann");
    assert_eq!(over_limit(&from_hold(0, &early[1], None, 0).await), 1);
    assert_eq!(
        shop.server.store.product(ProductId(other)).await.unwrap().unwrap().stock.units(),
        9
    );
    // Released units count no more, and a hold that became an order counts once.
    let release = format!("/holds/{}", early[1].json()["id"]);
    assert_eq!(shop.api(1).delete(&release).await.status, 204);
    assert_eq!(over_limit(&shop.order(0, product, "ann", 2).await), 1);
    assert_eq!(from_hold(0, &nobodys, None, 0).await.wrong_fields(), ["customer_ref"]);
    assert_eq!(over_limit(&from_hold(0, &nobodys, Some("ann"), 1).await), 0);
    assert_eq!(from_hold(0, &nobodys, Some("ann"), 0).await.status, 201);
    assert_eq!(over_limit(&shop.order(1, product, "ann", 1).await), 0);

    // Repeatedly and concurrently, on both replicas: hold for a customer, order without one, and cancel the order.
    let mut rounds = JoinSet::new();
    for number in 0..48 {
        let shop = Arc::clone(&shop);
        rounds.spawn(async move {
            let body = json!({"product_id": product, "quantity": 1, "customer_ref": "eve"});
            let hold = shop.api(number).post("/holds", &body).await;
            if hold.status != 201 {
                over_limit(&hold);
                return;
            }
            let order = json!({"product_id": product, "quantity": 1, "hold_id": hold.json()["id"]});
            let placed = shop.api(number + 1).post("/orders", &order).await;
            assert_eq!(placed.status, 201, "{}", placed.text);
            if number % 3 == 0 {
                let cancel = format!("/orders/{}/cancel", placed.json()["id"]);
                assert_eq!(shop.api(number).post(&cancel, &json!({})).await.status, 200);
            }
        });
    }
    rounds.join_all().await;
    let left = 3 - sqlx::query_scalar::<_, i64>(
        "SELECT coalesce(sum(quantity), 0)::bigint FROM orders \
         WHERE customer_ref = 'eve' AND status <> 'cancelled'",
    )
    .fetch_one(shop.server.store.pool())
    .await
    .unwrap();
    assert!((0..=3).contains(&left), "{left}");
    assert_eq!(over_limit(&shop.order(0, product, "eve", left + 1).await), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_an_earlier_sale_or_limit_counts_until_it_is_over() {
    let shop = shop().await;
    let product = shop.server.product(100).await;
    let mut sale = shop.sale(&[product], -1.0, 600.0, Some(5)).await;
    let hold = json!({"product_id": product, "quantity": 4, "customer_ref": "ann", "seconds": 5});
    assert_eq!(shop.api(0).post("/holds", &hold).await.status, 201);
    sale.per_customer = Some(2);
    shop.server.store.put_sale(&sale).await.unwrap();
    assert_eq!(over_limit(&shop.order(1, product, "ann", 1).await), 0);
    shop.server
        .until("the hold is over", async || shop.order(1, product, "ann", 1).await.status == 201)
        .await;
    assert_eq!(over_limit(&shop.order(1, product, "ann", 2).await), 1);
}

#[tokio::test]
async fn a_sale_is_created_read_and_deleted_by_hand() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let sale = json!({
        "products": [product], "starts_at": "2036-11-27T10:00:00Z", "ends_at": "2036-11-27T12:00:00+01:00",
        "per_customer": 2,
    });
    let answer = server.admin.put("/sales/black-friday", &sale).await;
    // 12:00 in Berlin is 11:00 in London.
    let shown = json!({
        "name": "black-friday", "products": [product], "starts_at": "2036-11-27T10:00:00.000000Z",
        "ends_at": "2036-11-27T11:00:00.000000Z", "per_customer": 2, "held_back": false, "state": "upcoming",
    });
    assert_eq!((answer.status, answer.json()), (200, shown.clone()));
    assert_eq!(server.admin.get("/sales").await.json(), json!([shown]));
    let one = server.admin.get("/sales/black-friday").await.json();
    assert_eq!((&one["state"], &one["report"]["left"]), (&json!("upcoming"), &json!(10)));
    let refused = server.order(product, 1).await.problem();
    assert_eq!(refused["starts_at"], "2036-11-27T10:00:00.000000Z");

    let wrong = json!({
        "products": [], "starts_at": "soon", "ends_at": 5, "per_customer": 0, "held_back": "no",
    });
    let answer = server.admin.put("/sales/black-friday", &wrong).await;
    let fields = ["ends_at", "held_back", "per_customer", "products", "starts_at"];
    assert_eq!((answer.status, answer.wrong_fields()), (422, fields.map(str::to_owned).to_vec()));
    for (change, field) in [
        (json!({"ends_at": sale["starts_at"]}), "ends_at"),
        (json!({"products": [product, 999]}), "products"),
    ] {
        let mut wrong = sale.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = server.admin.put("/sales/black-friday", &wrong).await;
        assert_eq!((answer.status, answer.wrong_fields()), (422, vec![field.to_owned()]));
    }
    let answer = server.admin.put("/sales/Black%20Friday", &sale).await;
    assert_eq!((answer.status, answer.wrong_fields()), (422, vec!["name".to_owned()]));
    assert_eq!(server.admin.get("/sales/other").await.status, 404);

    let mut begun = sale.clone();
    begun["starts_at"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(server.admin.put("/sales/shop%2Fopen", &begun).await.json()["state"], "open");
    // Its product is cached before it is first read.
    server
        .until("it is warmed up", async || {
            server.metric("holdfast_cache_process_products").await > 0
        })
        .await;

    begun["starts_at"] = json!("2021-01-01T00:00:00Z");
    let answer = server.admin.put("/sales/shop%2Fopen", &begun).await;
    assert_eq!((answer.status, &answer.problem()["type"]), (409, &json!("/problems/sale-begun")));
    assert_eq!(server.admin.get("/sales/shop%2Fopen").await.json()["name"], "shop/open");

    for name in ["black-friday", "shop%2Fopen"] {
        assert_eq!(server.admin.delete(&format!("/sales/{name}")).await.status, 204);
        assert_eq!(server.admin.delete(&format!("/sales/{name}")).await.status, 404);
    }
    assert_eq!(server.order(product, 1).await.status, 201);
    // The public port does not have them.
    assert_eq!(server.api.get("/sales").await.status, 404);
}

#[tokio::test]
async fn a_name_that_cannot_be_part_of_a_path_is_refused() {
    let server = Server::start().await;
    let product = server.product(5).await;
    let sale = json!({
        "products": [product],
        "starts_at": "2036-01-31T12:00:00Z",
        "ends_at": "2036-01-31T13:00:00Z",
    })
    .to_string();
    // Sent unchanged, because a client with a URL library would resolve the dots.
    for name in
        ["%2E", "%2e%2e", "..", ".%2e", "a%2F..", "%2Fa", "a%2F", "a%0A", "a%00", "%ff", "a%2F%2Fb"]
    {
        let request = format!(
            "PUT /sales/{name} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{sale}",
            sale.len()
        );
        let answer = server.admin.raw(request.as_bytes(), std::time::Duration::from_secs(10)).await;
        assert_eq!(answer.statuses(), [422], "{name}: {}", answer.text);
        assert!(answer.text.contains("/problems/validation"), "{name}: {}", answer.text);
    }
    let unknown = server.admin.delete("/api-keys/%ff").await;
    assert_eq!(
        (unknown.status, unknown.problem()["type"].as_str()),
        (404, Some("/problems/not-found"))
    );
    assert!(server.store.sales(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn names_have_one_line() {
    let server = Server::start().await;
    for control in ["\n", "\r\n", "\t", "\u{1b}[1m", "\u{7f}", "\u{85}", "\u{2028}"] {
        let name = format!("a{control}b");
        let product = json!({ "name": name, "price": 1, "stock": 1 });
        assert_eq!(
            server.api.post("/products", &product).await.wrong_fields(),
            ["name"],
            "{name:?}"
        );
        let key = json!({ "name": name, "scopes": ["orders:read"] });
        assert_eq!(server.admin.post("/api-keys", &key).await.wrong_fields(), ["name"], "{name:?}");
        let order = json!({ "product_id": 1, "quantity": 1, "customer_ref": name });
        assert_eq!(
            server.api.post("/orders", &order).await.wrong_fields(),
            ["customer_ref"],
            "{name:?}"
        );
    }
}
