//! A real Prometheus scrapes real processes under a short load. Then the queries of every panel and every alert are
//! evaluated.

use std::collections::BTreeSet;

use holdfast_observe::dashboards;
use holdfast_sandbox::{Prometheus, until};
use serde_json::Value;

use crate::environment::ObserveEnvironment;
use crate::{alerts, load, moved};

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_every_alert_has_data() {
    let environment = ObserveEnvironment::open().await;
    let (_load, hot) = load::begin(&environment).await;
    load::lock_the_hot_product(&environment, hot).await;
    load::freeze_a_worker(&environment).await;
    load::confuse_the_receiver(&environment).await;
    load::lose_redis(&environment).await;
    load::crowd(&environment).await;

    let mut open = panels();
    open.extend(selectors_of_alerts());
    let asked = open.len();
    assert!(asked > 150, "only {asked} questions");
    let prometheus = &environment.prometheus;
    until("every query returns series", async || {
        let mut unanswered = BTreeSet::new();
        for (place, question) in std::mem::take(&mut open) {
            if !answered(prometheus, &place, &question).await {
                unanswered.insert((place, question));
            }
        }
        open = unanswered;
        if open.is_empty() { Ok(()) } else { Err(format!("of {asked} not {open:#?}")) }
    })
    .await;
    moved::check(prometheus).await;
    rules_are_healthy(prometheus).await;
    scrapes_are_cheap(prometheus).await;
}

/// The queries of all panels, as Grafana sends them if everything is selected.
fn panels() -> BTreeSet<(String, String)> {
    let mut questions = BTreeSet::new();
    for dashboard in dashboards::all() {
        for panel in dashboard.panels() {
            for (expression, _) in &panel.queries {
                let question = expression
                    .replace("$namespace", ".*")
                    .replace("$release", ".*")
                    .replace("$__rate_interval", "4m");
                let place = format!("{}, {}", dashboard.title, panel.title);
                for selector in selectors(&question) {
                    questions.insert((place.clone(), selector));
                }
                // Without values, a quantile is no number.
                if !moved::is_moved_elsewhere(&question) {
                    questions.insert((place, question));
                }
            }
        }
    }
    questions
}

/// The series that an alert compares must exist even if it does not fire. The windows of alerts are up to a month long,
/// so the series themselves are queried.
fn selectors_of_alerts() -> BTreeSet<(String, String)> {
    alerts::rules()
        .iter()
        .flat_map(|rule| {
            let place = rule.alert.clone().or(rule.record.clone()).unwrap();
            selectors(&rule.expr).into_iter().map(move |selector| (place.clone(), selector))
        })
        .collect()
}

/// The selectors of series in an expression.
fn selectors(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(begin) =
        ["holdfast_", "holdfast:", "process_", "kube_"].iter().filter_map(|it| rest.find(it)).min()
    {
        let from = &rest[begin..];
        let name_end = from.find(|c| !is_word(c)).unwrap_or(from.len());
        let end = match from[name_end..].strip_prefix('{') {
            Some(labels) => name_end + labels.find('}').unwrap() + 2,
            None => name_end,
        };
        // Not the name of a Deployment or the prefix of a metric within a label's value.
        found.insert(from[..end].to_owned());
        rest = &from[end..];
    }
    found
}

async fn answered(prometheus: &Prometheus, place: &str, question: &str) -> bool {
    // Only a firing alert has series with this name.
    if question.starts_with("ALERTS") {
        return true;
    }
    let series =
        prometheus.query(question).await.unwrap_or_else(|error| panic!("{place}: {error:#}"));
    series.iter().any(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

async fn rules_are_healthy(prometheus: &Prometheus) {
    let data = prometheus.api("rules").await.unwrap();
    let mut seen = 0;
    for rule in
        data["groups"].as_array().unwrap().iter().flat_map(|it| it["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule}");
        seen += 1;
    }
    assert_eq!(seen, alerts::rules().len());
}

/// A page should be rendered within two milliseconds. This is a debug build on a busy machine, and the time includes
/// the transfer to Prometheus, so the fastest of many scrapes is compared.
async fn scrapes_are_cheap(prometheus: &Prometheus) {
    let fastest = prometheus
        .query("min_over_time(scrape_duration_seconds{job=\"holdfast-api\"}[5m])")
        .await
        .unwrap();
    let seconds: f64 = value(&fastest[0]).parse().unwrap();
    assert!(seconds < 0.01, "{seconds}");
}

fn value(series: &Value) -> &str {
    series["value"][1].as_str().unwrap()
}
