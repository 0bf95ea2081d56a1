//! `holdfast-sandbox run`: all of it, until Ctrl-C.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use clap::builder::FalseyValueParser;

use crate::listen::{self, Wanted};
use crate::signals::Signals;
use crate::stack::{Plan, Stack, api_url, local_url};
use crate::terminal::{complain, say};

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Address on which the API and the metrics listen. With any but this machine's own, whoever reaches it
    /// may do everything: nobody is asked for a key.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port of the API, 1 to 65535.
    #[arg(long, env = "PORT", default_value = "8000", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Port of the API's metrics, 1 to 65535.
    #[arg(long, env = "METRICS_PORT", default_value = "9464", value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: u16,
    /// Port for administration, on this machine alone, 1 to 65535.
    #[arg(long, env = "ADMIN_PORT", default_value = "9463", value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
    /// Port of the worker's metrics, 1 to 65535.
    #[arg(long, env = "WORKER_METRICS_PORT", default_value = "9465", value_parser = clap::value_parser!(u16).range(1..))]
    worker_metrics_port: u16,
    /// Run Prometheus beside it, with the alerts.
    #[arg(long, env = "OBSERVE", value_parser = FalseyValueParser::new())]
    observe: bool,
    /// Port of Prometheus on 127.0.0.1, 1 to 65535.
    #[arg(long, env = "PROMETHEUS_PORT", default_value = "9090", value_parser = clap::value_parser!(u16).range(1..))]
    prometheus_port: u16,
    /// Keep the data at the end, and go on with what a former run kept.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// Where kept data goes; without it, /var/lib/holdfast-sandbox for root and
    /// ~/.local/state/holdfast-sandbox for others.
    #[arg(long, env = "HOLDFAST_SANDBOX_DATA")]
    data: Option<PathBuf>,
}

pub(crate) async fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    let plan = options.plan()?;
    // What a killed run left may hold the ports.
    holdfast_sandbox::sweep()?;
    let wanted = |port, purpose, variable| Wanted { port, purpose, variable };
    let mut ports = vec![
        wanted(plan.port, "API", "PORT"),
        wanted(plan.api_metrics_port, "API's metrics", "METRICS_PORT"),
        wanted(plan.admin_port, "administration", "ADMIN_PORT"),
        wanted(plan.worker_metrics_port, "worker's metrics", "WORKER_METRICS_PORT"),
    ];
    ports.extend(plan.prometheus_port.map(|port| wanted(port, "Prometheus", "PROMETHEUS_PORT")));
    listen::check(plan.host, &ports).await?;

    let mut stack = Stack::default();
    let started = tokio::select! {
        started = stack.start(&plan) => started.map(Some),
        () = signals.asked_to_stop() => Ok(None),
    };
    let code = match started {
        Ok(Some(product)) => {
            welcome(&plan, product, begun);
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
    say("\nStopping (once more Ctrl-C: at once)");
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
    fn plan(&self) -> anyhow::Result<Plan> {
        let data = if self.keep {
            Some(self.data.clone().map_or_else(default_data_folder, Ok)?)
        } else {
            None
        };
        Ok(Plan {
            host: self.host,
            port: self.port,
            api_metrics_port: self.metrics_port,
            admin_port: self.admin_port,
            worker_metrics_port: self.worker_metrics_port,
            prometheus_port: self.observe.then_some(self.prometheus_port),
            data,
        })
    }
}

/// Root's must be passable by the user that PostgreSQL runs as, which root's home is not.
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

fn welcome(plan: &Plan, product: i64, begun: Instant) {
    let api = api_url(plan);
    let metrics = local_url(plan.host, plan.api_metrics_port);
    let admin = plan.admin_port;
    // Each Prometheus leads from here to its pages; Debian's has them elsewhere than others.
    let prometheus = plan.prometheus_port.map_or_else(String::new, |port| {
        format!("  Graphs   http://localhost:{port}    Prometheus, with the alerts\n")
    });
    say(&format!(
        "\nReady after {:.1} s. Ctrl-C stops everything{}.\n\n  \
         Swagger  {api}/docs\n  \
         Metrics  {metrics}/metrics\n  \
         Admin    http://localhost:{admin}/docs    flash sales, dead letters and API keys\n{prometheus}\n\
         Nobody is asked for a key here (HOLDFAST_AUTH=off).\n\nTo try:\n  \
         curl -s {api}/products\n  \
         curl -s {api}/orders -H 'Content-Type: application/json' \
         -d '{{\"product_id\":{product},\"quantity\":1}}'\n  \
         curl -s {api}/orders/1    # the id from the answer; soon \"completed\"\n",
        begun.elapsed().as_secs_f64(),
        if plan.data.is_some() { " and keeps the data" } else { " and removes the data" },
    ));
}
