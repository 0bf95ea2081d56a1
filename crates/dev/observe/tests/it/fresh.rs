//! The generated files are up to date. `WRITE_DOCS=1 cargo test -p holdfast-observe --test it fresh` generates them.

use holdfast_observe::{dashboards, reference};
use serde_json::Value;

use crate::{exported, root, text};

const FOLDER: &str = "charts/holdfast/dashboards";
const HOW: &str = "WRITE_DOCS=1 cargo test -p holdfast-observe --test it fresh";

fn rewrite() -> bool {
    std::env::var_os("WRITE_DOCS").is_some()
}

#[test]
fn the_reference_of_the_metrics_is_up_to_date() {
    let processes: Vec<_> =
        exported::PROGRAMS.iter().map(|program| (*program, exported::table(program))).collect();
    let made = reference::render(&processes);
    if rewrite() {
        std::fs::write(root().join("docs/metrics.md"), &made).unwrap();
    }
    assert!(text("docs/metrics.md") == made, "docs/metrics.md is out of date; type: {HOW}");
}

#[test]
fn the_dashboards_are_up_to_date_and_there_are_no_others() {
    let mut expected = Vec::new();
    for dashboard in dashboards::all() {
        let path = format!("{FOLDER}/{}.json", dashboard.uid);
        if rewrite() {
            let mut made = serde_json::to_string_pretty(&dashboard.json()).unwrap();
            made.push('\n');
            std::fs::write(root().join(&path), made).unwrap();
        }
        let written: Value = serde_json::from_str(&text(&path)).unwrap();
        assert!(written == dashboard.json(), "{path} is out of date; type: {HOW}");
        expected.push(format!("{}.json", dashboard.uid));
    }
    let mut there: Vec<_> = std::fs::read_dir(root().join(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    expected.sort();
    there.sort();
    assert_eq!(there, expected);
}
