//! Commands and flags of the programs, and targets of the Makefile, in the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;

use holdfast_docs::{documents, root};
use holdfast_sandbox::workspace_binary;

use crate::assert_none;

const PROGRAMS: [&str; 6] = [
    "holdfast-api",
    "holdfast-worker",
    "holdfast-operator",
    "holdfast-bench",
    "holdfast-chaos",
    "holdfast-sandbox",
];

/// The contents of `--help`.
#[derive(Clone, Default)]
struct Help {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

impl Help {
    fn of(command: &[&str]) -> Self {
        static KNOWN: Mutex<BTreeMap<String, Help>> = Mutex::new(BTreeMap::new());
        let name = command.join(" ");
        if let Some(help) = KNOWN.lock().unwrap().get(&name) {
            return help.clone();
        }
        let binary = workspace_binary(command[0]).unwrap();
        let output = Command::new(binary).args(&command[1..]).arg("--help").output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut help = Self::default();
        let mut in_commands = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                in_commands = line == "Commands:";
            } else if in_commands && line.starts_with("  ") && !line.starts_with("   ") {
                help.commands.extend(line.split_whitespace().next().map(ToOwned::to_owned));
            }
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            let flags = words.filter_map(|word| word.strip_prefix("--"));
            help.flags.extend(flags.filter(|it| !it.is_empty()).map(ToOwned::to_owned));
        }
        KNOWN.lock().unwrap().insert(name, help.clone());
        help
    }
}

/// The flags of all commands of all programs, without their dashes.
pub fn all_flags() -> BTreeSet<String> {
    fn add(command: &[&str], flags: &mut BTreeSet<String>) {
        let help = Help::of(command);
        flags.extend(help.flags);
        for name in help.commands.iter().filter(|name| *name != "help") {
            add(&[command, &[name.as_str()]].concat(), flags);
        }
    }
    let mut flags = BTreeSet::new();
    for program in PROGRAMS {
        add(&[program], &mut flags);
    }
    flags
}

/// The words of each call of a program in a line: the program and its arguments.
fn calls(line: &str) -> Vec<Vec<&str>> {
    let mut calls = Vec::new();
    for part in line.split(['|', ';', '&', '(', ')', '#']) {
        let words: Vec<&str> = part.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let before = at.checked_sub(1).map_or("", |before| words[before]);
            let name = word.rsplit('/').next().unwrap_or(word);
            // Not the name of a package or of a Kubernetes object.
            let package = ["-p", "--package", "--bin", "--image", "-n"].contains(&before);
            let object =
                word.contains('/') && !word.starts_with(['/', '.']) && !word.starts_with("target/");
            if let Some(program) = PROGRAMS.iter().find(|it| **it == name)
                && !package
                && !object
            {
                calls.push([&[*program], &words[at + 1..]].concat());
                break;
            }
        }
    }
    calls
}

/// The error in a call.
fn fault(call: &[&str]) -> Option<String> {
    let mut command = vec![call[0]];
    let mut flags = Help::of(&command).flags;
    for word in &call[1..] {
        let word = word.trim_matches(|c| "`'\",.".contains(c));
        let help = Help::of(&command);
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split('=').next().unwrap();
            if !name.is_empty() && !flags.contains(name) {
                return Some(format!("`{}` has no flag --{name}", command.join(" ")));
            }
        } else if help.commands.contains(word) {
            command.push(word);
            flags.extend(Help::of(&command).flags);
        } else if !help.commands.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            && word.len() > 1
        {
            return Some(format!("`{}` has no command {word}", command.join(" ")));
        }
    }
    None
}

#[test]
fn each_command_and_flag_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        for line in document.code() {
            for call in calls(line) {
                seen += 1;
                wrong.extend(
                    fault(&call).map(|it| format!("{}: {it}: {line}", document.path.display())),
                );
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 60, "only {seen}");
}

#[test]
fn each_make_target_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        for line in document.code() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == "make") {
                let rest = words[at + 1..].iter();
                let mut rest =
                    rest.skip_while(|word| word.contains(['=', '#']) || word.starts_with('-'));
                let rest = rest.next();
                let Some(target) = rest.map(|it| it.trim_matches(|c| "`'\",.;".contains(c))) else {
                    continue;
                };
                seen += 1;
                if !targets.contains(target) {
                    wrong.push(format!("{}: there is no `make {target}`", document.path.display()));
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(seen > 30, "only {seen}");
}

/// With another selection of packages, dependencies have other features, so Cargo would compile them again for minutes.
#[test]
fn the_make_targets_that_start_programs_share_one_build() {
    let mut selections = BTreeMap::new();
    for target in ["run", "demo", "bench", "chaos"] {
        let mut make = Command::new("make");
        // As Cargo and an outer make set them.
        let make = make
            .args(["-n", target])
            .current_dir(root())
            .env_remove("CARGO")
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        let script = String::from_utf8(make.stdout).unwrap();
        assert!(!script.contains("cargo run"), "{target}: {script}");
        let build = script.lines().find(|line| line.starts_with("cargo build")).expect(&script);
        let words: Vec<_> = build.split_whitespace().collect();
        let packages = words.windows(2).filter(|pair| pair[0] == "--package");
        let packages: BTreeSet<_> = packages.map(|pair| pair[1].to_owned()).collect();
        assert!(packages.contains("holdfast-api") && words.contains(&"--release"), "{build}");
        selections.insert(target, packages);
    }
    let first = &selections["run"];
    assert!(selections.values().all(|packages| packages == first), "{selections:?}");
}

#[test]
fn a_wrong_command_is_detected() {
    assert_eq!(fault(&["holdfast-api", "serve", "--http-addr=127.0.0.1:0"]), None);
    assert!(fault(&["holdfast-api", "sreve"]).is_some());
    assert!(fault(&["holdfast-api", "serve", "--no-such-flag"]).is_some());
    assert_eq!(calls("kubectl exec deployment/holdfast-api -- /holdfast-api keys list").len(), 1);
    assert_eq!(calls("cargo test -p holdfast-api --test it"), Vec::<Vec<&str>>::new());
}
