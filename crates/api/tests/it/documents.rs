//! Runs docs/api.md unchanged, to check that the server behaves as documented.

use std::process::Command;

use crate::{
    access::{GuardedShop, keys},
    server::BINARY,
};

const GUIDE: &str = include_str!("../../../../docs/api.md");

/// The separator between the outputs of two commands.
const MARK: &str = "==next==";

/// The commands of a document, and the status line that it shows for each.
fn shown(document: &str) -> Vec<(String, Option<String>)> {
    let mut commands: Vec<(String, Option<String>)> = Vec::new();
    for block in document.split("```console").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines().skip(1) {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push((command.to_owned(), None));
            } else if line.starts_with("HTTP/1.1") {
                commands.last_mut().unwrap().1 = Some(line.to_owned());
            } else {
                let command = &mut commands.last_mut().unwrap().0;
                command.push('\n');
                command.push_str(line);
            }
        }
    }
    commands
}

/// This server requires keys. The tests of the pages run the same calls without keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_the_guide_work_unchanged() {
    let shop = GuardedShop::start(&[]).await;
    let commands = shown(GUIDE);
    let calls = commands.iter().filter(|(_, status)| status.is_some()).count();
    assert_eq!(calls, 10);
    let mut script = Vec::new();
    for (command, _) in &commands {
        let command = command.replace("localhost:8000", &shop.server.api.address);
        // The file of `make run`. The server learns about a new key within its refresh interval.
        let command = if command.starts_with(". target/") { "true" } else { &command };
        let wait = if command.starts_with("export KEY") { "sleep 2" } else { "true" };
        script.push(format!("{command}\n{wait}; echo; echo {MARK}"));
    }
    let programs = std::path::Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-c", &script.join("\n")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("DATABASE_URL", &shop.server.database_url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers = said.split(MARK).map(str::trim_start);
    for ((call, expected), answer) in commands.iter().zip(answers) {
        if expected.is_some() {
            assert_eq!(answer.lines().next(), expected.as_deref(), "{call}\n{answer}");
        }
    }
    assert!(keys(&shop.server.database_url, &["list"]).1.contains("web shop"));
}

#[test]
fn each_test_that_the_pages_name_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let security = include_str!("../../../../docs/security.md");
    let reliability = include_str!("../../../../docs/reliability.md");
    let mut named = 0;
    let pages = [named_tests(security), named_tests(reliability)];
    for word in pages.iter().flat_map(|page| page.split('`').skip(1).step_by(2)) {
        let word = word.rsplit("::").next().unwrap_or(word);
        if word.starts_with("charts/") {
            assert!(root.join(word).exists(), "{word}");
        } else if word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            // A macro generates the tests of faults under load.
            let is_test = [format!("fn {word}("), format!("\n    {word}: ")];
            assert!(is_test.iter().any(|it| code.contains(it)), "there is no test {word}");
            named += 1;
        }
    }
    assert!(named >= 25, "{named}");
}

/// A page without the tables that contain no claims.
fn named_tests(page: &str) -> String {
    let (mut kept, mut in_table, mut shows) = (String::new(), false, true);
    for line in page.lines() {
        let row = line.starts_with('|');
        if row && !in_table {
            shows = line.contains("shown by") || line.trim_end().ends_with("| test |");
        }
        in_table = row;
        if shows || !row {
            // Of a row, only the column with the tests.
            let column = line.trim_end().trim_end_matches('|').rsplit('|').next();
            kept.push_str(if row { column.unwrap_or_default() } else { line });
            kept.push('\n');
        }
    }
    kept
}
