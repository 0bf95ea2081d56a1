//! The subcommands of `holdfast-operator`, and their settings. Each doc comment is a help text.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use holdfast_redis::{RedisCa, RedisUrl};
use holdfast_store::{DatabaseUrl, Store, StoreSettings};
use holdfast_telemetry::{
    InternalServer, Readiness, TelemetrySettings,
    command::{self, Ended},
    log_level,
    program::{self, StopSignals},
    settings::{MustBe, Together, address, at_most, milliseconds, whole},
};
use kube::{Client, Config};

use crate::{
    Certificates, ObjectNames, Operator, OperatorSettings,
    authority::Authority,
    kubernetes_names::is_label_value,
    queues::{QueueListSettings, RedisAccess},
    sale::{AutoscalerRef, SaleSettings},
};

const PROGRAM: &str = "holdfast-operator";
/// The longest wait for a connection to the API server, and for data on one. Each call also has its own limit. A watch
/// without events ends earlier, see `sale::controller`.
const API_LIMIT: Duration = Duration::from_secs(10);
const API_SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// The operator of Holdfast on Kubernetes: reports queue depths to the HPA and manages flash sales.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-operator",
    version,
    about,
    after_help = "Each setting is a flag or an environment variable; the flag takes precedence. A variable that is set must be valid."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or Ctrl-C; a second signal stops the process immediately
    Run(Box<RunSettings>),
    /// Check whether an operator on this host is healthy; exits with 0 if it is
    Healthcheck(command::Healthcheck),
    /// Print all settings as a Markdown page
    Settings,
    /// Print the definition of the custom resource `FlashSale`, as YAML for `kubectl apply`
    Crd,
    /// Print all metrics with their initial values
    #[command(hide = true)]
    Metrics(command::PrintMetrics),
}

impl Together for Cli {
    fn check(&self) -> Result<(), MustBe> {
        match &self.command {
            Command::Run(settings) => settings.check(),
            Command::Healthcheck(_) | Command::Settings | Command::Crd | Command::Metrics(_) => {
                Ok(())
            }
        }
    }
}

