//! Each alert links to a runbook, which exists and has all sections.

use std::collections::BTreeSet;

use holdfast_observe::dashboards;

use crate::{alerts, exported, root, text};

/// The prefix of links to files in the repository.
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

/// The runbooks and the walk-through.
fn pages() -> Vec<(String, String)> {
    let names = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let mut paths: Vec<_> = names
        .map(|entry| format!("docs/runbooks/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    paths.push("docs/observability.md".to_owned());
    paths.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// Words in italics are the name of a dashboard, of a panel or of a line in a panel.
#[test]
fn panels_that_runbooks_mention_exist() {
    let mut known = BTreeSet::new();
    for dashboard in dashboards::all() {
        known.insert(dashboard.title.to_owned());
        for panel in dashboard.panels() {
            known.insert(panel.title.to_owned());
            // "3 lock, {{lane}} lane" is mentioned as "lock".
            known.extend(panel.queries.iter().map(|(_, legend)| {
                let words = legend.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
                words.split([',', '(']).next().unwrap_or_default().trim().to_owned()
            }));
        }
    }
    let mut seen = 0;
    for (path, page) in pages() {
        // Outside of code, asterisks only mark italics.
        let prose: String = page.split('`').step_by(2).collect();
        for pointed in prose.split('*').skip(1).step_by(2) {
            let pointed = pointed.split_whitespace().collect::<Vec<_>>().join(" ");
            // A title may be shortened: "Waits of an order".
            let found = known.iter().any(|name| name.starts_with(&pointed));
            assert!(pointed.is_empty() || found, "{path}: there is no *{pointed}*");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen}");
}

#[test]
fn the_pages_name_only_metrics_that_are_exported() {
    let exported = exported::names();
    let of_the_hpa = ["holdfast_queue_depth"];
    for (path, page) in pages() {
        for name in exported::names_in(&page) {
            if name.starts_with("holdfast_") && !of_the_hpa.contains(&name.as_str()) {
                assert!(exported.contains(&name), "{path}: nobody exports {name}");
            }
        }
    }
}
