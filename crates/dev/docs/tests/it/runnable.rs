//! Blocks that are marked as `console runnable` are run, page by page, on a stack like that of `make run`.
//!
//! A line that begins with `$ ` is a command; it continues over lines that end with a backslash or within a quote. The
//! lines after it, up to the next command, are the beginning of its output, where `…` matches any text.

use std::process::Stdio;
use std::time::Duration;

use holdfast_docs::Document;
use tokio::process::Command;

use crate::pages;
use crate::stack::{self, RunningStack};

const INFO: &str = "console runnable";
const LIMIT: Duration = Duration::from_mins(3);
/// The separator between the outputs of two commands.
const MARK: &str = "==next==";

/// A command with its expected output.
#[derive(Debug, PartialEq)]
struct RunnableStep {
    command: String,
    expected: Vec<String>,
}

fn steps(block: &str) -> Vec<RunnableStep> {
    let mut steps: Vec<RunnableStep> = Vec::new();
    let mut open = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(RunnableStep { command: command.to_owned(), expected: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            if open {
                step.command.push('\n');
                step.command.push_str(line);
            } else {
                step.expected.push(line.to_owned());
                continue;
            }
        }
        let command = steps.last().map_or("", |step| &step.command);
        let quotes = |quote: char| command.matches(quote).count() % 2 == 1;
        open = command.ends_with('\\') || quotes('\'') || (quotes('"') && !command.contains('\''));
    }
    steps
}

/// Whether a line matches the expected one, where `…` matches any text.
fn fits(line: &str, expected: &str) -> bool {
    let line = line.trim_end();
    let Some((first, rest)) = expected.split_once('…') else { return line == expected };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    for part in middle.split('…') {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(last)
}

async fn run(page: &Document, stack: &RunningStack) -> usize {
    let blocks = page.blocks.iter().filter(|block| block.info == INFO);
    let steps: Vec<RunnableStep> = blocks.flat_map(|block| steps(&block.text)).collect();
    let folder = stack::programs();
    // One shell for all commands, so that variables are kept.
    let run =
        |step: &RunnableStep| format!("{}\nstatus=$?; echo; echo {MARK}$status\n", step.command);
    let script: Vec<_> = steps.iter().map(run).collect();
    let script = script
        .concat()
        .replace("target/run/8000.env", &stack.environment)
        .replace("localhost:8000", &stack.api)
        .replace("localhost:9463", &stack.admin)
        .replace("127.0.0.1:9463", &stack.admin)
        .replace("localhost:9464", &stack.internal);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let folder_of_reader = tempfile::tempdir().unwrap();
    let shell = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder_of_reader.path())
        .env("PATH", path)
        .env("DATABASE_URL", &stack.database_url)
        .env("REDIS_URL", &stack.redis_url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, shell).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut answers = said.split(MARK);
    let mut answer = answers.next().unwrap_or_default();
    for step in &steps {
        let (status, next) = answers.next().unwrap().split_once('\n').unwrap_or(("", ""));
        let at = format!("{}: {}\n{answer}\n{errors}", page.path.display(), step.command);
        assert_eq!(status, "0", "{at}");
        let lines: Vec<&str> = answer.trim_start_matches('\n').lines().collect();
        for (number, expected) in step.expected.iter().enumerate() {
            let line = lines.get(number).copied().unwrap_or_default();
            assert!(fits(line, expected), "{at}\nexpected: {expected}");
        }
        answer = next;
    }
    steps.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn runnable_blocks_run_unchanged() {
    let mut seen = 0;
    for page in pages() {
        if page.blocks.iter().any(|block| block.info == INFO) {
            // Readers may begin with any page.
            let stack = RunningStack::start().await;
            seen += run(&page, &stack).await;
        }
    }
    assert!(seen >= 6, "only {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorials_run_one_after_the_other_on_one_stack() {
    let stack = RunningStack::start().await;
    for tutorial in ["docs/api.md", "docs/orders.md", "docs/flash-sale.md"] {
        let page = pages().into_iter().find(|page| page.path.ends_with(tutorial)).unwrap();
        assert!(run(&page, &stack).await >= 1, "{tutorial}");
    }
}

#[test]
fn steps_have_commands_and_outputs() {
    let block = "$ curl -s x -d '{\n    \"a\": 1}'\nHTTP/1.1 201 Created\n$ echo \\\n  a\n";
    let step = |command: &str, expected: &[&str]| RunnableStep {
        command: command.to_owned(),
        expected: expected.iter().map(|it| (*it).to_owned()).collect(),
    };
    let expected = [
        step("curl -s x -d '{\n    \"a\": 1}'", &["HTTP/1.1 201 Created"]),
        step("echo \\\n  a", &[]),
    ];
    assert_eq!(steps(block), expected);
    assert!(
        fits("{\"id\":1,\"at\":\"now\"}", "{\"id\":1,…}") && !fits("{\"id\":2}", "{\"id\":1,…}")
    );
}
