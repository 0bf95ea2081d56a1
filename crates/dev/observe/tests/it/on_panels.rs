//! Each exported metric is on a panel or is listed here with a reason, and panels and alerts use only exported metrics.

use std::collections::BTreeSet;

use holdfast_observe::dashboards;

use crate::{alerts, exported};

/// Metrics that are on no panel, with the reason.
const ON_NO_PANEL: &[(&str, &str)] =
    &[("process_virtual_memory_bytes", "reserved address space does not show memory use")];

/// Metrics of other programs.
const OF_OTHERS: &[&str] = &[
    "kube_horizontalpodautoscaler_status_desired_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
];

#[test]
fn each_metric_is_on_a_panel_or_has_a_reason() {
    let on_panels: BTreeSet<_> = dashboards::all()
        .iter()
        .flat_map(|dashboard| dashboard.panels().flat_map(|panel| panel.queries.clone()))
        .flat_map(|(expression, _)| exported::names_in(&expression))
        .collect();
    let exported = exported::names();
    for name in &exported {
        let reason = ON_NO_PANEL.iter().any(|(excepted, _)| excepted == name);
        assert_ne!(
            reason,
            on_panels.contains(name),
            "{name} must be on a panel or have a reason, not both"
        );
    }
    for (name, _) in ON_NO_PANEL {
        assert!(exported.contains(*name), "{name} is not exported any more");
    }
}

#[test]
fn panels_and_alerts_name_only_what_is_exported() {
    let rules = alerts::rules();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule.record.clone()).collect();
    let panels: Vec<_> = dashboards::all()
        .iter()
        .flat_map(|dashboard| dashboard.panels().flat_map(|panel| panel.queries.clone()))
        .map(|(expression, _)| expression)
        .collect();
    let exported = exported::names();
    for expression in panels.iter().chain(rules.iter().map(|rule| &rule.expr)) {
        for name in exported::names_in(expression) {
            let ours = ["holdfast_", "holdfast:", "process_", "kube_"];
            if ours.iter().any(|begin| name.starts_with(begin)) && name != "holdfast_worker" {
                let known = exported.contains(&name)
                    || recorded.contains(&name)
                    || OF_OTHERS.contains(&name.as_str());
                assert!(known, "nobody exports {name}: {expression}");
            }
        }
    }
}
