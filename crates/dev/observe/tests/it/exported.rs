//! The metrics that the binaries export.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use holdfast_observe::reference::{self, Described};
use holdfast_sandbox::workspace_binary;

pub const PROGRAMS: [&str; 3] = ["holdfast-api", "holdfast-worker", "holdfast-operator"];

/// The metrics that an idle binary prints, in the text format of Prometheus.
pub fn page(program: &str) -> String {
    print(program, &["metrics"])
}

/// The table of a binary's metrics.
pub fn table(program: &str) -> String {
    print(program, &["metrics", "--reference"])
}

fn print(program: &str, arguments: &[&str]) -> String {
    let binary = workspace_binary(program).unwrap();
    let output = Command::new(binary).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn families(program: &str) -> BTreeMap<String, Described> {
    reference::read(&table(program))
}

/// The names of all metrics of all binaries.
pub fn names() -> BTreeSet<String> {
    PROGRAMS.iter().flat_map(|program| families(program).into_keys()).collect()
}

/// The names of the exported metrics in an expression, without the suffixes of histograms.
pub fn names_in(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expression
        .split(|c| !word(c))
        .map(|name| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| {
                    name.strip_suffix(end)
                        .filter(|base| base.ends_with("_seconds") || base.ends_with("_orders"))
                })
                .unwrap_or(name)
                .to_owned()
        })
        .collect()
}

#[test]
fn names_and_help_follow_the_conventions() {
    let mut seen = 0;
    for program in PROGRAMS {
        for (name, family) in families(program) {
            seen += 1;
            assert!(
                name.starts_with("holdfast_") || name.starts_with("process_"),
                "{program}: {name} has an unknown prefix"
            );
            assert!(!family.help.is_empty(), "{name} has no help");
            let counter = family.kind == "counter";
            assert_eq!(name.ends_with("_total"), counter, "{name} is a {}", family.kind);
            if family.kind == "histogram" {
                assert!(
                    name.ends_with("_seconds") || name.ends_with("_orders"),
                    "{name}: which unit?"
                );
                assert!(family.bounds.is_some_and(|(first, last)| first < last), "{name}");
            }
            for label in family.labels.keys() {
                let bounded = !label.ends_with("id") && !label.contains("path");
                assert!(bounded, "{name}: the label {label} has no bound");
            }
            let series: usize = family.labels.values().map(|values| values.len().max(1)).product();
            assert!(series < 200, "{name} has {series} series");
        }
    }
    assert!(seen > 70, "only {seen} metrics");
    // Lock waits from 50 µs to 10 s fall into different buckets.
    let waits = &families("holdfast-api")["holdfast_lock_wait_seconds"].bounds;
    assert!(waits.is_some_and(|(first, last)| first <= 0.000_05 && last >= 10.0), "{waits:?}");
}
