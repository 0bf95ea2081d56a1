//! Schemathesis sends requests that the OpenAPI document allows and requests that it forbids, and compares the answers
//! with it.
//!
//! `make test-contract` installs it, sets its path in `SCHEMATHESIS`, and runs this.

use std::process::Command;

use serde_json::json;

use crate::access::GuardedShop;

/// The same requests in every run.
const SEED: &str = "20260";

/// Rules that a schema cannot express and that are answered with 422: fields that exclude each other, prices with two
/// decimals, cursors that the list did not return, keys that were used for another request. And the tags of a product
/// (412).
const CONFIG: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 422, 429, "5xx"]
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Schemathesis: make test-contract"]
async fn the_server_conforms_to_its_documents() {
    let program = std::env::var("SCHEMATHESIS").expect("SCHEMATHESIS names the program");
    let shop = GuardedShop::start(&[]).await;
    // Data for the requests to find.
    let shopper = shop.admin.on(&shop.server.api);
    for _ in 0..3 {
        let product = json!({ "name": "Mill", "price": 1, "stock": 1_000_000 });
        assert_eq!(shopper.post("/products", &product).await.status, 201);
        let order = json!({ "product_id": 1, "quantity": 1 });
        assert_eq!(shopper.post("/orders", &order).await.status, 201);
        assert_eq!(shopper.post("/holds", &order).await.status, 201);
    }
    for client in [&shop.server.api, &shop.server.admin] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("schemathesis.toml"), CONFIG).unwrap();
        let output = Command::new(&program)
            .args(["run", &format!("http://{}/openapi.json", client.address)])
            .args(["--header", &format!("Authorization: Bearer {}", shop.admin.key)])
            .args(["--checks", "all", "--seed", SEED, "--max-examples", "40", "--workers", "2"])
            .args(["--generation-database", "none", "--no-color", "--warnings", "off"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        println!("{}", text.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(shop.server.api.get("/livez").await.status, 200);
    let log = shop.server.process.log().unwrap();
    assert!(!log.contains("\"ERROR\""), "{log}");
}