/// The settings of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// The operator's own namespace
    #[arg(long, env = "HOLDFAST_OPERATOR_NAMESPACE", value_parser = ObjectNames::label)]
    pub operator_namespace: String,
    /// The name of this replica, shown as the holder of the Lease; the host name if not set
    #[arg(long, env = "HOLDFAST_OPERATOR_POD", default_value = "", hide_default_value = true)]
    pub operator_pod: String,
    /// The Service through which the API server reaches the operator
    #[arg(long, env = "HOLDFAST_OPERATOR_SERVICE", default_value = "holdfast-operator", value_parser = ObjectNames::label)]
    pub operator_service: String,
    /// The Secret for the operator's CA and certificate
    #[arg(long, env = "HOLDFAST_OPERATOR_TLS_SECRET", default_value = "holdfast-operator-tls", value_parser = ObjectNames::name)]
    pub operator_tls_secret: String,
    /// A folder with an existing certificate to use instead of the operator's own CA: `tls.crt`, `tls.key`, and
    /// `ca.crt` if the operator should write it into the APIService
    #[arg(long, env = "HOLDFAST_OPERATOR_TLS_DIR", default_value = "", hide_default_value = true)]
    pub operator_tls_dir: String,
    /// The Lease that decides which replica is the leader
    #[arg(long, env = "HOLDFAST_OPERATOR_LEASE", default_value = "holdfast-operator", value_parser = ObjectNames::name)]
    pub operator_lease: String,
    /// The operator's Deployment. With it, the last replicas remove the APIService when the Deployment is scaled to 0,
    /// because Kubernetes deletes no namespace while the server of a registered API is gone; a new leader creates it
    /// again. Without it, the APIService is neither created nor removed
    #[arg(long, env = "HOLDFAST_OPERATOR_DEPLOYMENT", value_parser = ObjectNames::name)]
    pub operator_deployment: Option<String>,
    /// The address for requests of the API server, over TLS
    #[arg(long, env = "HOLDFAST_EXTERNAL_METRICS_ADDR", default_value = "0.0.0.0:6443", value_parser = address)]
    pub external_metrics_addr: SocketAddr,
    /// The address of /metrics, /livez and /readyz; keep it private
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464", value_parser = address)]
    pub metrics_addr: SocketAddr,
    /// The Redis of one queue, which is served for the operator's own namespace, such as
    /// `redis://:password@host:6379/0`
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<RedisUrl>,
    /// For TLS (rediss URLs): a file with the CA certificates (PEM) that verify Redis; the system's CAs if not set
    #[arg(long = "redis-ca-file", env = "HOLDFAST_REDIS_CA_FILE")]
    pub redis_ca: Option<RedisCa>,
    /// The label `release` of that queue, and the release whose flash sales are managed
    #[arg(long, env = "HOLDFAST_QUEUE_RELEASE", default_value = "holdfast", value_parser = label_value)]
    pub queue_release: String,
    /// A file that lists several queues, instead of `REDIS_URL`; read again when it changes
    #[arg(long, env = "HOLDFAST_QUEUES_FILE")]
    pub queues_file: Option<PathBuf>,
    /// The database of the release, where its unfinished orders are counted and its flash sales are recorded; without it
    /// the depth comes from Redis alone, and every sale is stalled
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,
    /// The API's autoscaler, such as HorizontalPodAutoscaler/holdfast-api; flash sales raise its minimum; none if not
    /// set
    #[arg(long, env = "HOLDFAST_SALES_API_AUTOSCALER")]
    pub sales_api_autoscaler: Option<AutoscalerRef>,
    /// The workers' autoscaler, such as ScaledObject/holdfast-worker; flash sales raise its minimum; none if not set
    #[arg(long, env = "HOLDFAST_SALES_WORKER_AUTOSCALER")]
    pub sales_worker_autoscaler: Option<AutoscalerRef>,
    /// The longest wait for Redis's answer about one queue before the request is refused, in milliseconds (10 to 10000)
    #[arg(long = "queue-timeout-ms", env = "HOLDFAST_QUEUE_TIMEOUT_MS", default_value = "1000", value_parser = milliseconds(10..=10_000))]
    pub queue_timeout: Duration,
    /// The validity of a new CA, in hours; it is renewed when a third is left (1 to 87600)
    #[arg(long, env = "HOLDFAST_CA_VALIDITY_HOURS", default_value = "8760", value_parser = whole(1..=87_600_u64))]
    pub ca_validity_hours: u64,
    /// The validity of a new certificate, in hours; it is renewed when a third is left (1 to 87600)
    #[arg(long, env = "HOLDFAST_CERT_VALIDITY_HOURS", default_value = "2160", value_parser = whole(1..=87_600_u64))]
    pub cert_validity_hours: u64,
    /// The time between two checks of Secret, APIService, trusted front proxies and files, in milliseconds (100 to
    /// 600000)
    #[arg(long = "sync-interval-ms", env = "HOLDFAST_SYNC_INTERVAL_MS", default_value = "5000", value_parser = milliseconds(100..=600_000))]
    pub sync_interval: Duration,
    /// How long the decision of an access review is cached, in milliseconds (0 to 300000)
    #[arg(long = "access-cache-ms", env = "HOLDFAST_ACCESS_CACHE_MS", default_value = "10000", value_parser = milliseconds(0..=300_000))]
    pub access_cache: Duration,
    /// How long the Lease of a replica that no longer renews it stays valid, in milliseconds (2000 to 300000)
    #[arg(long = "lease-duration-ms", env = "HOLDFAST_LEASE_DURATION_MS", default_value = "15000", value_parser = milliseconds(2000..=300_000))]
    pub lease_duration: Duration,
    /// Whether the definition of `FlashSale` is upgraded if it is older than this operator's
    #[arg(long, env = "HOLDFAST_UPGRADE_CRD", default_value = "true", action = ArgAction::Set)]
    pub upgrade_crd: bool,
    /// At shutdown: how long requests in progress may still take, in milliseconds (0 to 600000)
    #[arg(long = "shutdown-timeout-ms", env = "HOLDFAST_SHUTDOWN_TIMEOUT_MS", default_value = "10000", value_parser = milliseconds(0..=600_000))]
    pub shutdown_timeout: Duration,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

fn label_value(text: &str) -> Result<String, MustBe> {
    if is_label_value(text) {
        return Ok(text.to_owned());
    }
    Err(MustBe::new("must be a label value: at most 63 letters, digits, -, _ and ."))
}

