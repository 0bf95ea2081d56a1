//! The console in a real browser: on a desktop, on a phone, and by keyboard. Updates its screenshots in `docs/images`.

use std::{path::PathBuf, time::Duration};

use holdfast_sandbox::{Process, ProcessOptions, workspace_binary};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::BrowserPage;
use crate::{
    access::{Bearer, GuardedShop},
    client::Client,
};

/// The size of the window, and the number of device pixels per pixel.
const DESK: (u32, u32, f64) = (1280, 1560, 1.0);
const PHONE: (u32, u32, f64) = (390, 844, 2.0);
const SMALL_PHONE: (u32, u32, f64) = (360, 740, 1.0);
/// Orders are placed for this long before the screenshots, because the charts show five minutes.
const SALE: Duration = Duration::from_mins(1);

/// A shop with a worker, a sale, dead letters, and customers who order.
struct ConsoleShop {
    guarded: GuardedShop,
    _worker: Process,
    _customers: AbortOnDropHandle<()>,
}

impl ConsoleShop {
    async fn start() -> Self {
        let guarded = GuardedShop::start(&[]).await;
        let server = &guarded.server;
        let worker = ProcessOptions::new(workspace_binary("holdfast-worker").unwrap())
            .arg("run")
            .env("DATABASE_URL", &server.database_url)
            .env("REDIS_URL", server.redis.url())
            .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0");
        let worker = Process::start(worker).await.unwrap();
        let shopper = guarded.admin.on(&server.api);
        for (name, stock) in [
            ("Espresso machine", 500),
            ("Coffee mill", 20_000),
            ("Milk jug", 300),
            ("Tamper", 0),
            ("Scale", 9_000),
            ("Kettle", 12_000),
        ] {
            let product = json!({ "name": name, "price": 49.9, "stock": stock });
            assert_eq!(shopper.post("/products", &product).await.status, 201);
        }
        let now = server.store.clock().await.unwrap();
        let at = |minutes: i64| (now + jiff::SignedDuration::from_mins(minutes)).to_string();
        for (name, product, from, to) in
            [("black-friday", 1, -10, 42), ("cyber-monday", 2, 95, 200)]
        {
            let sale = json!({ "products": [product], "starts_at": at(from), "ends_at": at(to), "per_customer": 2 });
            let path = format!("/sales/{name}");
            let made = guarded.admin.send(Method::PUT, &path, &sale.to_string()).await;
            assert!(made.status < 300, "{}", made.text);
        }
        let customers = tokio::spawn(order_often(shopper.clone()));
        let shop = Self { _customers: AbortOnDropHandle::new(customers), _worker: worker, guarded };
        shop.fail(&shopper).await;
        shop
    }

    /// Creates three dead letters.
    async fn fail(&self, shopper: &Bearer) {
        for why in [
            "the receiver answered 422: no such street",
            "the receiver answered 410: the carrier does not deliver to this country",
            "the receiver answered 422: the address is not complete",
        ] {
            let order = json!({ "product_id": 5, "quantity": 1, "customer_ref": "customer-17" });
            let placed = shopper.post("/orders", &order).await.json();
            let query = "UPDATE orders SET status = 'failed', attempt = 3, failure = $2, finished_at = now() WHERE id = $1";
            let done = async || {
                let path = format!("/orders/{}", placed["id"]);
                shopper.get(&path).await.json()["status"] == "completed"
            };
            self.guarded.server.until("it is fulfilled", done).await;
            sqlx::query(query)
                .bind(placed["id"].as_i64())
                .bind(why)
                .execute(self.guarded.server.store.pool())
                .await
                .unwrap();
        }
    }

    async fn console(&self, size: (u32, u32, f64)) -> BrowserPage {
        let address = format!("http://{}/console", self.guarded.server.admin.address);
        BrowserPage::open_sized(&address, size).await
    }

    /// Opens the console with a key.
    async fn opened(&self, size: (u32, u32, f64)) -> BrowserPage {
        let page = self.console(size).await;
        page.fill("#key-input", &self.guarded.admin.key).await;
        page.click("#key-form .primary").await;
        page.find("#state.live").await;
        page
    }
}

/// Places orders for many customers, at a changing rate; some products sell out soon.
async fn order_often(shopper: Bearer) {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for round in 0_usize.. {
        tick.tick().await;
        let wave = [1, 2, 3, 5, 6, 7, 6, 5, 3, 2][round / 30 % 10];
        for number in 0..wave {
            let product = [2, 1, 5, 2, 6, 3, 4][(round + number) % 7];
            let customer = format!("customer-{}", (round * 7 + number) % 400);
            let order = json!({ "product_id": product, "quantity": 1, "customer_ref": customer });
            let shopper = shopper.clone();
            tokio::spawn(async move { shopper.post("/orders", &order).await });
        }
        if round % 40 == 0 {
            let hold = json!({ "product_id": 6, "quantity": 2, "expires_in_seconds": 300 });
            shopper.post("/holds", &hold).await;
        }
    }
}

/// The accessibility problems of the page in its current state; `None` if axe-core is not available.
async fn obstacles(page: &BrowserPage) -> Option<Vec<Value>> {
    let axe = std::env::var_os("AXE").filter(|path| !path.is_empty()).map(PathBuf::from)?;
    let axe = std::fs::read_to_string(axe).unwrap();
    page.browser.execute(&axe, vec![]).await.unwrap();
    let run = "const done = arguments[0]; \
        axe.run().then((found) => done(found.violations), (error) => done([String(error)]))";
    let found = page.browser.execute_async(run, vec![]).await.unwrap();
    Some(found.as_array().unwrap().clone())
}

