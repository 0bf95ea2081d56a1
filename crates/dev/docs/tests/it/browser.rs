//! Swagger UI in a real browser, on a stack like that of `make run`: each operation is executed as the page prefills
//! it.
//!
//! `make test-swagger` installs missing programs and runs this.

use fantoccini::{Client, ClientBuilder, Locator, wd::Capabilities};
use holdfast_sandbox::{Port, Process, ProcessOptions, Ready, on_path, until};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::{assert_none, stack::RunningStack};

/// Opens the operation with the number in the argument, unless it is open, and executes it when it has stopped moving.
/// Before that, the page is still filling it in, and a click has no effect.
const EXECUTE: &str = r"
    const block = document.querySelectorAll('.opblock')[arguments[0]];
    const button = block.querySelector('button.execute');
    if (!button) {
        if (!block.classList.contains('is-open')) block.querySelector('.opblock-summary-control').click();
        return false;
    }
    const now = performance.now();
    const looks = block.innerHTML + [...block.querySelectorAll('input, textarea, select')].map(it => it.value);
    if (window.looks !== looks) [window.looks, window.since] = [looks, now];
    if (now - window.since < 500) return false;
    button.click();
    return true;";

/// The answer on the page: the operation, the status and the text. Returns a text while there is no answer.
const ANSWER: &str = r"
    const block = document.querySelectorAll('.opblock')[arguments[0]];
    const row = block.querySelector('.live-responses-table tr.response');
    if (!row) return `${block.id}: ${block.querySelector('.loading-container') ? 'sent' : block.innerText}`;
    return [block.id, row.querySelector('.response-col_status').innerText.trim(), row.innerText];";

async fn browser() -> (Client, Process, Port) {
    let port = Port::lease().unwrap();
    let driver = ProcessOptions::new(on_path("chromedriver").expect("chromedriver"))
        .arg(format!("--port={}", port.number()))
        .ready(Ready::Tcp(port.address()));
    let driver = Process::start(driver).await.unwrap();
    let options = json!({ "goog:chromeOptions": { "args": [
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"
    ] } });
    let capabilities: Capabilities = options.as_object().unwrap().clone();
    let browser = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&format!("http://{}", port.address()))
        .await
        .unwrap();
    (browser, driver, port)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and its driver: make test-swagger"]
async fn each_operation_succeeds_as_swagger_ui_fills_it_in() {
    let stack = RunningStack::start().await;
    let (browser, _driver, _port) = browser().await;
    let (mut wrong, mut executed) = (Vec::new(), 0);
    for address in [&stack.api, &stack.admin] {
        browser.goto(&format!("http://{address}/docs")).await.unwrap();
        browser.wait().for_element(Locator::Css(".opblock")).await.unwrap();
        let count = "return document.querySelectorAll('.opblock').length";
        let count = browser.execute(count, vec![]).await.unwrap().as_u64().unwrap();
        for number in 0..count {
            let ask = async |script| browser.execute(script, vec![number.into()]).await.unwrap();
            until("the operation is open", async || ask(EXECUTE).await == true).await;
            let answer = until("there is an answer", async || match ask(ANSWER).await {
                Value::String(state) => Err(state),
                answer => Ok(answer),
            });
            let answer = answer.await;
            let status = answer[1].as_str().unwrap();
            if !status.starts_with('2') {
                wrong.push(format!("{}: {}", answer[0], answer[2]));
            }
            executed += 1;
        }
    }
    browser.close().await.unwrap();
    assert_none(&wrong);
    assert!(executed > 30, "{executed}");
}
