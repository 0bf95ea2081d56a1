//! The alerts: promtool accepts them, and each has a case that fires and one that does not.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

use crate::{root, text};

/// A rule of `alerts.yaml`.
#[derive(Clone, Debug, Deserialize)]
pub struct Rule {
    pub alert: Option<String>,
    pub record: Option<String>,
    pub expr: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct RulesFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Cases {
    tests: Vec<AlertCase>,
}

#[derive(Deserialize)]
struct AlertCase {
    alert_rule_test: Vec<ExpectedAlerts>,
}

#[derive(Deserialize)]
struct ExpectedAlerts {
    alertname: String,
    exp_alerts: Vec<serde_json::Value>,
}

pub const ALERTS: &str = "charts/holdfast/files/alerts.yaml";
const CASES: [&str; 3] = ["objectives", "orders", "queue"];

pub fn rules() -> Vec<Rule> {
    let rules: RulesFile = serde_saphyr::from_str(&text(ALERTS)).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn promtool(args: &[String]) {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(root())
        .output()
        .expect("promtool is not installed; type: scripts/install-deps observe");
    assert!(
        output.status.success(),
        "promtool {args:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn case_file(name: &str) -> String {
    format!("crates/dev/observe/tests/alerts/{name}.yaml")
}

#[test]
fn promtool_accepts_the_rules() {
    promtool(&["check", "rules", ALERTS].map(ToOwned::to_owned));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let mut args = vec!["test".to_owned(), "rules".to_owned()];
    args.extend(CASES.map(case_file));
    promtool(&args);
}

#[test]
fn each_alert_has_a_case_that_fires_and_one_that_does_not() {
    let mut cases: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for file in CASES {
        let Cases { tests } = serde_saphyr::from_str(&text(&case_file(file))).unwrap();
        for expected in tests.into_iter().flat_map(|case| case.alert_rule_test) {
            let fires = !expected.exp_alerts.is_empty();
            cases.entry(expected.alertname).or_default()[usize::from(fires)] = true;
        }
    }
    for alert in rules().into_iter().filter_map(|rule| rule.alert) {
        assert_eq!(cases.remove(&alert), Some([true, true]), "{alert}");
    }
    assert!(cases.is_empty(), "cases of no alert: {cases:?}");
}

#[test]
fn each_alert_has_a_severity_and_a_description() {
    for rule in rules().iter().filter(|rule| rule.alert.is_some()) {
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("critical" | "warning")), "{rule:?}");
        assert!(rule.annotations.get("summary").is_some_and(|it| it.ends_with('.')), "{rule:?}");
    }
}
