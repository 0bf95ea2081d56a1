//! Names of types are unique, and modules have no cycles. What documents say is there: files, modules, commands, flags,
//! routes, problems, metrics, names; and blocks marked
//! as runnable run, and the examples of the OpenAPI documents succeed.
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

/// Documents for people: those of modules are left out.
fn pages() -> Vec<Document> {
    let pages = holdfast_docs::documents().unwrap().into_iter();
    let pages: Vec<_> = pages.filter(|it| it.path.extension().unwrap() == "md").collect();
    assert!(pages.len() > 40, "only {}", pages.len());
    pages
}

/// Fails with all that is wrong, and not with the first only.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