impl RunSettings {
    fn check(&self) -> Result<(), MustBe> {
        match (&self.redis_url, &self.queues_file) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => {
                return Err(MustBe::new(
                    "REDIS_URL or HOLDFAST_QUEUES_FILE must be set, and not both",
                ));
            }
        }
        RedisCa::check(self.redis_ca.as_ref(), self.redis_url.as_ref())?;
        at_most(
            ("HOLDFAST_CERT_VALIDITY_HOURS", self.cert_validity_hours),
            ("HOLDFAST_CA_VALIDITY_HOURS", self.ca_validity_hours),
        )
    }

    fn operator(&self) -> anyhow::Result<OperatorSettings> {
        let queues = match (&self.redis_url, &self.queues_file) {
            (Some(redis_url), None) => QueueListSettings::One {
                namespace: self.operator_namespace.clone(),
                release: self.queue_release.clone(),
                redis_url: redis_url.clone(),
            },
            (None, Some(path)) => QueueListSettings::File(path.clone()),
            _ => anyhow::bail!("REDIS_URL or HOLDFAST_QUEUES_FILE must be set, and not both"),
        };
        let own = ObjectNames {
            namespace: self.operator_namespace.clone(),
            identity: self.identity(),
            service: self.operator_service.clone(),
            tls_secret: self.operator_tls_secret.clone(),
            lease: self.operator_lease.clone(),
            deployment: self.operator_deployment.clone(),
        };
        let certificates = if self.operator_tls_dir.is_empty() {
            Certificates::Issued(Authority {
                ca_validity: Duration::from_hours(self.ca_validity_hours),
                certificate_validity: Duration::from_hours(self.cert_validity_hours),
                names: own.host_names(),
            })
        } else {
            Certificates::Folder(PathBuf::from(&self.operator_tls_dir))
        };
        let sales = SaleSettings {
            namespace: own.namespace.clone(),
            release: self.queue_release.clone(),
            identity: own.identity.clone(),
            api: self.sales_api_autoscaler.clone(),
            workers: self.sales_worker_autoscaler.clone(),
        };
        Ok(OperatorSettings {
            own,
            address: self.external_metrics_addr,
            queues,
            reach: RedisAccess { timeout: self.queue_timeout, redis_ca: self.redis_ca.clone() },
            certificates,
            sync_interval: self.sync_interval,
            access_cache: self.access_cache,
            lease_duration: self.lease_duration,
            upgrades_definition: self.upgrade_crd,
            sales,
            store: None,
        })
    }

    /// The database, with few connections.
    fn store(&self) -> Option<Store> {
        let settings = self.database_url.as_ref()?.settings();
        Some(Store::connect(&StoreSettings {
            pool_size: 2,
            admission_connections: 1,
            application_name: "holdfast-operator",
            ..settings
        }))
    }

    /// A container that is restarted in the same pod is a different replica, because the previous one may still be
    /// writing.
    fn identity(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if self.operator_pod.is_empty() { host() } else { self.operator_pod.clone() };
        format!("{}_{}", name.trim(), uuid::Uuid::new_v4())
    }
}

/// Runs the command.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(settings) => serve(&settings),
        Command::Healthcheck(healthcheck) => healthcheck.run(PROGRAM),
        Command::Settings => command::print_settings(Cli::command()),
        Command::Crd => print_definition(),
        Command::Metrics(print) => print.run(PROGRAM, || Ok(crate::metrics::all()?)),
    }
}

fn print_definition() -> ExitCode {
    match crate::sale::resource::yaml() {
        Ok(yaml) => command::print(PROGRAM, yaml.as_bytes()),
        Err(error) => failed(error.as_ref()),
    }
}

fn serve(settings: &RunSettings) -> ExitCode {
    let operator = match settings.operator() {
        Ok(operator) => operator,
        Err(error) => return command::refused(PROGRAM, error.as_ref()),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // There are few requests per second, and more threads would cost memory.
    runtime.worker_threads(2).max_blocking_threads(4);
    program::run(PROGRAM, &settings.telemetry, &mut runtime, until_signal(settings, operator))
}

/// Runs until a signal, and then until all requests are answered or the time limit is over.
async fn until_signal(
    settings: &RunSettings,
    mut operator: OperatorSettings,
) -> anyhow::Result<Ended> {
    let mut signals = StopSignals::listen()?;
    // Within the runtime, which the pool requires.
    operator.store = settings.store();
    let registry = holdfast_telemetry::registry("operator", env!("CARGO_PKG_VERSION"))?;
    let internal = InternalServer::bind(settings.metrics_addr).await.with_context(|| {
        format!(
            "cannot listen on {}; set HOLDFAST_METRICS_ADDR to another address",
            settings.metrics_addr
        )
    })?;
    let readiness = Readiness::default();
    let operator = Operator::start(operator, client().await?, &registry, readiness.clone()).await?;
    tracing::info!(
        external_metrics = %operator.address(),
        metrics = %internal.address(),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    tokio::spawn(internal.serve(registry, readiness));
    tokio::spawn(log_level::follow_signals(&settings.telemetry.log)?);

    signals.next().await;
    tracing::info!("shutting down: requests in progress are answered");
    tokio::select! {
        answered = operator.shutdown(settings.shutdown_timeout) => {
            tracing::info!(answered, "ended");
            Ok(if answered { Ended::Done } else { Ended::Failed })
        }
        () = signals.next() => anyhow::bail!("stopped immediately by a second signal"),
    }
}

/// The API server from `KUBECONFIG`, or that of the cluster in which this process runs.
async fn client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context(
        "no API server is configured: run the operator in a cluster, or set KUBECONFIG to the path of a file",
    )?;
    config.connect_timeout = Some(API_LIMIT);
    config.read_timeout = Some(API_SILENCE_LIMIT);
    config.write_timeout = Some(API_LIMIT);
    Client::try_from(config).context("the API server's address or certificates cannot be used")
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    command::failed(PROGRAM, error)
}
