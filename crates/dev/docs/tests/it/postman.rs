//! The Postman collection matches the OpenAPI documents. `WRITE_DOCS=1 cargo test --workspace --test it -- postman::`
//! generates it. `make test-clients` runs it.

use std::{fs, process::Command};

use holdfast_docs::{postman::collection, root};
use holdfast_sandbox::workspace_binary;
use serde_json::Value;

const FILE: &str = "docs/holdfast.postman_collection.json";

/// A document, as the program prints it.
pub fn document(extra: &[&str]) -> String {
    let program = workspace_binary("holdfast-api").unwrap();
    let output = Command::new(program).arg("openapi").args(extra).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_collection_matches_the_documents() {
    let read = |extra: &[&str]| serde_json::from_str::<Value>(&document(extra)).unwrap();
    let made = collection(&read(&[]), &read(&["--admin"])).unwrap();
    let made = format!("{}\n", serde_json::to_string_pretty(&made).unwrap());
    let path = root().join(FILE);
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let how = "type: WRITE_DOCS=1 cargo test --workspace --test it -- postman::";
    assert!(fs::read_to_string(&path).unwrap_or_default() == made, "{FILE} is not fresh; {how}");
}
