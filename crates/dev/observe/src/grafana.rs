//! Grafana's dashboard JSON, generated from a short description.
//!
//! It contains only fields of the documented JSON model of Grafana 10 (`schemaVersion` 38). Later versions of Grafana
//! convert such a dashboard when they load it.

use serde_json::{Value, json};

/// The JSON model of Grafana 10.0.
const SCHEMA_VERSION: u32 = 38;
/// The number of columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// The variable with the Prometheus data source.
const DATASOURCE: &str = "${datasource}";

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, shown as µs, ms or s.
    Seconds,
    Count,
    /// A count per second.
    PerSecond,
    RequestsPerSecond,
    /// 0 to 1, shown as 0 to 100 %.
    Ratio,
    /// Bytes, in powers of 1,024.
    Bytes,
    /// CPUs in use.
    Cpus,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Count | Self::Cpus => "short",
            Self::PerSecond => "cps",
            Self::RequestsPerSecond => "reqps",
            Self::Ratio => "percentunit",
            Self::Bytes => "bytes",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its name in URLs, and the name of its file.
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// Its rows, from top to bottom.
    pub rows: Vec<PanelRow>,
}

/// Panels under a heading.
#[derive(Clone, Debug)]
pub struct PanelRow {
    /// The heading.
    pub title: &'static str,
    /// The panels, from left to right. Those that do not fit continue below.
    pub panels: Vec<Panel>,
}

/// How a panel shows its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PanelKind {
    /// Lines over time.
    Lines,
    /// Stacked areas over time.
    Areas,
    /// Lines over time on a logarithmic scale, for values between microseconds and minutes.
    Decades,
    /// The current value, in large digits.
    Number,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub title: &'static str,
    /// What it shows, and how to interpret it.
    pub description: &'static str,
    /// `PromQL`, and the name of each line in the legend.
    pub queries: Vec<(String, &'static str)>,
    kind: PanelKind,
    unit: Unit,
    width: u32,
    warn: Option<Threshold>,
    bad: Option<Threshold>,
    traces: bool,
}

/// The thresholds from which a value is coloured.
#[derive(Clone, Copy, Debug)]
enum Threshold {
    Above(f64),
    Below(f64),
}

impl Panel {
    /// Lines over time.
    pub fn lines(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(PanelKind::Lines, title, unit, description)
    }

    /// Stacked areas over time.
    pub fn areas(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(PanelKind::Areas, title, unit, description)
    }

    /// Lines over time on a logarithmic scale.
    pub fn decades(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(PanelKind::Decades, title, unit, description)
    }

    /// The current value, in large digits.
    pub fn number(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self { width: 4, ..Self::new(PanelKind::Number, title, unit, description) }
    }

    fn new(kind: PanelKind, title: &'static str, unit: Unit, description: &'static str) -> Self {
        let (queries, warn, bad) = (Vec::new(), None, None);
        Self { title, description, queries, kind, unit, width: 8, warn, bad, traces: false }
    }

    /// Adds a query. Its legend may use labels, such as `{{route}}`.
    pub fn query(mut self, expression: impl Into<String>, legend: &'static str) -> Self {
        self.queries.push((expression.into(), legend));
        self
    }

    /// Sets the width (1 to 24).
    pub fn width(mut self, columns: u32) -> Self {
        self.width = columns.clamp(1, COLUMNS);
        self
    }

    /// Colours values orange from the first threshold, and red from the second.
    pub fn limits(mut self, warn: f64, bad: f64) -> Self {
        (self.warn, self.bad) = (Some(Threshold::Above(warn)), Some(Threshold::Above(bad)));
        self
    }

    /// Colours values orange below the first threshold, and red below the second.
    pub fn floors(mut self, warn: f64, bad: f64) -> Self {
        (self.warn, self.bad) = (Some(Threshold::Below(warn)), Some(Threshold::Below(bad)));
        self
    }

    /// Links its points to the traces of that time.
    pub fn with_traces(mut self) -> Self {
        self.traces = true;
        self
    }

