//! Compares the documents with the code: files, modules, commands, flags, routes, problems, metrics and names exist;
//! runnable blocks and the examples of the OpenAPI documents succeed. Also checks that type names are unique and that
//! modules have no cycles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod browser;
mod clients;
mod code;
mod commands;
mod examples;
mod files;
mod guide;
mod metrics;
mod modules;
mod names;
mod postman;
mod routes;
mod runnable;
mod stack;

use holdfast_docs::Document;

/// The Markdown documents, without module docs.
fn pages() -> Vec<Document> {
    let pages = holdfast_docs::documents().unwrap().into_iter();
    let pages: Vec<_> = pages.filter(|it| it.path.extension().unwrap() == "md").collect();
    assert!(pages.len() > 40, "only {}", pages.len());
    pages
}

/// Fails with all errors instead of only the first.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
