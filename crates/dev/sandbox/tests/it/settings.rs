//! `docs/settings.md` is what the binaries say of themselves, and whatever names a setting names one
//! that exists.
//!
//! `WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it settings` writes the page anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use holdfast_sandbox::workspace_binary;

const PROGRAMS: [&str; 3] = ["holdfast-api", "holdfast-worker", "holdfast-operator"];
const HEAD: &str = "# Settings\n\n\
    <!-- Written by a test from what the binaries say of themselves; a change by hand is lost. -->\n\n\
    Each setting is a variable of the environment, or a flag, which wins. A variable that is set must be\n\
    right: a process that is given a wrong one does not start, and says which it is and what it may be. So does\n\
    a process that finds a variable whose name begins with `HOLDFAST_` and that no program reads.\n\
    `holdfast-api settings` and its sisters print the same of the version at hand.\n\n\
    | variable | flag | default | what | read by |\n|---|---|---|---|---|\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().to_owned()
}

/// By variable, what is said of it, and by which commands.
fn settings() -> BTreeMap<String, BTreeMap<[String; 3], BTreeSet<String>>> {
    let mut settings: BTreeMap<String, BTreeMap<[String; 3], BTreeSet<String>>> = BTreeMap::new();
    for program in PROGRAMS {
        let binary = workspace_binary(program).unwrap();
        let output = Command::new(binary).arg("settings").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut command = String::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some(name) = line.strip_prefix("### ") {
                name.clone_into(&mut command);
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<_> = row.trim_end_matches(" |").splitn(4, " | ").collect();
                let [variable, flag, default, what] = cells[..] else { panic!("{line}") };
                let said = [flag, default, what].map(ToOwned::to_owned);
                let by = settings.entry(variable.trim_end_matches('`').to_owned()).or_default();
                by.entry(said).or_default().insert(format!("`{command}`"));
            }
        }
    }
    settings
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (variable, said) in settings() {
        // One row each. What two programs say differently stands in it twice.
        let column = |at: usize| {
            let mut texts: Vec<&str> = said.keys().map(|cells| cells[at].as_str()).collect();
            texts.dedup();
            texts.join(" · ")
        };
        let by: Vec<String> =
            said.values().map(|by| by.iter().cloned().collect::<Vec<_>>().join(", ")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{variable}` | {} | {} | {} | {} |",
            column(0),
            column(1),
            column(2),
            by.join(" · ")
        );
    }
    page
}

#[test]
fn the_page_is_what_the_binaries_say() {
    let path = root().join("docs/settings.md");
    let page = page();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/settings.md is not fresh; type: WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it settings"
    );
}

#[test]
fn programs_and_chart_know_the_same_settings() {
    let names: Vec<String> = settings().into_keys().collect();
    let path = root().join("crates/telemetry/src/known_settings.txt");
    let known = names.join("\n") + "\n";
    let schema_path = root().join("charts/holdfast/values.schema.json");
    let schema = fs::read_to_string(&schema_path).unwrap();
    let (head, rest) = schema.split_once("\"propertyNames\": {\"enum\": [").unwrap();
    let (_, tail) = rest.split_once("]}").unwrap();
    let of_chart =
        names.iter().filter(|it| ["HOLDFAST_", "OTEL_"].iter().any(|at| it.starts_with(at)));
    let lines: Vec<_> = of_chart.map(|name| format!("\n        \"{name}\"")).collect();
    let made =
        format!("{head}\"propertyNames\": {{\"enum\": [{}\n      ]}}{tail}", lines.join(","));
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &known).unwrap();
        fs::write(&schema_path, &made).unwrap();
    }
    let how = "WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it settings";
    assert!(
        fs::read_to_string(&path).unwrap() == known,
        "{} is not fresh; type: {how}",
        path.display()
    );
    let schema = fs::read_to_string(&schema_path).unwrap();
    assert!(schema == made, "{} is not fresh; type: {how}", schema_path.display());
}

#[test]
fn a_misspelt_setting_stops_each_program() {
    for program in PROGRAMS {
        let told = |name: &str, value: &str| {
            let binary = workspace_binary(program).unwrap();
            let output = Command::new(binary).arg("settings").env(name, value).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, sentence) = told("HOLDFAST_MAX_QUANTTY", "1");
        assert_eq!(code, Some(2), "{program}: {sentence}");
        assert!(sentence.contains("HOLDFAST_MAX_QUANTTY"), "{program}: {sentence}");
        assert!(sentence.contains("HOLDFAST_MAX_QUANTITY"), "{program}: {sentence}");
        // What Kubernetes sets for the Service holdfast-api.
        let (code, sentence) = told("HOLDFAST_API_PORT", "tcp://10.96.0.7:80");
        assert_eq!(code, Some(0), "{program}: {sentence}");
    }
}

#[test]
fn a_log_filter_that_matches_nothing_stops_each_program() {
    for (program, command) in
        [("holdfast-api", "serve"), ("holdfast-worker", "run"), ("holdfast-operator", "run")]
    {
        let binary = workspace_binary(program).unwrap();
        let output = Command::new(binary)
            .arg(command)
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
            .env("REDIS_URL", "redis://127.0.0.1:1/0")
            .env("HOLDFAST_OPERATOR_NAMESPACE", "shop")
            .env("HOLDFAST_LOG", "debgu")
            .output()
            .unwrap();
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{program}: {sentence}");
        assert!(sentence.contains("HOLDFAST_LOG must be"), "{program}: {sentence}");
    }
}

/// All files below, but for what is no text of ours.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else if path.is_file() {
        found.push(path.to_owned());
    }
}

#[test]
fn whatever_names_a_setting_names_one_that_exists() {
    // What Kubernetes puts into pods by itself; and what the project's own scripts, tests and builds are
    // told, and no binary of the server.
    let is_service_link = |word: &str| {
        ["HOLDFAST_API_SERVICE_", "HOLDFAST_API_PORT", "HOLDFAST_API_NAME", "HOLDFAST_API_ENV_"]
            .iter()
            .any(|link| word.starts_with(link))
    };
    // Misspelt on purpose, to see that they are refused.
    let misspelt = [
        "HOLDFAST_HTTP_PORT",
        "HOLDFAST_LOGS",
        "HOLDFAST_MAX_QUANTTY",
        "HOLDFAST_SANDBOX_",
        "HOLDFAST_TYPO",
        "HOLDFAST_WORKER_CONCURENCY",
    ];
    let of_developers = [
        "HOLDFAST_CHART_TESTS",
        "HOLDFAST_COMMIT",
        "HOLDFAST_CONTRACT_TESTS",
        "HOLDFAST_DISK_TESTS",
        "HOLDFAST_GROWTH_ROWS",
        "HOLDFAST_KEY",
        "HOLDFAST_KUBERNETES_TESTS",
        "HOLDFAST_SANDBOX_DATA",
        "HOLDFAST_SANDBOX_DIR",
        "HOLDFAST_SANDBOX_FOLDER",
        "HOLDFAST_TEST_LOGS",
    ];
    let contributing = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    for variable in of_developers {
        assert!(contributing.contains(&format!("| `{variable}` |")), "{variable} stands nowhere");
    }
    let settings = settings();
    let mut named = BTreeSet::new();
    let places = [
        ".ci",
        ".env.example",
        ".github",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "Dockerfile",
        "Makefile",
        "README.md",
        "Tiltfile",
        "charts",
        "crates",
        "docker-compose.yml",
        "docs",
        "k8s",
        "scripts",
    ];
    for place in places {
        assert!(root().join(place).exists(), "{place} is gone");
        let mut found = Vec::new();
        files(&root().join(place), &mut found);
        for file in found {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let words =
                text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            for word in words.filter(|word| word.starts_with("HOLDFAST_") && word.len() > 9) {
                let known = settings.contains_key(word)
                    || is_service_link(word)
                    || misspelt.contains(&word)
                    || of_developers.contains(&word);
                assert!(known, "{}: there is no setting {word}", file.display());
                named.insert(word.to_owned());
            }
        }
    }
    // The other way round: each is documented, once.
    let page = fs::read_to_string(root().join("docs/settings.md")).unwrap();
    for variable in settings.keys() {
        let rows = page.matches(&format!("| `{variable}` |")).count();
        assert_eq!(rows, 1, "{variable}");
    }
    assert!(named.contains("HOLDFAST_HTTP_ADDR"), "{named:?}");
}
