//! The dashboards contain only fields of Grafana's documented JSON model, and all that are required.
//!
//! <https://grafana.com/docs/grafana/v10.0/dashboards/build-dashboards/view-dashboard-json-model/>;
//! the fields of panels are those that Grafana 10 to 12 write for `timeseries`, `stat` and `row`.

use std::collections::BTreeSet;

use holdfast_observe::dashboards;
use serde_json::Value;

const DASHBOARD: &[&str] = &[
    "uid",
    "title",
    "description",
    "tags",
    "schemaVersion",
    "version",
    "editable",
    "graphTooltip",
    "timezone",
    "refresh",
    "time",
    "templating",
    "annotations",
    "links",
    "panels",
];
const ROW: &[&str] = &["id", "type", "title", "collapsed", "panels", "gridPos"];
const PANEL: &[&str] = &[
    "id",
    "type",
    "title",
    "description",
    "datasource",
    "gridPos",
    "targets",
    "fieldConfig",
    "options",
];
const TARGET: &[&str] = &["refId", "datasource", "expr", "legendFormat", "range", "instant"];
const UNITS: &[&str] = &["s", "short", "cps", "reqps", "percentunit", "bytes"];

fn has_exactly(object: &Value, fields: &[&str], where_: &str) {
    let there: BTreeSet<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(there, fields.iter().copied().collect(), "{where_}");
}

#[test]
fn each_dashboard_matches_grafanas_model() {
    for dashboard in dashboards::all() {
        let json = dashboard.json();
        has_exactly(&json, DASHBOARD, dashboard.uid);
        let schema = json["schemaVersion"].as_u64().unwrap();
        assert!(schema <= 38, "Grafana 10 reads up to 38, not {schema}");
        for variable in ["datasource", "namespace", "release"] {
            let list = json["templating"]["list"].as_array().unwrap();
            assert!(list.iter().any(|it| it["name"] == variable), "{}: {variable}", dashboard.uid);
        }
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in json["panels"].as_array().unwrap() {
            let place = format!("{}: {}", dashboard.uid, panel["title"]);
            assert!(ids.insert(panel["id"].as_u64()), "{place}: another panel has its id");
            for cell in cells(&panel["gridPos"]) {
                assert!(cell.0 < 24, "{place} is too wide");
                assert!(taken.insert(cell), "{place} overlaps another");
            }
            if panel["type"] == "row" {
                has_exactly(panel, ROW, &place);
            } else {
                check_panel(panel, &place);
            }
        }
    }
}

fn check_panel(panel: &Value, place: &str) {
    has_exactly(panel, PANEL, place);
    assert!(["timeseries", "stat"].contains(&panel["type"].as_str().unwrap()), "{place}");
    assert!(panel["description"].as_str().unwrap().len() > 15, "{place} has no description");
    let defaults = &panel["fieldConfig"]["defaults"];
    assert!(UNITS.contains(&defaults["unit"].as_str().unwrap()), "{place}: {defaults}");
    let steps = defaults["thresholds"]["steps"].as_array().unwrap();
    assert!(steps[0]["value"].is_null(), "{place}: the first threshold must have no value");
    let values: Vec<_> = steps[1..].iter().map(|step| step["value"].as_f64().unwrap()).collect();
    assert!(values.is_sorted(), "{place}: {values:?}");
    let targets = panel["targets"].as_array().unwrap();
    assert!(!targets.is_empty(), "{place} has no query");
    for target in targets {
        has_exactly(target, TARGET, place);
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{place}");
        let expression = target["expr"].as_str().unwrap();
        assert!(expression.contains("$namespace"), "{place}: does not select the namespace");
    }
}

fn cells(place: &Value) -> Vec<(u64, u64)> {
    let [h, w, x, y] = ["h", "w", "x", "y"].map(|name| place[name].as_u64().unwrap());
    (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))).collect()
}
