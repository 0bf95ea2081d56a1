//! Starting, serving and stopping.
//!
//! After SIGTERM or Ctrl-C, `/readyz` reports that the server is not ready, so that load balancers send no more requests. Connections
//! are still accepted during the drain delay, and each is closed after its next answer. Then the port is closed, the requests in
//! progress are answered, the lanes are emptied and accepted orders are published, all within the shutdown timeout. A second signal
//! ends the process at once. No order that was answered with 201 is lost by that.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use holdfast_admission::{Admission, AdmissionMetrics};
use holdfast_cache::Cache;
use holdfast_queue::{Publisher, Queue};
use holdfast_store::{Store, StoreMetrics};
use holdfast_telemetry::{
    InternalServer, Readiness, Registry,
    command::{self, Ended},
    log_level, metrics,
    program::{self, StopSignals},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    access::{CallerCheck, Guard, Rates},
    app::{App, AppParts},
    byte_budget::ByteBudget,
    console::Console,
    endpoint::Surface,
    http::{
        ClientAddresses, ConnectionLimits, Fit, HttpMetrics, Listener, Service, ServiceSettings,
        TooFewFiles, fit_connections,
    },
    products::CachedProduct,
    sales,
    settings::{ConsoleSwitch, PortSettings, ServeSettings},
};

mod database_watch;
mod memory;
mod ready;

/// The program's name in messages.
pub(crate) const PROGRAM: &str = "holdfast-api";
/// How many connections may be open on the admin port, and how many may wait for that.
const ADMIN_CONNECTIONS: (usize, usize) = (64, 16);
/// How many connections of the public port may wait for room, or be refused, at the same time.
const WAITING_CONNECTIONS: usize = 256;
/// Files that are open besides connections and the pools: the log, the runtime, Redis, the metrics'
/// port, reserved ones.
const OTHER_FILES: usize = 160;

/// The metrics that the parts of a server count into.
pub(crate) struct ServeMetrics {
    pub http: Arc<HttpMetrics>,
    pub admission: Arc<AdmissionMetrics>,
}

impl ServeMetrics {
    pub fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        Ok(Self {
            http: Arc::new(HttpMetrics::new(registry)?),
            admission: Arc::new(AdmissionMetrics::unmeasured(registry)?),
        })
    }
}

/// Registers the metrics of what counts by itself.
pub(crate) fn observe(
    registry: &Registry,
    store: &Store,
    cache: &Cache<CachedProduct>,
) -> Result<(), metrics::Error> {
    StoreMetrics::register(registry, store)?;
    registry.include(cache.registry());
    Ok(())
}

/// Serves until a signal.
pub fn run(settings: &ServeSettings) -> ExitCode {
    if let Err(sentence) = settings.check() {
        return command::refused(PROGRAM, &sentence);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(settings.http.threads()).on_thread_park(memory::give_back);
    program::run(PROGRAM, &settings.telemetry, &mut runtime, serve(settings))
}

/// A panic ends one request, and must be found in the log like any other error.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::force_capture();
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(place, %backtrace, "panic: {message}");
    }));
}

/// The cache of products, which asks the database whether what it has is still the latest version.
fn cache(settings: &ServeSettings, store: &Store) -> anyhow::Result<Cache<CachedProduct>> {
    let cache = Cache::connect(settings.cache.cache())?;
    let store = store.clone();
    cache.confirm_with(move |ids| {
        let store = store.clone();
        async move { store.product_versions(&ids).await }
    });
    Ok(cache)
}

