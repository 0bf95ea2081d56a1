//! `holdfast-sandbox run`: everything, until Ctrl-C.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use clap::builder::FalseyValueParser;

use crate::graphs;
use crate::listen::{self, ListeningPort, Wanted};
use crate::signals::Signals;
use crate::stack::{Stack, StackSettings, api_url, local_url};
use crate::terminal::{complain, say};

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The address of the API and the metrics. If it is not a loopback address, all hosts that reach it can do everything,
    /// because requests need no key.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port of the API, 1 to 65535 [default: 8000, or the next free one].
    #[arg(long, env = "PORT", value_parser = port)]
    port: Option<u16>,
    /// The port of the API's metrics, 1 to 65535 [default: 9464, or the next free one].
    #[arg(long, env = "METRICS_PORT", value_parser = port)]
    metrics_port: Option<u16>,
    /// The admin port, on this machine only, 1 to 65535 [default: 9463, or the next free one].
    #[arg(long, env = "ADMIN_PORT", value_parser = port)]
    admin_port: Option<u16>,
    /// The port of the worker's metrics, 1 to 65535 [default: 9465, or the next free one].
    #[arg(long, env = "WORKER_METRICS_PORT", value_parser = port)]
    worker_metrics_port: Option<u16>,
    /// Run Prometheus with the alerts as well.
    #[arg(long, env = "OBSERVE", value_parser = FalseyValueParser::new())]
    observe: bool,
    /// The port of Prometheus on 127.0.0.1, 1 to 65535 [default: 9090, or the next free one].
    #[arg(long, env = "PROMETHEUS_PORT", value_parser = port)]
    prometheus_port: Option<u16>,
    /// Keep the data at the end, and continue with the data of an earlier run.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// The folder for kept data; if not given, /var/lib/holdfast-sandbox for root and
    /// ~/.local/state/holdfast-sandbox for other users.
    #[arg(long, env = "HOLDFAST_SANDBOX_DATA")]
    data: Option<PathBuf>,
}

pub(crate) async fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    // Processes of a killed run may hold the ports.
    holdfast_sandbox::sweep()?;
    let (ports, moved) = listen::take(options.host, &options.ports()).await?;
    let plan = options.plan(&ports)?;
    if let Some(sentence) = moved {
        say(&sentence);
    }

    let mut stack = Stack::default();
    let started = tokio::select! {
        started = stack.start(&plan) => started.map(Some),
        () = signals.asked_to_stop() => Ok(None),
    };
    let code = match started {
        Ok(Some(product)) => {
            welcome(&plan, &stack, product, begun);
            tokio::select! {
                () = signals.asked_to_stop() => ExitCode::SUCCESS,
                words = stack.ended() => {
                    complain(&words);
                    ExitCode::FAILURE
                }
            }
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    };
    if stack.is_empty() {
        return Ok(code);
    }
    say("\nStopping. Ctrl-C again stops everything at once.");
    tokio::select! {
        () = stack.stop() => {}
        () = signals.asked_again() => say("Stopping at once"),
    }
    drop(stack);
    if let Some(data) = &plan.data {
        say(&format!("Data kept in {}", data.display()));
    }
    Ok(code)
}

impl RunOptions {
    /// In the order of the fields of [`StackSettings`].
    fn ports(&self) -> Vec<Wanted> {
        let wanted = |chosen, usual, purpose, variable| Wanted { chosen, usual, purpose, variable };
        let mut ports = vec![
            wanted(self.port, 8000, "API", "PORT"),
            wanted(self.metrics_port, 9464, "API's metrics", "METRICS_PORT"),
            wanted(self.admin_port, 9463, "admin port", "ADMIN_PORT"),
            wanted(self.worker_metrics_port, 9465, "worker's metrics", "WORKER_METRICS_PORT"),
        ];
        if self.observe {
            ports.push(wanted(self.prometheus_port, 9090, "Prometheus", "PROMETHEUS_PORT"));
        }
        ports
    }

    fn plan(&self, ports: &[ListeningPort]) -> anyhow::Result<StackSettings> {
        let mut ports = ports.iter().map(|taken| taken.number);
        let mut next = || ports.next().context("a port is missing");
        let data = if self.keep {
            Some(self.data.clone().map_or_else(default_data_folder, Ok)?)
        } else {
            None
        };
        Ok(StackSettings {
            host: self.host,
            port: next()?,
            api_metrics_port: next()?,
            admin_port: next()?,
            worker_metrics_port: next()?,
            prometheus_port: if self.observe { Some(next()?) } else { None },
            data,
        })
    }
}

/// PostgreSQL's user must be able to enter the folder, so root's home folder cannot be used.
fn default_data_folder() -> anyhow::Result<PathBuf> {
    const NAME: &str = "holdfast-sandbox";
    if nix::unistd::Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib").join(NAME));
    }
    if let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty()) {
        return Ok(PathBuf::from(state).join(NAME));
    }
    let home = std::env::home_dir().context("no home folder; set HOLDFAST_SANDBOX_DATA")?;
    Ok(home.join(".local/state").join(NAME))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| "must be a port, 1 to 65535".to_owned())
}

fn welcome(plan: &StackSettings, stack: &Stack, product: i64, begun: Instant) {
    let api = api_url(plan);
    let metrics = local_url(plan.host, plan.api_metrics_port);
    let admin = plan.admin_port;
    let prometheus = plan.prometheus_port.map_or_else(String::new, |port| {
        format!(
            "  Graphs   http://localhost:{port}/consoles/{}    the dashboards' panels\n  \
             Alerts   http://localhost:{port}/alerts    Prometheus\n",
            graphs::PAGE
        )
    });
    let (database, redis) = stack.servers();
    let environment = stack.access.as_ref().map(|file| file.path().display().to_string());
    say(&format!(
        "\nReady after {:.1} s. Ctrl-C stops everything{}. No API key is needed.\n\n  \
         Swagger  {api}/docs\n  \
         Console  http://localhost:{admin}/console    what happens now\n  \
         Admin    http://localhost:{admin}/docs    flash sales, dead letters and API keys\n  \
         Metrics  {metrics}/metrics\n{prometheus}\n\
         To try:\n  \
         curl -s {api}/products\n  \
         curl -s {api}/orders -H 'Content-Type: application/json' \
         -d '{{\"product_id\":{product},\"quantity\":1}}'\n  \
         curl -s '{api}/orders?limit=1'    # soon \"completed\"\n\n\
         In another terminal:\n  \
         . {}    # so that the programs are found, and find the servers\n  \
         holdfast-api dead-letters list\n  \
         holdfast-api keys create --name \"web shop\" --scopes orders:read,orders:write\n  \
         psql {database}\n  \
         redis-cli -u {redis}",
        begun.elapsed().as_secs_f64(),
        if plan.data.is_some() { " and keeps the data" } else { " and removes the data" },
        environment.unwrap_or_default(),
    ));
}
