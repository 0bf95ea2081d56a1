//! Every name in a code span of the documents exists elsewhere in the repository, or is a known name of another project.
//! The test fails if a document still uses a name that was removed.
//!
//! Comments do not count, because otherwise one document would prove another.

use std::collections::BTreeSet;
use std::fs;

use holdfast_docs::{files, root};

use crate::{assert_none, pages};

/// Names of other programs and formats, and names that readers choose, one per line.
const OTHERS: &str = include_str!("names_of_others.txt");

/// Files that are not text, or that contain names of all kinds.
const NO_SOURCES: [&str; 7] = ["md", "png", "svg", "lock", "sum", "ico", "txt"];

/// The text of files without comments.
pub fn sources(wanted: impl Fn(&str) -> bool) -> String {
    let mut all = String::new();
    for path in files().unwrap() {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if NO_SOURCES.contains(&extension) || !wanted(path.to_str().unwrap()) {
            continue;
        }
        let comment = match extension {
            "rs" => "//",
            "sql" => "--",
            "json" => "\u{0}",
            _ => "#",
        };
        for line in fs::read_to_string(root().join(&path)).unwrap_or_default().lines() {
            all.push_str(if line.trim_start().starts_with(comment) { "" } else { line });
            all.push('\n');
        }
    }
    all
}

/// The words in a source text. A word may contain dashes.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let words = text.split(move |c| !is_word(c)).map(|word| word.trim_matches('-'));
    words.filter(|word| word.len() > 2 && word.chars().next().unwrap().is_ascii_alphabetic())
}

#[test]
fn each_name_in_code_exists() {
    let sources = sources(|path| !path.starts_with("crates/dev/docs/"));
    let mut known: BTreeSet<&str> = words(&sources).collect();
    known.extend(words(&sources).flat_map(|word| word.split('-')));
    let others: BTreeSet<&str> = OTHERS.lines().collect();
    let flags = crate::commands::all_flags();
    let files = files().unwrap();
    let files: Vec<_> = files.iter().map(|it| it.to_str().unwrap()).collect();
    let files = files.join("\n");
    let mut wrong = BTreeSet::new();
    let mut unused = others.clone();
    let mut seen = 0;
    for page in pages() {
        for span in &page.spans {
            for word in words(span) {
                seen += 1;
                if unused.remove(word) || others.contains(word) {
                    continue;
                }
                if !known.contains(word) && !flags.contains(word) && !files.contains(word) {
                    wrong.insert(format!("{}: what is {word} in `{span}`?", page.path.display()));
                }
            }
        }
    }
    assert_none(&wrong.into_iter().collect::<Vec<_>>());
    assert!(seen > 3000, "only {seen}");
    let needless: Vec<_> = unused.into_iter().map(ToOwned::to_owned).collect();
    assert_none(&needless);
}
