//! Pages in a real browser. This module tests Swagger UI: authorize, place an order, read it. It updates the screenshot
//! in the README.
//!
//! `make e2e-browser` runs these tests, and installs missing programs.

mod console;

use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, wd::Capabilities};
use holdfast_sandbox::{Port, Process, ProcessOptions, Ready, on_path};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::access::GuardedShop;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images/swagger.png");
const PATIENCE: Duration = Duration::from_secs(20);

struct BrowserPage {
    browser: Client,
    _driver: Process,
}

impl BrowserPage {
    async fn open(address: &str) -> Self {
        Self::open_sized(address, (1280, 1400, 1.0)).await
    }

    /// The width and height of the window, and the number of device pixels per pixel.
    async fn open_sized(address: &str, (width, height, ratio): (u32, u32, f64)) -> Self {
        let port = Port::lease().unwrap();
        let driver = ProcessOptions::new(on_path("chromedriver").expect("chromedriver"))
            .arg(format!("--port={}", port.number()))
            .ready(Ready::Tcp(port.address()));
        let driver = Process::start(driver).await.unwrap();
        // A real window cannot be as narrow as a phone, so a phone is emulated.
        let metrics = json!({ "width": width, "height": height, "pixelRatio": ratio });
        let options = json!({ "goog:chromeOptions": {
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"],
            "mobileEmulation": { "deviceMetrics": metrics },
        } });
        let capabilities: Capabilities = options.as_object().unwrap().clone();
        let browser = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{}", port.address()))
            .await
            .unwrap();
        browser.goto(address).await.unwrap();
        Self { browser, _driver: driver }
    }

    async fn find(&self, css: &str) -> Element {
        let found = self.browser.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    async fn click(&self, css: &str) {
        let element = self.find(css).await;
        let scroll = "arguments[0].scrollIntoView({block: 'center'})";
        self.browser.execute(scroll, vec![serde_json::to_value(&element).unwrap()]).await.unwrap();
        element.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Executes an open operation, and returns the status and the body that the page shows.
    async fn execute(&self, operation: &str) -> (String, Value) {
        self.click(&format!("{operation} .execute")).await;
        let status = self
            .find(&format!("{operation} .live-responses-table tr.response .response-col_status"))
            .await;
        let body =
            self.find(&format!("{operation} .live-responses-table .highlight-code code")).await;
        let status = status.text().await.unwrap().lines().next().unwrap_or_default().to_owned();
        (status, serde_json::from_str(&body.text().await.unwrap()).unwrap())
    }

    /// Replaces the text of a field, like a user.
    async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make e2e-browser"]
async fn a_user_authorizes_places_an_order_and_reads_it_back() {
    let shop = GuardedShop::start(&[]).await;
    let product = json!({ "name": "Espresso machine", "price": 499.9, "stock": 100 });
    let made = shop.admin.on(&shop.server.api).post("/products", &product).await;
    assert_eq!(made.status, 201);
    let page = BrowserPage::open(&format!("http://{}/docs/", shop.server.api.address)).await;
    let (create, read) = ("#operations-orders-create_order", "#operations-orders-get_order");

    // Without a key the request is refused, and the page shows that.
    page.click(&format!("{create} .opblock-summary-control")).await;
    let order = json!({ "product_id": made.json()["id"], "quantity": 2 });
    page.fill(&format!("{create} textarea.body-param__text"), &order.to_string()).await;
    let (status, problem) = page.execute(create).await;
    assert_eq!((status.as_str(), &problem["type"]), ("401", &json!("/problems/unauthorized")));

    page.click("button.authorize").await;
    page.fill(".modal-ux input", &shop.admin.key).await;
    page.click(".modal-ux button.authorize").await;
    page.click(".modal-ux button.btn-done").await;

    page.click(&format!("{create} .btn-clear")).await;
    let (status, placed) = page.execute(create).await;
    assert_eq!((status.as_str(), &placed["quantity"]), ("201", &json!(2)));

    page.click(&format!("{read} .opblock-summary-control")).await;
    page.fill(&format!("{read} .parameters input"), &placed["id"].to_string()).await;
    let (status, shown) = page.execute(read).await;
    assert_eq!((status.as_str(), &shown["id"]), ("200", &placed["id"]));

    // The screenshot shows the top of the page with the operations of orders.
    page.click(&format!("{create} .opblock-summary-control")).await;
    page.click(&format!("{read} .opblock-summary-control")).await;
    page.browser.execute("window.scrollTo(0, 0)", vec![]).await.unwrap();
    std::fs::write(PICTURE, page.browser.screenshot().await.unwrap()).unwrap();
    page.browser.close().await.unwrap();
}
