//! Each command in the guide to Kubernetes is executed by a script that takes it from the guide, or is listed there
//! with a reason. The scripts name no commands that are not in the guide.

use std::collections::BTreeSet;
use std::fs;

use holdfast_docs::{Document, files, root};

use crate::assert_none;

const GUIDE: &str = "docs/kubernetes.md";

/// Commands that contain this are mentioned in the text, not executed.
const NOT_TO_BE_TYPED: &str = "…";

/// The commands in blocks and in the text, each on one line and without comments.
fn commands(guide: &Document) -> Vec<String> {
    let mut commands = Vec::new();
    for block in guide.blocks.iter().filter(|block| block.info.starts_with("console")) {
        let mut open = false;
        for line in block.text.lines() {
            let Some(line) = line.strip_prefix("$ ").or_else(|| open.then(|| line.trim_start()))
            else {
                continue;
            };
            let (text, goes_on) = line.strip_suffix('\\').map_or((line, false), |it| (it, true));
            match commands.last_mut() {
                Some(last) if open => *last = format!("{last}{text}"),
                _ => commands.push(text.to_owned()),
            }
            open = goes_on;
        }
    }
    let in_text = guide.spans.iter().filter(|span| {
        let words = span.split_whitespace().count();
        (span.starts_with("kubectl ") || span.starts_with("helm ")) && words > 2
    });
    commands.extend(in_text.filter(|span| !span.contains(NOT_TO_BE_TYPED)).cloned());
    let without_comment =
        |line: &String| line.split(" # ").next().unwrap_or_default().trim_end().to_owned();
    commands.iter().map(without_comment).collect()
}

/// The command that a script takes from the guide: the whole one, or else the first with this beginning.
fn taken<'a>(commands: &'a [String], beginning: &str) -> Option<&'a String> {
    let whole = commands.iter().find(|it| *it == beginning);
    whole.or_else(|| commands.iter().find(|it| it.starts_with(beginning)))
}

/// The quoted text after each of these words.
fn arguments<'a>(script: &'a str, word: &str) -> Vec<&'a str> {
    let calls = script.lines().flat_map(|line| line.split(word).skip(1));
    calls
        .filter_map(|rest| {
            let quote = rest.chars().next().filter(|it| ['\'', '"'].contains(it))?;
            rest.get(1..)?.split(quote).next()
        })
        .filter(|it| it.starts_with("kubectl ") || it.starts_with("helm "))
        .collect()
}

#[test]
fn each_command_of_the_guide_to_kubernetes_is_run_on_a_cluster_or_listed_with_a_reason() {
    let text = fs::read_to_string(root().join(GUIDE)).unwrap();
    let commands = commands(&Document::parse(GUIDE.into(), text));
    assert!(commands.len() > 30, "only {}", commands.len());
    let mut wrong = Vec::new();
    let (mut run, mut excused) = (BTreeSet::new(), BTreeSet::new());
    for path in files().unwrap().iter().filter(|path| path.starts_with("scripts")) {
        if !path.to_str().unwrap().starts_with("scripts/e2e") {
            continue;
        }
        let script = fs::read_to_string(root().join(path)).unwrap();
        let calls = ["guide ", "guide_command "].iter().flat_map(|word| arguments(&script, word));
        let exceptions = script.lines().filter_map(|line| line.strip_prefix("# not run: "));
        let exceptions = exceptions.map(|line| {
            let (command, reason) = line.split_once(": ").unwrap_or((line, ""));
            assert!(!reason.is_empty(), "no reason: {line}");
            command
        });
        for (beginning, is_run) in
            calls.map(|it| (it, true)).chain(exceptions.map(|it| (it, false)))
        {
            match taken(&commands, beginning) {
                Some(command) => {
                    let known = if is_run { &mut run } else { &mut excused };
                    known.insert(command.clone());
                }
                None => wrong.push(format!("{}: not in the guide: {beginning}", path.display())),
            }
        }
    }
    for command in &commands {
        match (run.contains(command), excused.contains(command)) {
            (false, false) => wrong.push(format!("no run executes: {command}")),
            (true, true) => wrong.push(format!("excused, but run: {command}")),
            _ => {}
        }
    }
    assert_none(&wrong);
}