async fn everybody_can_use(page: &BrowserPage) {
    match obstacles(page).await {
        None => eprintln!("NOT TESTED: axe-core is not there"),
        Some(found) => assert!(found.is_empty(), "{found:#?}"),
    }
}

async fn value(page: &BrowserPage, script: &str) -> Value {
    page.browser.execute(&format!("return {script}"), vec![]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make e2e-browser"]
async fn an_operator_enters_a_key_and_replays_a_dead_letter() {
    let shop = ConsoleShop::start().await;
    let page = shop.console(DESK).await;
    // A wrong key is refused, and the page says so.
    page.fill("#key-input", "hf_wrong").await;
    page.click("#key-form .primary").await;
    page.find("#key[open] #key-error:not(:empty)").await;
    everybody_can_use(&page).await;
    page.fill("#key-input", &shop.guarded.admin.key).await;
    page.click("#key-form .primary").await;
    page.find("#state.live").await;
    // The key is stored for this tab only.
    assert_eq!(value(&page, "localStorage.length + document.cookie.length").await, 0);
    assert_eq!(
        value(&page, "sessionStorage.getItem('holdfast-key')").await,
        shop.guarded.admin.key
    );

    let first = page.find("#dead tr th").await.text().await.unwrap();
    let id = first.trim_start_matches('#').to_owned();
    // By keyboard only: open the dialog, and close it again.
    value(&page, "document.querySelector('#dead button').focus()").await;
    let keyboard = async |keys: &str| {
        let active = page.browser.active_element().await.unwrap();
        active.send_keys(keys).await.unwrap();
    };
    keyboard("\u{e007}").await;
    page.find("#decide[open]").await;
    everybody_can_use(&page).await;
    keyboard("\u{e00c}").await;
    page.find("#decide:not([open])").await;
    let order = async || {
        let shopper = shop.guarded.admin.on(&shop.guarded.server.api);
        shopper.get(&format!("/orders/{id}")).await.json()
    };
    assert_eq!(order().await["status"], "failed");
    keyboard("\u{e007}").await;
    page.fill("#decide-by", "ada@shop.example").await;
    page.fill("#decide-note", "the street exists now").await;
    page.click("#decide-go").await;
    page.find("#decide:not([open])").await;
    let replayed = async || {
        let text = page.find("#done").await.text().await.unwrap();
        let list = page.find("#dead").await.text().await.unwrap();
        !list.contains(&first) && text.is_empty() || !list.contains(&first)
    };
    shop.guarded.server.until("it is no longer a dead letter", replayed).await;
    let history = order().await["history"].as_array().unwrap().clone();
    assert!(history.iter().any(|step| step["by"] == "ada@shop.example"), "{history:?}");
    page.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make e2e-browser"]
async fn the_console_fits_a_desktop_and_a_phone() {
    let shop = ConsoleShop::start().await;
    let (desk, phone) = (shop.opened(DESK).await, shop.opened(PHONE).await);
    let small = shop.opened(SMALL_PHONE).await;
    // Time must pass, so that the charts have something to show.
    tokio::time::sleep(SALE).await;
    for (page, picture) in
        [(&desk, Some("console")), (&phone, Some("console-phone")), (&small, None)]
    {
        page.find("#state.live").await;
        let text = page.find("[data-n='accepted']").await.text().await.unwrap();
        assert!(text.parse::<f64>().is_ok_and(|rate| rate > 0.0), "{text}");
        for chart in ["orders", "refusals", "waits", "batches"] {
            page.find(&format!("[data-chart='{chart}'] svg[aria-label]")).await;
        }
        let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(value(page, fits).await, true, "the page is wider than the window");
        everybody_can_use(page).await;
        if let Some(picture) = picture {
            let path = format!("{}/../../docs/images/{picture}.png", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, page.browser.screenshot().await.unwrap()).unwrap();
        }
    }
    for page in [desk, phone, small] {
        page.browser.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make e2e-browser"]
async fn the_pages_policy_blocks_none_of_its_own_files() {
    let shop = ConsoleShop::start().await;
    let page = shop.opened(DESK).await;
    let watch = "window.refused = []; \
        document.addEventListener('securitypolicyviolation', (event) => refused.push(event.violatedDirective + ' ' + event.blockedURI))";
    page.browser.execute(watch, vec![]).await.unwrap();
    let client: &Client = &shop.guarded.server.admin;
    assert_eq!(client.get("/console").await.status, 200);
    let before = value(
        &page,
        "document.querySelector('[data-chart=orders] svg').getAttribute('aria-label')",
    )
    .await;
    let moved = async || {
        value(&page, "document.querySelector('[data-chart=orders] svg').getAttribute('aria-label')")
            .await
            != before
    };
    shop.guarded.server.until("the charts move", moved).await;
    assert_eq!(value(&page, "refused").await, json!([]));
    page.browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make e2e-browser"]
async fn a_name_with_a_script_is_shown_as_text() {
    let shop = ConsoleShop::start().await;
    let name =
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
    let product = json!({ "name": name, "price": 1, "stock": 9 });
    let shopper = shop.guarded.admin.on(&shop.guarded.server.api);
    assert_eq!(shopper.post("/products", &product).await.status, 201);
    let page = shop.opened(DESK).await;
    let shown = async || page.find("#stock").await.text().await.unwrap().contains(name);
    shop.guarded.server.until("the name is shown", shown).await;
    assert_eq!(value(&page, "document.title").await, "Holdfast console");
    assert_eq!(value(&page, "document.querySelectorAll('#stock img').length").await, 0);
    page.browser.close().await.unwrap();
}
