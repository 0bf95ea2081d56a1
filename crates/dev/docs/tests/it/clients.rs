//! Clients that are generated from the OpenAPI documents, and the Postman collection, on a stack like that of `make
//! run`: they create, order and list a product, repeat an order with its key, and handle a conflict.
//!
//! `make test-clients` installs the tools and runs this.

use std::{process::Stdio, time::Duration};

use holdfast_docs::root;
use tokio::{process::Command, time::timeout};

use crate::{postman::document, stack::RunningStack};

/// For missing downloads, on a busy machine.
const LIMIT: Duration = Duration::from_mins(10);

/// Runs `scripts/clients/run`. When this is dropped, the processes end.
async fn run(arguments: &[&str]) {
    let mut command = Command::new(root().join("scripts/clients/run"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("it takes too long").unwrap();
    let text = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
    assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, text.concat());
}

/// Generates, compiles and uses a client of the public document.
async fn client(language: &str) {
    let stack = RunningStack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document(&[])).unwrap();
    run(&[language, file.to_str().unwrap(), &format!("http://{}", stack.api)]).await;
}

#[tokio::test]
#[ignore = "needs redocly and spectral: make test-clients"]
async fn lint() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["public", "admin"].map(|name| folder.path().join(name).with_extension("json"));
    std::fs::write(&files[0], document(&[])).unwrap();
    std::fs::write(&files[1], document(&["--admin"])).unwrap();
    run(&["lint", files[0].to_str().unwrap(), files[1].to_str().unwrap()]).await;
}

#[tokio::test]
#[ignore = "needs openapi-python-client: make test-clients"]
async fn python() {
    client("python").await;
}

#[tokio::test]
#[ignore = "needs openapi-typescript: make test-clients"]
async fn typescript() {
    client("typescript").await;
}

#[tokio::test]
#[ignore = "needs Go and oapi-codegen: make test-clients"]
async fn go() {
    client("go").await;
}

#[tokio::test]
#[ignore = "needs a JDK, Maven and openapi-generator: make test-clients"]
async fn java() {
    client("java").await;
}

#[tokio::test]
#[ignore = "needs newman: make test-clients"]
async fn postman() {
    let stack = RunningStack::start().await;
    let [api, admin] = [&stack.api, &stack.admin].map(|address| format!("http://{address}"));
    run(&["postman", &api, &admin]).await;
}
