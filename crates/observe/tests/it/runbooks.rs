//! Each alert links to a runbook that is there and has all its parts.

use std::collections::BTreeSet;

use crate::{alerts, root, text};

/// Where the repository's files are to be read.
const HOME: &str = "https://github.com/holdfast/holdfast/blob/main/";
const PARTS: [&str; 4] = ["## Meaning", "## Impact", "## Look", "## Do"];

#[test]
fn each_alert_has_a_runbook_with_all_its_parts() {
    let mut linked = BTreeSet::new();
    for rule in alerts::rules() {
        let Some(alert) = rule.alert else { continue };
        let url = &rule.annotations["runbook_url"];
        let path = url.strip_prefix(HOME).unwrap_or_else(|| panic!("{alert}: {url}"));
        let runbook = text(path);
        assert!(runbook.starts_with(&format!("# {alert}\n")), "{path} is not about {alert}");
        let mut rest = runbook.as_str();
        for part in PARTS {
            let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{path}: no {part}"));
            let section = after.split("\n## ").next().unwrap_or_default().trim();
            assert!(section.len() > 60, "{path}: {part} says nothing");
            rest = after;
        }
        linked.insert(path.to_owned());
    }
    for entry in std::fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("docs/runbooks/{name}");
        assert!(linked.contains(&path) || name == "README.md", "no alert links to {path}");
    }
}
