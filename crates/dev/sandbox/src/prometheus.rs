//! A private Prometheus: start, and ask it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::folder::Keep;
use crate::http::http_get;
use crate::port::Port;
use crate::process::{Process, ProcessOptions, Ready};
use crate::programs;

/// Opening its storage takes a second on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The folder of the pages that it serves.
const PAGES: &str = "pages";
const CONFIGURATION: &str = "prometheus.yml";

/// What is scraped under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// The label `job`.
    pub job: String,
    /// Where `/metrics` is, as `host:port`.
    pub targets: Vec<String>,
    /// The path of the page, `/metrics` by default.
    pub path: String,
    /// Labels that every series gets, as those that a chart's monitor adds.
    pub labels: Vec<(String, String)>,
    /// Whether the page's own labels win over these.
    pub honor_labels: bool,
}

impl Scrape {
    /// One target without further labels.
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

    /// Lets the page's own labels win.
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

/// How a Prometheus is to be run.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// What it scrapes.
    pub scrapes: Vec<Scrape>,
    /// Files of rules.
    pub rules: Vec<PathBuf>,
    /// Between two scrapes, and between two evaluations of the rules.
    pub interval: Duration,
    /// The port on 127.0.0.1; any free one if `None`.
    pub port: Option<u16>,
    /// Pages that it serves below `/consoles/`, by name.
    pub pages: Vec<(String, String)>,
    /// Where its data goes.
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

/// A running Prometheus on 127.0.0.1 only. Dropping it kills it and removes its folder (unless
/// kept).
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    url: String,
    /// Held, not read: a port of the lease stays ours.
    _port: Option<Port>,
}

impl Prometheus {
    /// Whether the program is there.
    pub fn is_installed() -> bool {
        programs::prometheus().is_ok()
    }

    /// Starts it and returns when it answers questions.
    ///
    /// # Errors
    /// When Prometheus is not installed (the error says what to type), or does not start within 30
    /// seconds (the error ends with its log), such as with rules that are wrong.
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

    /// Asks its HTTP API (`query?query=up`, `targets`, `rules`); returns what is in `data`.
    ///
    /// # Errors
    /// When it does not answer, or refuses the question; the error says why it does.
    pub async fn api(&self, question: &str) -> anyhow::Result<Value> {
        let answer = http_get(&format!("{}/api/v1/{question}", self.url)).await?.json()?;
        if answer["status"] != "success" {
            bail!("{}: {}", answer["errorType"], answer["error"]);
        }
        Ok(answer["data"].clone())
    }

    /// The series that an expression gives now: empty if it gives none.
    ///
    /// # Errors
    /// When the expression is wrong, or Prometheus does not answer.
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

    /// Stops it in order (SIGTERM), or kills it if that takes too long.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        self.process.stop(STOP_LIMIT).await.map(drop)
    }
}

/// The configuration; JSON is YAML as well.
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
