//! SLO: the objectives, their budgets, and the alerts.

use crate::grafana::{Dashboard, Panel, Row, Unit};
use crate::promql::SCOPE;

/// The windows of the recorded ratios, as in `charts/holdfast/files/alerts.yaml`.
const WINDOWS: [(&str, &str); 5] = [
    ("5m", "5 minutes"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("6h", "6 hours"),
    ("3d", "3 days"),
];

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "slo",
        title: "SLO",
        description: "Of orders, 99.9 % are answered without an error of ours, and 99 % within 250 ms, over 30 days.",
        rows: vec![
            Row {
                title: "Now",
                panels: vec![
                    budget(
                        "Budget of errors, 3 days",
                        "What is left of the errors that the objective allows in three days. Below 0 it is spent.",
                        "holdfast:order_errors:ratio_rate3d",
                        0.001,
                    ),
                    budget(
                        "Budget of slow orders, 3 days",
                        "What is left of the slow orders that the objective allows in three days. Below 0 it is spent.",
                        "holdfast:order_slow:ratio_rate3d",
                        0.01,
                    ),
                    Panel::number(
                        "Alerts",
                        Unit::Count,
                        "Alerts of Holdfast that fire. Each has a runbook, which its annotation links to.",
                    )
                    .width(8)
                    .query(
                        format!(
                            "sum(ALERTS{{{SCOPE},alertname=~\"Holdfast.*\",alertstate=\"firing\"}}) or vector(0)"
                        ),
                        "firing",
                    )
                    .limits(1.0, 3.0),
                ],
            },
            Row {
                title: "How fast the budgets burn",
                panels: vec![
                    burn(
                        "Errors of ours: burn rate",
                        "1 spends the month's budget in a month; 14.4 for an hour, or 6 for six hours, wakes somebody.",
                        "holdfast:order_errors:ratio_rate",
                        0.001,
                    ),
                    burn(
                        "Slow orders: burn rate",
                        "1 spends the month's budget in a month; 14.4 for an hour, or 6 for six hours, wakes somebody.",
                        "holdfast:order_slow:ratio_rate",
                        0.01,
                    ),
                ],
            },
        ],
    }
}

fn budget(title: &'static str, description: &'static str, ratio: &str, allowed: f64) -> Panel {
    Panel::number(title, Unit::Ratio, description)
        .width(8)
        .query(format!("1 - max({ratio}{{{SCOPE}}}) / {allowed}"), "left")
        .floors(0.5, 0.1)
}

fn burn(title: &'static str, description: &'static str, ratio: &str, allowed: f64) -> Panel {
    WINDOWS.iter().fold(
        Panel::lines(title, Unit::Count, description).width(12).limits(6.0, 14.4),
        |panel, (window, legend)| {
            panel.query(format!("max({ratio}{window}{{{SCOPE}}}) / {allowed}"), legend)
        },
    )
}
