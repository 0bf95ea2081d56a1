//! The OpenAPI document matches the server.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Client,
    server::{BINARY, Server},
};

/// The documents of the public port and of the admin port.
pub fn documents() -> [Value; 2] {
    [&["openapi"][..], &["openapi", "--admin"]].map(document)
}

fn document(arguments: &[&str]) -> Value {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each operation: path, method, description.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
    });
    all.collect()
}

#[test]
fn every_reference_in_the_document_resolves() {
    fn check(document: &Value, here: &Value) {
        match here {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|member| check(document, member));
            }
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            _ => {}
        }
    }
    for document in documents() {
        assert_eq!(document["openapi"], "3.1.0");
        check(&document, &document);
    }
}

#[test]
fn every_operation_is_described_with_its_answers() {
    let operations: Vec<_> = documents().iter().flat_map(operations).collect();
    let names: Vec<_> =
        operations.iter().map(|(path, method, _)| format!("{method} {path}")).collect();
    for expected in [
        "POST /products",
        "GET /products",
        "GET /products/{id}",
        "PUT /products/{id}",
        "DELETE /products/{id}",
        "POST /products/{id}/stock",
        "GET /products/{id}/stock-ledger",
        "POST /orders",
        "GET /orders",
        "GET /orders/{id}",
        "POST /orders/{id}/cancel",
        "POST /holds",
        "GET /holds",
        "GET /holds/{id}",
        "DELETE /holds/{id}",
        "GET /dead-letters",
        "GET /dead-letters/{id}",
        "POST /dead-letters/{id}/replay",
        "POST /dead-letters/{id}/discard",
        "POST /dead-letters/replay",
        "POST /api-keys",
        "GET /api-keys",
        "DELETE /api-keys/{id}",
        "GET /stats",
        "GET /charts/{name}",
        "GET /stock",
        "GET /health",
        "GET /livez",
        "GET /readyz",
    ] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
    let mut ids = Vec::new();
    for (path, method, operation) in operations {
        let name = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{name}");
        if ["/health", "/livez", "/readyz"].contains(&path.as_str()) {
            // On both ports, and without a key.
            assert_eq!(operation["security"], json!([]), "{name}");
            continue;
        }
        assert!(operation["security"][0]["bearer"].is_array(), "{name}");
        for status in ["401", "403", "429"] {
            assert!(operation["responses"][status].is_object(), "{name} {status}");
        }
        let id = operation["operationId"].as_str().unwrap().to_owned();
        // Operations that only read may be on both ports.
        if method != "GET" || !ids.contains(&id) {
            ids.push(id);
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            assert!(!answer["description"].as_str().unwrap().is_empty(), "{name} {status}");
            if status.starts_with(['4', '5']) {
                let problem = &answer["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{name} {status}");
            } else if !["204", "304"].contains(&status.as_str()) {
                let media_type =
                    if path == "/charts/{name}" { "image/svg+xml" } else { "application/json" };
                assert!(answer["content"][media_type]["schema"].is_object(), "{name}");
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are not unique: {ids:?}");
}

#[tokio::test]
async fn every_documented_operation_answers_as_documented() {
    let server = Server::start().await;
    for (client, document) in [&server.api, &server.admin].into_iter().zip(documents()) {
        let mut answer = client.get("/openapi.json").await.json();
        // Relative to the URL from which the client got the document.
        assert_eq!(answer["servers"].take(), json!([{ "url": "." }]));
        answer["servers"] = document["servers"].clone();
        assert_eq!(answer, document);
        answers_as_documented(client, &document).await;
    }
}

async fn answers_as_documented(client: &Client, document: &Value) {
    for (path, method, operation) in operations(document) {
        let documented = operation["responses"].as_object().unwrap();
        for slash in ["", "/"] {
            let path = format!("{}{slash}", path.replace("{id}", "4711"));
            let request = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = client.json(request, &path, "{}").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(
                documented.contains_key(&answer.status.to_string()),
                "{method} {path}: {}",
                answer.status
            );
            if answer.status >= 400 {
                answer.problem();
            }
        }
    }
}
