//! The page of the console, and its files and data.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    access::GuardedShop,
    client::ApiAnswer,
    server::{self, Server},
};

/// The files that a text refers to: the values after `src=`, `href=` or `from`.
fn files(text: &str) -> Vec<String> {
    let mut files = Vec::new();
    for before in ["src=\"", "href=\"", "from \""] {
        let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
        files.extend(found.map(|name| name.replace("./", "/console/")));
    }
    files
}

async fn stats(server: &Server) -> Value {
    let answer = server.admin.get("/stats").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn labels(chart: &ApiAnswer) -> &str {
    assert_eq!((chart.status, chart.header("content-type")), (200, "image/svg+xml"));
    let (_, rest) = chart.text.split_once("aria-label=\"").unwrap();
    rest.split_once('"').unwrap().0
}

#[tokio::test]
async fn the_page_loads_nothing_but_its_own_files() {
    let server = Server::start().await;
    let page = server.admin.get("/console").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let mut wanted = files(&page.text);
    let mut seen = Vec::new();
    while let Some(path) = wanted.pop() {
        if seen.contains(&path) || path == "/docs/" || path.starts_with('#') {
            continue;
        }
        let file = server.admin.get(&path).await;
        assert_eq!(file.status, 200, "{path}");
        let (_, extension) = path.rsplit_once('.').unwrap();
        assert!(!file.text.contains("http://") || extension == "svg", "{path}");
        assert!(!file.text.contains("https://"), "{path}");
        let media_type = match extension {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(file.header("content-type"), media_type, "{path}");
        if extension == "js" {
            wanted.extend(files(&file.text));
        }
        seen.push(path);
    }
    assert!(seen.len() >= 8, "{seen:?}");
    assert_eq!(server.admin.get("/console/").await.text, page.text);
    assert_eq!(server.admin.get("/console/none.js").await.status, 404);
}

#[tokio::test]
async fn the_pages_policy_blocks_everything_but_its_own_files() {
    let server = Server::start().await;
    for path in ["/console", "/console/console.js"] {
        let answer = server.admin.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "));
        assert!(policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let page = server.admin.get("/console").await.text;
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
    for script in page.split("<script").skip(1) {
        assert!(script.contains("></script>"), "a script stands in the page: {script}");
    }
}

#[tokio::test]
async fn the_console_is_only_on_the_admin_port() {
    let server = Server::start().await;
    for path in ["/console", "/console/console.js", "/stats", "/charts/orders", "/stock"] {
        assert_eq!(server.api.get(path).await.status, 404, "{path}");
        assert_eq!(server.admin.get(path.trim()).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_console_that_is_off_is_404() {
    let server = Server::with(&[("HOLDFAST_CONSOLE", "off")]).await;
    for path in ["/console", "/console/console.js", "/stats", "/charts/orders"] {
        let answer = server.admin.get(path).await;
        assert_eq!(
            (answer.status, &answer.problem()["type"]),
            (404, &json!("/problems/not-found"))
        );
    }
}

#[tokio::test]
async fn the_page_is_public_and_the_numbers_need_the_admin_scope() {
    let shop = GuardedShop::start(&[]).await;
    let admin = &shop.server.admin;
    assert_eq!(admin.get("/console").await.status, 200);
    let reader = shop.scoped(&["products:read", "orders:read"]).await.on(admin);
    for path in ["/stats", "/charts/orders", "/stock"] {
        assert_eq!(admin.get(path).await.status, 401, "{path}");
        assert_eq!(reader.get(path).await.status, 403, "{path}");
        assert_eq!(shop.admin.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_admin_port_can_read_the_shop_but_not_change_it() {
    let shop = GuardedShop::start(&[]).await;
    let product = json!({ "name": "Mill", "price": 1, "stock": 3 });
    let made = shop.admin.on(&shop.server.api).post("/products", &product).await;
    let order = json!({ "product_id": made.json()["id"], "quantity": 1 });
    let placed = shop.admin.on(&shop.server.api).post("/orders", &order).await;
    let id = placed.json()["id"].clone();
    for path in ["/orders", "/products", "/holds", &format!("/orders/{id}")] {
        assert_eq!(shop.admin.get(path).await.status, 200, "{path}");
    }
    for (path, body) in [("/orders", &order), ("/products", &product), ("/holds", &order)] {
        assert_eq!(shop.admin.post(path, body).await.status, 405, "{path}");
    }
    let cancel = format!("/orders/{id}/cancel");
    assert_eq!(shop.admin.send(Method::POST, &cancel, "").await.status, 404);
    // A key may see the same data on both ports.
    let own = json!({ "name": "web", "scopes": ["orders:read"], "customer_ref": "customer-1" });
    let customer = shop.bearer(own).await.on(&shop.server.admin);
    assert_eq!(customer.get(&format!("/orders/{id}")).await.status, 404);
}

#[tokio::test]
async fn orders_and_refusals_of_the_replica_are_counted() {
    let server = Server::start().await;
    let product = server.product(3).await;
    server.until("it has begun", async || !stats(&server).await["orders"].is_null()).await;
    assert_eq!(server.order(product, 2).await.status, 201);
    assert_eq!(server.order(product, 2).await.status, 409);
    let orders = async || {
        let orders = stats(&server).await["orders"].clone();
        let both = orders["accepted_per_second"].as_f64()? > 0.0
            && orders["refused_per_second"].as_f64()? > 0.0;
        both.then_some(orders)
    };
    let orders = server.until("both are counted", orders).await;
    assert_eq!(orders["refused"], json!({"not_enough": 1}));
    let waits = stats(&server).await["admission"].clone();
    assert!(waits["lane_wait_ms"]["p99"].as_f64().unwrap() > 0.0, "{waits}");
    assert!(waits["batch_size"].as_f64().unwrap() >= 1.0, "{waits}");
    let chart = server.admin.get("/charts/refusals").await;
    assert!(labels(&chart).contains("not enough: "), "{}", labels(&chart));
}

#[tokio::test]
async fn the_queue_and_the_backlog_are_those_of_the_whole_system() {
    let server = Server::start().await;
    let product = server.product(3).await;
    // Without a worker, the number of orders in the queue is unknown.
    let backlog = async || stats(&server).await["backlog"]["unfinished"] == 0;
    server.until("the database was asked", backlog).await;
    assert!(stats(&server).await["queue"].is_null());
    let queue = holdfast_queue::QueueSettings::new(server.redis.url());
    let queue = holdfast_queue::Queue::connect(queue).unwrap();
    queue.ensure_group().await.unwrap();
    assert_eq!(server.order(product, 1).await.status, 201);
    let numbers = async || {
        let stats = stats(&server).await;
        let here = stats["queue"]["waiting"] == 1 && stats["backlog"]["unfinished"] == 1;
        here.then_some(stats)
    };
    let numbers = server.until("the order is counted", numbers).await;
    assert_eq!(numbers["queue"]["workers"], 0);
    assert!(numbers["queue"]["oldest_seconds"].as_f64().is_some());
    let mut worker = holdfast_queue::Consumer::new(queue, "one");
    assert_eq!(worker.next(1).await.unwrap().len(), 1);
    let taken = async || {
        let queue = stats(&server).await["queue"].clone();
        queue["workers"] == 1 && queue["in_flight"] == 1 && queue["oldest_seconds"].is_null()
    };
    server.until("the worker is seen", taken).await;
}

#[tokio::test]
async fn numbers_from_redis_are_unknown_while_it_is_down() {
    let server = Server::start().await;
    let queue = holdfast_queue::QueueSettings::new(server.redis.url());
    holdfast_queue::Queue::connect(queue).unwrap().ensure_group().await.unwrap();
    let known = async || stats(&server).await["queue"].is_object();
    server.until("the queue is known", known).await;
    server.redis.pause().unwrap();
    let unknown = async || stats(&server).await["queue"].is_null();
    server.until("the queue is unknown", unknown).await;
    assert!(stats(&server).await["orders"].is_object());
    server.redis.resume().unwrap();
    server.until("the queue is known again", known).await;
}

#[tokio::test]
async fn stock_shows_held_units() {
    let server = Server::start().await;
    let (mill, lamp) = (server.product(10).await, server.product(0).await);
    let hold = json!({ "product_id": mill, "quantity": 4, "expires_in_seconds": 600 });
    assert_eq!(server.api.post("/holds", &hold).await.status, 201);
    let first = server.admin.get("/stock?limit=1").await;
    assert_eq!(first.json()[0]["id"], mill);
    assert_eq!((&first.json()[0]["stock"], &first.json()[0]["held"]), (&json!(6), &json!(4)));
    let (next, _) = first.header("link").split_once('>').unwrap();
    let second = server.admin.get(next.trim_start_matches('<')).await;
    assert_eq!((&second.json()[0]["id"], second.header("link")), (&json!(lamp), ""));
}

#[tokio::test]
async fn charts_have_the_requested_width() {
    let server = Server::start().await;
    for (query, width) in [("", 640), ("?width=375", 360), ("?width=1600", 1600)] {
        let chart = server.admin.get(&format!("/charts/waits{query}")).await;
        labels(&chart);
        assert!(chart.text.contains(&format!("width=\"{width}\"")), "{query}: {}", chart.text);
    }
    for path in ["/charts/waits?width=239", "/charts/waits?width=1601", "/charts/none"] {
        assert_eq!(server.admin.get(path).await.status, 422, "{path}");
    }
}

#[tokio::test]
async fn two_replicas_identify_themselves() {
    let server = Server::start().await;
    let process = server::spawn(&server.database_url, &server.redis.url(), &[]).await;
    let [_, _, admin] = server::addresses(&process).await;
    let name = |stats: Value| stats["replica"]["name"].as_str().unwrap().to_owned();
    let other = crate::client::Client::new(&admin).get("/stats").await.json();
    assert_ne!(name(stats(&server).await), name(other));
}
