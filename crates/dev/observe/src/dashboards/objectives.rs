//! SLO: the objectives, their budgets, and the alerts.

use crate::grafana::{Dashboard, Panel, PanelRow, Unit};
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
        description: "Objectives over 30 days: 99.9 % of orders are answered without a server error, and 99 % within 250 ms.",
        rows: vec![
            PanelRow {
                title: "Now",
                panels: vec![
                    budget(
                        "Error budget, 3 days",
                        "The share of the errors allowed in three days that is left. Below 0, the budget is exceeded.",
                        "holdfast:order_errors:ratio_rate3d",
                        0.001,
                    ),
                    budget(
                        "Latency budget, 3 days",
                        "The share of the slow orders allowed in three days that is left. Below 0, the budget is exceeded.",
                        "holdfast:order_slow:ratio_rate3d",
                        0.01,
                    ),
                    Panel::number(
                        "Alerts",
                        Unit::Count,
                        "Firing alerts of Holdfast. The annotation of each links to its runbook.",
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
            PanelRow {
                title: "Burn rates",
                panels: vec![
                    burn(
                        "Server errors: burn rate",
                        "At 1, the monthly budget lasts a month. 14.4 for an hour, or 6 for six hours, is a critical alert.",
                        "holdfast:order_errors:ratio_rate",
                        0.001,
                    ),
                    burn(
                        "Slow orders: burn rate",
                        "At 1, the monthly budget lasts a month. 14.4 for an hour, or 6 for six hours, is a critical alert.",
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