    fn steps(&self) -> Value {
        let step = |colour: &str, value: Option<f64>| json!({ "color": colour, "value": value });
        match (self.warn, self.bad) {
            (Some(Threshold::Above(warn)), Some(Threshold::Above(bad))) => {
                json!([step("green", None), step("orange", Some(warn)), step("red", Some(bad))])
            }
            (Some(Threshold::Below(warn)), Some(Threshold::Below(bad))) => {
                json!([step("red", None), step("orange", Some(bad)), step("green", Some(warn))])
            }
            _ => json!([step("green", None)]),
        }
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let targets: Vec<_> = self
            .queries
            .iter()
            .zip('A'..='Z')
            .map(|((expression, legend), letter)| {
                json!({
                    "refId": letter.to_string(),
                    "datasource": prometheus(),
                    "expr": expression,
                    "legendFormat": legend,
                    "range": true,
                    "instant": false,
                })
            })
            .collect();
        let links = if self.traces { json!([trace_link()]) } else { json!([]) };
        json!({
            "id": id,
            "type": if self.kind == PanelKind::Number { "stat" } else { "timeseries" },
            "title": self.title,
            "description": self.description,
            "datasource": prometheus(),
            "gridPos": { "h": self.height(), "w": self.width, "x": x, "y": y },
            "targets": targets,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit.name(),
                    "min": if self.kind == PanelKind::Decades { Value::Null } else { json!(0) },
                    "color": {
                        "mode": if self.kind == PanelKind::Number { "thresholds" } else { "palette-classic" },
                    },
                    "thresholds": { "mode": "absolute", "steps": self.steps() },
                    "links": links,
                    "custom": self.custom(),
                },
                "overrides": [],
            },
            "options": self.options(),
        })
    }

    fn height(&self) -> u32 {
        if self.kind == PanelKind::Number { 4 } else { 8 }
    }

    fn custom(&self) -> Value {
        if self.kind == PanelKind::Number {
            return json!({});
        }
        let areas = self.kind == PanelKind::Areas;
        let scale = match self.kind {
            PanelKind::Decades => json!({ "type": "log", "log": 10 }),
            _ => json!({ "type": "linear" }),
        };
        json!({
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": if areas { 40 } else { 5 },
            "showPoints": "never",
            "spanNulls": false,
            "stacking": { "group": "A", "mode": if areas { "normal" } else { "none" } },
            "scaleDistribution": scale,
            "thresholdsStyle": { "mode": if self.bad.is_some() { "dashed" } else { "off" } },
        })
    }

    fn options(&self) -> Value {
        if self.kind == PanelKind::Number {
            return json!({
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "auto",
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            });
        }
        json!({
            "legend": {
                "displayMode": "table", "placement": "bottom", "showLegend": true,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": { "mode": "multi", "sort": "desc" },
        })
    }
}

impl Dashboard {
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// The JSON of the file.
    pub fn json(&self) -> Value {
        let mut panels = Vec::new();
        let (mut id, mut y) = (0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                id += 1;
                panels.push(panel.json(id, x, y));
                x += panel.width;
                tallest = tallest.max(panel.height());
            }
            y += tallest;
        }
        json!({
            "uid": format!("holdfast-{}", self.uid),
            "title": format!("Holdfast / {}", self.title),
            "description": self.description,
            "tags": ["holdfast"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "5s",
            "time": { "from": "now-15m", "to": "now" },
            "templating": { "list": variables() },
            "annotations": { "list": [firing_alerts()] },
            "links": [{
                "type": "dashboards", "title": "Holdfast", "tags": ["holdfast"], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
                "tooltip": "", "url": "",
            }],
            "panels": panels,
        })
    }
}

fn prometheus() -> Value {
    json!({ "type": "prometheus", "uid": DATASOURCE })
}

fn variables() -> Value {
    let datasource = |name: &str, label: &str, kind: &str| {
        json!({
            "type": "datasource", "name": name, "label": label, "query": kind, "regex": "",
            "hide": 0, "refresh": 1, "multi": false, "includeAll": false, "options": [],
            "current": {}, "skipUrlSync": false,
        })
    };
    let label = |name: &str, label: &str, query: &str| {
        json!({
            "type": "query", "name": name, "label": label, "datasource": prometheus(),
            "definition": query, "query": { "query": query, "refId": name }, "regex": "",
            "hide": 0, "refresh": 2, "sort": 1, "multi": true, "includeAll": true,
            // Also matches series without this label.
            "allValue": ".*",
            "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
            "options": [], "skipUrlSync": false,
        })
    };
    json!([
        datasource("datasource", "Prometheus", "prometheus"),
        label("namespace", "Namespace", "label_values(holdfast_build_info, namespace)"),
        label(
            "release",
            "Release",
            "label_values(holdfast_build_info{namespace=~\"$namespace\"}, release)"
        ),
        datasource("traces", "Traces", "jaeger"),
    ])
}

/// Marks the time of a firing alert on every panel.
fn firing_alerts() -> Value {
    json!({
        "name": "Alerts", "datasource": prometheus(), "enable": true, "hide": false,
        "iconColor": "red", "step": "15s", "titleFormat": "{{alertname}}",
        "textFormat": "{{release}}",
        "expr": "ALERTS{alertname=~\"Holdfast.*\",alertstate=\"firing\"}",
    })
}

/// Links a point of a panel to the slow orders at that time. The crate `prometheus` has no exemplars, so the link uses
/// the time and the duration instead of a trace id.
fn trace_link() -> Value {
    const PANES: &str = "{\"a\":{\"datasource\":\"${traces}\",\"queries\":[{\"refId\":\"A\",\
        \"queryType\":\"search\",\"service\":\"holdfast-api\",\"minDuration\":\"100ms\"}],\
        \"range\":{\"from\":\"${__from}\",\"to\":\"${__to}\"}}}";
    json!({
        "title": "Slow traces of this time",
        "url": format!("/explore?schemaVersion=1&panes={PANES}"),
        "targetBlank": true,
    })
}
