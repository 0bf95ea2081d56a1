//! The examples of the OpenAPI documents are sent unchanged to a stack like that of `make run`.

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::{assert_none, stack::RunningStack};

/// An example of a request in a document.
struct Example {
    method: Method,
    path: String,
    body: Option<Value>,
}

/// Each operation as Swagger UI prefills it, once for each example of its body.
fn examples(document: &Value) -> Vec<Example> {
    let mut all = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        // From top to bottom, as in Swagger UI.
        for name in ["get", "put", "post", "delete"] {
            let operation = &item[name];
            if operation.is_null() {
                continue;
            }
            let method: Method = name.to_uppercase().parse().unwrap();
            let mut path = template.clone();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let example = &parameter["example"];
                if parameter["in"] == "path" {
                    let text = example.as_str().map_or_else(|| example.to_string(), Into::into);
                    assert!(!example.is_null(), "{method} {template}: no example of {name}");
                    path = path.replace(&format!("{{{name}}}"), &text);
                } else {
                    // Swagger UI would send it with each request.
                    assert!(example.is_null(), "{method} {template}: {name}");
                }
            }
            let body = &operation["requestBody"];
            let bodies = body["content"]["application/json"]["examples"].as_object();
            assert!(body.is_null() || bodies.is_some(), "{method} {template}: no example");
            let bodies = bodies.into_iter().flat_map(|bodies| bodies.values());
            let bodies: Vec<_> = bodies.map(|body| Some(body["value"].clone())).collect();
            let bodies = if bodies.is_empty() { vec![None] } else { bodies };
            all.extend(bodies.into_iter().map(|body| Example {
                method: method.clone(),
                path: path.clone(),
                body,
            }));
        }
    }
    all
}

#[tokio::test]
async fn each_example_of_the_openapi_documents_succeeds_unchanged() {
    let stack = RunningStack::start().await;
    let http = Client::builder().no_proxy().build().unwrap();
    let (mut wrong, mut sent) = (Vec::new(), 0);
    for address in [&stack.api, &stack.admin] {
        let url = format!("http://{address}/openapi.json");
        let document = http.get(url).send().await.unwrap().text().await.unwrap();
        for Example { method, path, body } in examples(&serde_json::from_str(&document).unwrap()) {
            let mut request = http.request(method.clone(), format!("http://{address}{path}"));
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            let body = body.unwrap_or_default();
            if !status.is_success() {
                wrong.push(format!("{method} {path} {body}: {status} {text}"));
            } else if path == "/dead-letters/replay" {
                assert_eq!(status, StatusCode::OK);
                let answer: Value = serde_json::from_str(&text).unwrap();
                assert!(answer["not_replayed"].is_null(), "{text}");
            }
            sent += 1;
        }
    }
    assert_none(&wrong);
    assert!(sent > 30, "{sent}");
}
