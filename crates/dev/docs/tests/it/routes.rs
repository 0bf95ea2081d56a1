//! Routes and problems in the documents, compared with a running API.

use std::collections::BTreeSet;
use std::process::Command;

use holdfast_docs::documents;
use holdfast_sandbox::workspace_binary;
use serde_json::Value;

use crate::stack::RunningStack;
use crate::{assert_none, pages};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

/// Texts that begin with a slash and are not routes: files in containers, the paths of the receiver, and the example of
/// a new route.
const NO_ROUTES: [&str; 11] = [
    "/archive",
    "/holdfast-",
    "/proc",
    "/tmp",
    "/var",
    "/dev",
    "/etc",
    "/apis",
    "/orders/shop",
    "/webhooks/",
    "/products/{id}/rename",
];

/// The path templates of an OpenAPI document, with their methods.
fn templates(arguments: &[&str]) -> Vec<(String, String)> {
    let binary = workspace_binary("holdfast-api").unwrap();
    let output = Command::new(binary).arg("openapi").args(arguments).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    operations.collect()
}

/// Whether a path in a document, such as `/orders/1` or `/orders/{id}`, matches a template.
fn fits(path: &str, template: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap().trim_end_matches('/');
    let (parts, of_template) = (path.split('/'), template.trim_end_matches('/').split('/'));
    parts.clone().count() == of_template.clone().count()
        && parts.zip(of_template).all(|(part, of_template)| {
            let variable = of_template.starts_with('{') || part == "…";
            part == of_template || variable
        })
}

/// Paths in a line of code, each with its method or port if one is named.
fn paths(line: &str) -> Vec<(Option<&str>, Option<u16>, String)> {
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || "'\"`,;()".contains(c)).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let method = METHODS.iter().find(|it| **it == before).copied();
        let word = word.trim_start_matches("http://");
        if word.starts_with('/') {
            // A path alone in a longer line may be anything.
            if method.is_some() || words.len() == 1 {
                found.push((method, None, word.to_owned()));
            }
        } else if let Some((host, path)) = word.split_once('/')
            && let Some((name, port)) = host.split_once(':')
            && ["localhost", "127.0.0.1"].contains(&name)
            && let Ok(port) = port.parse()
        {
            found.push((method, Some(port), format!("/{path}")));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_is_served_on_the_port_that_is_named() {
    let stack = RunningStack::start().await;
    let (public, admin) = (templates(&[]), templates(&["--admin"]));
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for page in pages() {
        for line in page.code() {
            for (method, port, path) in paths(line) {
                if NO_ROUTES.iter().any(|it| path.starts_with(it)) || path == "/" {
                    continue;
                }
                let served = match port {
                    None => [&public[..], &admin[..]].concat(),
                    Some(8000) => public.clone(),
                    Some(9463) => admin.clone(),
                    Some(9464) => Vec::new(),
                    // A port of another program.
                    Some(_) => continue,
                };
                seen += 1;
                let documented = served.iter().any(|(of, template)| {
                    method.is_none_or(|it| it == of) && fits(&path, template)
                });
                if documented || (method.is_some_and(|it| it != "GET") && port.is_some()) {
                    continue;
                }
                let hosts = match port {
                    Some(8000) => vec![&stack.api],
                    Some(9463) => vec![&stack.admin],
                    Some(_) => vec![&stack.internal],
                    None => vec![&stack.api, &stack.admin, &stack.internal],
                };
                let mut answers = Vec::new();
                for host in hosts {
                    answers.push(stack.status(host, &path).await);
                }
                if answers.iter().all(|status| *status == 404) {
                    let method = method.unwrap_or("no");
                    wrong.insert(format!("{}: {method} {path} in `{line}`", page.path.display()));
                }
            }
        }
    }
    assert_none(&wrong.into_iter().collect::<Vec<_>>());
    assert!(seen > 60, "only {seen}");
}

/// Problem types in text: "problem `x`", "problems `x` and `y`", "503 `x`", or their URLs.
fn problems(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("/problems/").skip(1) {
        let slug: String =
            part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        found.push(slug);
    }
    for part in text.split("problem").skip(1) {
        let mut rest = part.trim_start_matches('s').trim_start_matches(" type");
        while let Some((slug, after)) = rest.strip_prefix(" `").and_then(|it| it.split_once('`')) {
            found.push(slug.to_owned());
            let next = [" or", " and", ","].iter().find_map(|it| after.strip_prefix(it));
            rest = next.unwrap_or_default();
        }
    }
    // After a status: "503 `x`".
    for (status, rest) in text.match_indices(" `").map(|(at, _)| text.split_at(at)) {
        let status = status.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        if status.len() == 3 && status.starts_with(['4', '5']) {
            found.extend(rest[2..].split('`').next().map(ToOwned::to_owned));
        }
    }
    let is_slug =
        |it: &String| !it.is_empty() && it.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    found.retain(is_slug);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_problem_has_its_page() {
    let stack = RunningStack::start().await;
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        for slug in problems(&document.text) {
            seen += 1;
            if stack.status(&stack.api, &format!("/problems/{slug}")).await != 200 {
                wrong.push(format!("{}: there is no problem {slug}", document.path.display()));
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 4, "only {seen}");
}

#[test]
fn problems_and_paths_are_found_in_prose() {
    assert_eq!(problems("503, problem `unavailable` or `busy`; log"), ["unavailable", "busy"]);
    assert_eq!(problems("see /problems/not-found."), ["not-found"]);
    assert_eq!(problems("is 503 `locked`, with `Retry-After`"), ["locked"]);
    assert!(fits("/orders/1?limit=2", "/orders/{id}") && !fits("/orders", "/orders/{id}"));
    assert_eq!(paths("POST /orders"), [(Some("POST"), None, "/orders".to_owned())]);
    let call = "$ curl -s localhost:9463/dead-letters/4711";
    assert_eq!(paths(call), [(None, Some(9463), "/dead-letters/4711".to_owned())]);
}
