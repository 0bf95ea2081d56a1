//! Every fuzz target compiles and accepts its seeds. `make fuzz` starts with these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(unused_attributes)] // `no_main` is for libFuzzer
#![allow(clippy::disallowed_methods)] // the target `json` compares with serde_json

use std::{collections::BTreeSet, fs, path::PathBuf};

#[path = "../../../fuzz/targets/administration.rs"]
mod administration;
#[path = "../../../fuzz/targets/credentials.rs"]
mod credentials;
#[path = "../../../fuzz/targets/head.rs"]
mod head;
#[path = "../../../fuzz/targets/headers.rs"]
mod headers;
#[path = "../../../fuzz/targets/hold.rs"]
mod hold;
#[path = "../../../fuzz/targets/http.rs"]
mod http;
#[path = "../../../fuzz/targets/json.rs"]
mod json;
#[path = "../../../fuzz/targets/order.rs"]
mod order;
#[path = "../../../fuzz/targets/product.rs"]
mod product;
#[path = "../../../fuzz/targets/query.rs"]
mod query;
#[path = "../../../fuzz/targets/queue_entry.rs"]
mod queue_entry;
#[path = "../../../fuzz/targets/redis_url.rs"]
mod redis_url;
#[path = "../../../fuzz/targets/retry_after.rs"]
mod retry_after;
#[path = "../../../fuzz/targets/selector.rs"]
mod selector;
#[path = "../../../fuzz/targets/token.rs"]
mod token;

/// The name of a target, and the function for its inputs.
type FuzzTarget = (&'static str, fn(&[u8]));

const TARGETS: [FuzzTarget; 15] = [
    ("administration", administration::run),
    ("credentials", credentials::run),
    ("head", head::run),
    ("headers", headers::run),
    ("hold", hold::run),
    ("http", http::run),
    ("json", json::run),
    ("order", order::run),
    ("product", product::run),
    ("query", query::run),
    ("queue_entry", queue_entry::run),
    ("redis_url", redis_url::run),
    ("retry_after", retry_after::run),
    ("selector", selector::run),
    ("token", token::run),
];

fn fuzz() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
}

/// The names of the files in a folder, without their extensions.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_target_is_here_and_has_seeds() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("targets"), targets);
    assert_eq!(names("seeds"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
    }
}

#[test]
fn every_target_accepts_its_seeds() {
    for (target, run) in TARGETS {
        for entry in fs::read_dir(fuzz().join("seeds").join(target)).unwrap() {
            let path = entry.unwrap().path();
            eprintln!("{}", path.display());
            run(&fs::read(path).unwrap());
        }
    }
}
