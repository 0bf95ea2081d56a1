//! A private Prometheus server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::folder::Keep;
use crate::http::http_get;
use crate::port::Port;
use crate::process::{Process, ProcessOptions, Ready};
use crate::programs;

/// On a slow disk, opening the storage takes a second.
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The folder of the pages that it serves.
const PAGES: &str = "pages";
const CONFIGURATION: &str = "prometheus.yml";

/// A scrape configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// The label `job`.
    pub job: String,
    /// The addresses, as `host:port`.
    pub targets: Vec<String>,
    /// The path of the page, `/metrics` by default.
    pub path: String,
    /// Labels of every series, like those that the chart's monitors add.
    pub labels: Vec<(String, String)>,
    /// Whether labels of the page override these.
    pub honor_labels: bool,
}

impl Scrape {
    /// One target, without labels.
    pub fn new(job: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            targets: vec![target.into()],
            path: "/metrics".to_owned(),
            labels: Vec::new(),
            honor_labels: false,
        }
    }

    /// Sets the path of the page.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Lets labels of the page override those of the configuration.
    pub fn honor_labels(mut self) -> Self {
        self.honor_labels = true;
        self
    }

    /// Adds a label.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

/// The options of a Prometheus server.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// What it scrapes.
    pub scrapes: Vec<Scrape>,
    /// Rule files.
    pub rules: Vec<PathBuf>,
    /// The interval of scrapes and of rule evaluations.
    pub interval: Duration,
    /// The port on 127.0.0.1; any free one if `None`.
    pub port: Option<u16>,
    /// Pages that it serves below `/consoles/`, by name.
    pub pages: Vec<(String, String)>,
    /// The folder of its data.
    pub keep: Keep,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            scrapes: Vec::new(),
            rules: Vec::new(),
            interval: Duration::from_secs(5),
            port: None,
            pages: Vec::new(),
            keep: Keep::Nothing,
        }
    }
}

/// A running Prometheus on 127.0.0.1. Dropping it kills it and removes its folder, unless it is kept.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    url: String,
    /// Held for its drop, which releases the port.
    _port: Option<Port>,
}

impl Prometheus {
    /// Whether Prometheus is installed.
    pub fn is_installed() -> bool {
        programs::prometheus().is_ok()
    }

    /// Starts it. Returns when it answers queries.
    ///
    /// # Errors
    /// Prometheus is not installed (the error says what to install), or does not start within 30 seconds (the error
    /// contains the end of its log), for example because a rule is invalid.
    pub async fn start(options: PrometheusOptions) -> anyhow::Result<Self> {
        let program = programs::prometheus()?;
        let lease = if options.port.is_none() { Some(Port::lease()?) } else { None };
        let number = options.port.or(lease.as_ref().map(Port::number)).context("no port")?;
        let address = format!("127.0.0.1:{number}");
        let url = format!("http://{address}");
        let pages =
            options.pages.iter().map(|(name, text)| (format!("{PAGES}/{name}"), text.clone()));
        let mut process = ProcessOptions {
            keep: options.keep.clone(),
            ..ProcessOptions::new(program)
                .file(CONFIGURATION, configure(&options)?)
                .arg(format!("--config.file={CONFIGURATION}"))
                .arg(format!("--web.listen-address={address}"))
                // Relative to its folder.
                .arg("--storage.tsdb.path=data")
                .arg("--storage.tsdb.retention.time=2d")
                .ready(Ready::Http(format!("{url}/-/ready")))
                .limit(START_LIMIT)
        };
        process.files.extend(pages);
        process.args.push(format!("--web.console.templates={PAGES}"));
        let process = Process::start(process).await.context("Prometheus does not start")?;
        Ok(Self { process, url, _port: lease })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its log.
    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    /// Sends a query to its HTTP API (`query?query=up`, `targets`, `rules`). Returns the field `data`.
    ///
    /// # Errors
    /// It does not answer, or refuses the query; the error has the reason.
    pub async fn api(&self, question: &str) -> anyhow::Result<Value> {
        let answer = http_get(&format!("{}/api/v1/{question}", self.url)).await?.json()?;
        if answer["status"] != "success" {
            bail!("{}: {}", answer["errorType"], answer["error"]);
        }
        Ok(answer["data"].clone())
    }

    /// The current series of an expression; empty if there are none.
    ///
    /// # Errors
    /// The expression is invalid, or Prometheus does not answer.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let url = reqwest::Url::parse_with_params(
            &format!("{}/api/v1/query", self.url),
            [("query", expression)],
        )?;
        let question = format!("query?{}", url.query().unwrap_or_default());
        let data = self.api(&question).await.with_context(|| expression.to_owned())?;
        match &data["result"] {
            Value::Array(series) => Ok(series.clone()),
            other => bail!("{expression}: not a list: {other}"),
        }
    }

    /// Sends SIGTERM, and SIGKILL if it does not end in time.
    ///
    /// # Errors
    /// It does not end.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.process.stop(STOP_LIMIT).await.map(drop)
    }
}

/// The configuration, as JSON, which is valid YAML.
fn configure(options: &PrometheusOptions) -> anyhow::Result<String> {
    let interval = format!("{}ms", options.interval.as_millis());
    let scrapes: Vec<_> = options
        .scrapes
        .iter()
        .map(|scrape| {
            let labels: serde_json::Map<_, _> = scrape
                .labels
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
            serde_json::json!({
                "job_name": scrape.job,
                "metrics_path": scrape.path,
                "honor_labels": scrape.honor_labels,
                "static_configs": [{ "targets": scrape.targets, "labels": labels }],
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&serde_json::json!({
        "global": {
            "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval,
        },
        "rule_files": options.rules,
        "scrape_configs": scrapes,
    }))?)
}
