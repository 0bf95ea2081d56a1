//! Files and folders in the documents, and the destinations of links.

use std::collections::BTreeSet;
use std::fs;

use holdfast_docs::{Document, documents, files, root};

use crate::{assert_none, pages};

/// Beginnings of paths outside the repository: build output, and files of other projects.
const ELSEWHERE: [&str; 3] = ["target/", "docs/pgbouncer", "deploy/"];

/// Names of files that a command writes, or that belong to the reader.
const NOT_OURS: [&str; 2] = ["latest.json", "holdfast.sql"];

/// Extensions of file names.
const ENDINGS: [&str; 8] = [".rs", ".md", ".sql", ".yaml", ".toml", ".tpl", ".json", ".svg"];

#[test]
fn each_path_in_code_exists() {
    let files = files().unwrap();
    let top: BTreeSet<_> =
        files.iter().map(|it| it.iter().next().unwrap().to_str().unwrap().to_owned()).collect();
    let names: BTreeSet<_> =
        files.iter().map(|it| it.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        let words = document.spans.iter().flat_map(|span| span.split([' ', ',', ';', '=']));
        for word in words {
            let path = word.trim_matches(|c| "()'\"".contains(c)).trim_start_matches("./");
            let (first, _) = path.split_once('/').unwrap_or(("", path));
            let is_pattern = path.contains(['*', '<', '{', '…', '$', ':', '#']);
            let elsewhere = ELSEWHERE.iter().any(|it| path.starts_with(it));
            if is_pattern || elsewhere {
                continue;
            }
            let is_name = path.len() > 5
                && first.is_empty()
                && !path.contains('/')
                && !NOT_OURS.contains(&path)
                && ENDINGS.iter().any(|ending| path.ends_with(ending));
            let there = if is_name {
                names.contains(path)
            } else if top.contains(first) {
                root().join(path).exists()
            } else {
                continue;
            };
            seen += 1;
            if !there {
                wrong.push(format!("{}: there is no `{path}`", document.path.display()));
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 100, "only {seen}");
}

/// The anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

fn anchors(document: &Document) -> BTreeSet<String> {
    let headings = document.text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn each_link_points_to_an_existing_heading() {
    let pages = pages();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            seen += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                page.path.clone()
            } else {
                page.path.parent().unwrap().join(path)
            };
            let Ok(target) = fs::canonicalize(root().join(&target)) else {
                wrong.push(format!("{}: nothing is at {link}", page.path.display()));
                continue;
            };
            let other = pages.iter().find(|it| root().join(&it.path) == target);
            if !heading.is_empty() && other.is_none_or(|it| !anchors(it).contains(heading)) {
                wrong.push(format!("{}: no heading is at {link}", page.path.display()));
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 80, "only {seen}");
}

#[test]
fn each_script_and_crate_is_mentioned_in_a_document() {
    let text: String = pages().into_iter().map(|page| page.text).collect();
    let mut wrong = Vec::new();
    for folder in ["crates", "crates/dev"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.path().join("Cargo.toml").exists() && !text.contains(&format!("`{name}`")) {
                wrong.push(format!("{name} is on no page; the map is in ARCHITECTURE.md"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn each_page_is_in_the_table_of_contents() {
    let output = std::process::Command::new(root().join("scripts/docs")).arg("summary").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let contents = String::from_utf8(output.stdout).unwrap();
    let pages: Vec<_> = pages().into_iter().map(|page| page.path.display().to_string()).collect();
    let missing = pages.iter().filter(|path| !contents.contains(&format!("]({path})")));
    let missing: Vec<_> = missing.map(|path| format!("{path} is not in scripts/docs")).collect();
    assert_none(&missing);
}
