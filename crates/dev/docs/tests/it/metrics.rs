//! Metrics in the documents.

use std::collections::BTreeSet;
use std::process::Command;

use holdfast_docs::documents;
use holdfast_observe::reference;
use holdfast_sandbox::workspace_binary;

use crate::assert_none;

/// Names that look like metrics and are none: crates, Kubernetes objects, functions and files of the database.
const OTHERS: [&str; 2] = ["holdfast_queue_depth", "holdfast_test"];

fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for program in ["holdfast-api", "holdfast-worker", "holdfast-operator"] {
        let binary = workspace_binary(program).unwrap();
        let output = Command::new(binary).args(["metrics", "--reference"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        names.extend(reference::read(&String::from_utf8(output.stdout).unwrap()).into_keys());
    }
    assert!(names.len() > 70, "{names:?}");
    names
}

#[test]
fn each_metric_is_exported() {
    let exported = exported();
    let migrations = crate::names::sources(|path| path.starts_with("migrations"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        for line in document.code() {
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            for word in words.filter(|word| word.starts_with("holdfast_")) {
                let base =
                    ["_bucket", "_sum", "_count"].iter().find_map(|it| word.strip_suffix(it));
                let is_metric =
                    exported.contains(word) || base.is_some_and(|base| exported.contains(base));
                let is_crate = ["crates/", "crates/dev/"].iter().any(|folder| {
                    let name = word.trim_start_matches("holdfast_");
                    holdfast_docs::root().join(folder).join(name).is_dir()
                });
                // A function of the database.
                let is_function = migrations.contains(&format!("FUNCTION {word}"));
                // The beginning of several names.
                let is_beginning =
                    word.ends_with('_') && exported.iter().any(|name| name.starts_with(word));
                seen += usize::from(is_metric);
                if !(is_metric || is_crate || is_function || is_beginning || OTHERS.contains(&word))
                {
                    wrong.push(format!("{}: nothing exports {word}", document.path.display()));
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 100, "only {seen}");
}