/// Fails if requests in progress were cut off at the end.
async fn serve(settings: &ServeSettings) -> anyhow::Result<Ended> {
    log_panics();
    let mut signals = StopSignals::listen().context("the signal handlers cannot be installed")?;
    let registry = holdfast_telemetry::registry("api", env!("CARGO_PKG_VERSION"))?;
    let ServeMetrics { http: http_metrics, admission: counts } = ServeMetrics::new(&registry)?;

    // The ports first: that one is taken should be said before anything else is begun.
    let Ports { listener, admin, internal, requests, clients } =
        Ports::open(settings, &http_metrics).await?;
    let answers = ByteBudget::leak(settings.http.answer_buffer_bytes);
    http_metrics.watch(&registry, requests, answers);
    let store = Store::connect(&settings.database.store(&settings.connections));
    store.check_pooler().await.context("DATABASE_URL")?;
    let cache = cache(settings, &store)?;
    let publisher = Publisher::connect(settings.cache.queue())?;
    observe(&registry, &store, &cache)?;
    let readiness = Readiness::default();
    let admission = Admission::open(
        settings.orders.admission(settings.connections.lock_timeout),
        store.clone(),
        cache.clone(),
        publisher,
        Arc::clone(&counts),
    );
    let watching = database_watch::watch(store.clone(), cache.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let _warming = sales::warm_up::start(store.clone(), cache.clone());
    let app = App::new(AppParts {
        store: store.clone(),
        cache: cache.clone(),
        admission: admission.clone(),
        readiness: readiness.clone(),
        body: settings.http.body_limits(requests),
        limits: settings.orders.limits(),
        console: console(settings, counts, &store, &readiness)?,
    });
    let guard = Arc::new(guard(settings, &store)?);
    let service = |surface, cors| {
        let settings = ServiceSettings {
            request_timeout: settings.http.request_timeout,
            surface,
            answers,
            clients: Arc::clone(&clients),
            own_site: settings.access.own_site(),
            public_url: settings.access.public_url.clone().filter(|_| surface == Surface::Public),
        };
        let (app, guard) = (app.clone(), Arc::clone(&guard));
        Arc::new(Service::new(app, Arc::clone(&http_metrics), guard, cors, settings))
    };
    let cors = settings.access.cors();
    let (public, administrative) = (service(Surface::Public, cors), service(Surface::Admin, None));

    tracing::info!(
        api = %listener.address(),
        admin = %admin.address(),
        metrics = %internal.address(),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    tokio::spawn(internal.serve(registry, readiness.clone()));
    tokio::spawn(log_level::follow_signals(&settings.telemetry.log)?);
    let unready_after = settings.http.unready_after;
    let following = ready::follow(store.clone(), readiness.clone(), guard, unready_after);
    let following = tokio::spawn(following);
    let admin_end = CancellationToken::new();
    let admin = tokio::spawn(admin.run(administrative, admin_end.clone().cancelled_owned()));

    let stop = async {
        signals.next().await;
        tracing::info!("ending: no longer ready");
        following.abort();
        readiness.not_ready("ending");
        public.close_connections();
        tokio::time::sleep(settings.http.drain_delay).await;
    };
    let connections = listener.run(Arc::clone(&public), stop).await;
    admin_end.cancel();
    // A new one receives only signals that arrive from now on.
    let mut second = StopSignals::listen().context("the signal handlers cannot be installed")?;
    let finish = async {
        connections.ended().await;
        if let Ok(connections) = admin.await {
            connections.ended().await;
        }
        admission.close().await;
        cache.shutdown().await;
        store.close().await;
    };
    tokio::select! {
        () = finish => {
            tracing::info!("ended: all requests were answered");
            Ok(Ended::Done)
        }
        () = tokio::time::sleep(settings.http.shutdown_timeout) => {
            tracing::warn!("ended: the shutdown timeout cut off requests in progress");
            Ok(Ended::Failed)
        }
        () = second.next() => {
            tracing::warn!("ended by a second signal");
            Ok(Ended::Failed)
        }
    }
}

/// The ports, open, and what they have in common.
struct Ports {
    listener: Listener,
    admin: Listener,
    internal: InternalServer,
    requests: &'static ByteBudget,
    clients: Arc<ClientAddresses>,
}

impl Ports {
    async fn open(settings: &ServeSettings, metrics: &Arc<HttpMetrics>) -> anyhow::Result<Self> {
        let limits = connection_limits(settings)?;
        let (requests, clients) = (limits.budget, Arc::clone(&limits.clients));
        let (connections, waiting) = ADMIN_CONNECTIONS;
        let admin_limits = ConnectionLimits { connections, waiting, ..limits.clone() };
        let PortSettings { metrics_addr, admin_addr, .. } = settings.ports;
        let http_addr = settings.http_addr();
        let listener = Listener::bind(http_addr, limits, Arc::clone(metrics))
            .map_err(|error| port_refused("HOLDFAST_HTTP_ADDR", http_addr, error))?;
        let admin = Listener::bind(admin_addr, admin_limits, Arc::clone(metrics))
            .map_err(|error| port_refused("HOLDFAST_ADMIN_ADDR", admin_addr, error))?;
        let internal = InternalServer::bind(metrics_addr)
            .await
            .map_err(|error| port_refused("HOLDFAST_METRICS_ADDR", metrics_addr, error))?;
        Ok(Self { listener, admin, internal, requests, clients })
    }
}

/// How many connections the limit of open files allows.
pub(crate) fn connections_that_fit(settings: &ServeSettings) -> Result<Fit, TooFewFiles> {
    let (http, database) = (&settings.http, &settings.connections);
    let pools = database.db_pool_size.saturating_add(database.db_admission_connections);
    let pools = usize::try_from(pools).unwrap_or(usize::MAX);
    let (admin, admin_waiting) = ADMIN_CONNECTIONS;
    let others = (OTHER_FILES + admin + 2 * admin_waiting).saturating_add(pools);
    fit_connections(http.max_connections, WAITING_CONNECTIONS, others)
}

/// The limits of the public port, as far as the limit of open files allows.
fn connection_limits(settings: &ServeSettings) -> anyhow::Result<ConnectionLimits> {
    let http = &settings.http;
    let fit = connections_that_fit(settings)?;
    if fit.connections < http.max_connections {
        tracing::warn!(
            HOLDFAST_MAX_CONNECTIONS = http.max_connections,
            open_files = fit.limit,
            connections = fit.connections,
            "HOLDFAST_MAX_CONNECTIONS is more than the limit of open files (ulimit -n) allows, and is lowered"
        );
    }
    let clients = ClientAddresses::new(
        http.max_connections_per_address,
        settings.access.trusted_proxies.clone(),
    );
    Ok(ConnectionLimits {
        connections: fit.connections,
        waiting: fit.waiting,
        patience: http.patience(),
        head_bytes: http.max_header_bytes,
        budget: ByteBudget::leak(http.request_buffer_bytes),
        clients: Arc::new(clients),
    })
}

/// The console, if it is on.
fn console(
    settings: &ServeSettings,
    metrics: Arc<AdmissionMetrics>,
    store: &Store,
    readiness: &Readiness,
) -> anyhow::Result<Option<Console>> {
    if settings.ports.console == ConsoleSwitch::Off {
        return Ok(None);
    }
    // A connection of its own: publishing never waits behind what the console asks.
    let queue = Queue::connect(settings.cache.queue())?;
    Ok(Some(Console::start(metrics, store.clone(), queue, readiness.clone())))
}

/// What stands before the endpoints.
fn guard(settings: &ServeSettings, store: &Store) -> anyhow::Result<Guard> {
    let access = settings.access.access();
    if access.is_none() {
        tracing::warn!(
            "HOLDFAST_AUTH is off: everybody who reaches a port of this server may do everything there"
        );
    }
    let access = access.map(|access| CallerCheck::follow(access, store.clone())).transpose()?;
    let rates = settings.access.rates(&settings.cache);
    Ok(Guard::new(access, rates.as_ref().map(Rates::start).transpose()?))
}

#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address} {}", match .source.kind() {
    io::ErrorKind::AddrInUse => "is in use by another process",
    io::ErrorKind::PermissionDenied => "may not be opened by this user",
    io::ErrorKind::AddrNotAvailable => "is no address of this host",
    _ => "cannot be opened",
})]
struct PortRefused {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

fn port_refused(setting: &'static str, address: SocketAddr, source: io::Error) -> PortRefused {
    PortRefused { setting, address, source }
}
