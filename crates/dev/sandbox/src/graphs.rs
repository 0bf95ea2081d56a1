//! The panels of the dashboards as a page that Prometheus serves itself, for use without Grafana.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// The name of the page; Prometheus serves it below `/consoles/`.
pub(crate) const PAGE: &str = "graphs.html";
const TEMPLATE: &str = include_str!("graphs.html");
/// Four scrape intervals, as in Grafana.
const RATE_INTERVAL: &str = "15s";

/// The page of the dashboards in a folder.
pub(crate) fn page(dashboards: &Path) -> anyhow::Result<String> {
    let mut files: Vec<_> = std::fs::read_dir(dashboards)
        .with_context(|| format!("{} is not there", dashboards.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut panels = Vec::new();
    for file in files {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)
            .with_context(|| file.display().to_string())?;
        let of_dashboard = dashboard["panels"].as_array().into_iter().flatten();
        panels.extend(of_dashboard.filter_map(|panel| shown(&dashboard["title"], panel)));
    }
    // `<` could end the script.
    let panels = Value::from(panels).to_string().replace('<', "\\u003c");
    Ok(TEMPLATE.replace("/*PANELS*/", &panels))
}

fn shown(dashboard: &Value, panel: &Value) -> Option<Value> {
    let targets: Vec<Value> = panel["targets"]
        .as_array()?
        .iter()
        .filter_map(|target| {
            let expression = target["expr"]
                .as_str()?
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$namespace", ".*")
                .replace("$release", ".*");
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            // Prometheus would read double braces as a template.
            Some(json!([expression, legend.replace("{{", "[[").replace("}}", "]]")]))
        })
        .collect();
    Some(json!({
        "dashboard": dashboard,
        "title": panel["title"],
        "unit": panel["fieldConfig"]["defaults"]["unit"],
        "targets": targets,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_of_the_dashboards_is_on_the_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let page = page(&root.join("charts/holdfast/dashboards")).unwrap();
        assert!(page.matches("\"targets\"").count() > 60, "{}", page.len());
        assert!(!page.contains("{{") && !page.contains("$__") && !page.contains("$release"));
    }
}
