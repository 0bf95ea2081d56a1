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
    command::Ended,
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
        ClientAddresses, Fit, HttpMetrics, Listener, ListenerLimits, Service, ServiceSettings,
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
/// The most open connections of the admin port, and the most that wait for room.
const ADMIN_CONNECTIONS: (usize, usize) = (64, 16);
/// The most connections of the public port that wait for room or are being refused.
const WAITING_CONNECTIONS: usize = 256;
/// Open files besides connections and pools: the log, the runtime, Redis, the metrics port, and reserved ones.
const OTHER_FILES: usize = 160;

/// The metrics of the parts of a server.
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

/// Registers the metrics of the store and the cache.
pub(crate) fn observe(
    registry: &Registry,
    store: &Store,
    cache: &Cache<CachedProduct>,
) -> Result<(), metrics::Error> {
    StoreMetrics::register(registry, store)?;
    store.register_read_metrics(registry)?;
    registry.include(cache.registry());
    Ok(())
}

/// Serves until a signal.
pub fn run(settings: &ServeSettings) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(settings.http.threads()).on_thread_park(memory::give_back);
    program::run(PROGRAM, &settings.telemetry, &mut runtime, serve(settings))
}

/// Logs panics like any other error. A panic ends only one request.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::force_capture();
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(place, %backtrace, "panic: {message}");
    }));
}

/// The cache of products, which confirms its versions with the database.
fn cache(settings: &ServeSettings, store: &Store) -> anyhow::Result<Cache<CachedProduct>> {
    let cache = Cache::connect(settings.cache.cache())?;
    let store = store.clone();
    cache.confirm_with(move |ids| {
        let store = store.clone();
        async move { store.product_versions(&ids).await }
    });
    Ok(cache)
}

/// Asks the read replicas until it is dropped.
fn watch_read_replicas(store: Store) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move { store.watch_read_replicas().await }))
}

/// Fails if requests in progress were cut off at the end.
async fn serve(settings: &ServeSettings) -> anyhow::Result<Ended> {
    log_panics();
    let mut signals = StopSignals::listen().context("the signal handlers cannot be installed")?;
    let registry = holdfast_telemetry::registry("api", env!("CARGO_PKG_VERSION"))?;
    let ServeMetrics { http: http_metrics, admission: counts } = ServeMetrics::new(&registry)?;

    // Open the ports first, so that a port in use is reported before anything else starts.
    let Ports { listener, admin, internal, requests, clients } =
        Ports::open(settings, &http_metrics).await?;
    let answers = ByteBudget::leak(settings.http.answer_buffer_bytes);
    http_metrics.watch(&registry, requests, answers);
    let store = Store::connect(&settings.store());
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
    let watching = database_watch::watch(store.clone(), cache.clone(), admission.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let _watching_replicas = watch_read_replicas(store.clone());
    let _warming = sales::warm_up::start(store.clone(), cache.clone());
    let app = App::new(AppParts {
        store: store.clone(),
        reads: store.on_read_replicas(),
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
        tracing::info!("shutting down: no longer ready");
        following.abort();
        readiness.not_ready("the process is shutting down");
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
            tracing::info!("shut down: all requests were answered");
            Ok(Ended::Done)
        }
        () = tokio::time::sleep(settings.http.shutdown_timeout) => {
            tracing::warn!("shut down: the shutdown timeout has passed, and requests in progress were cut off");
            Ok(Ended::Failed)
        }
        () = second.next() => {
            tracing::warn!("stopped immediately by a second signal");
            Ok(Ended::Failed)
        }
    }
}

/// The open ports and their shared state.
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
        let admin_limits = ListenerLimits { connections, waiting, ..limits.clone() };
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

/// The number of connections that the limit of open files allows.
pub(crate) fn connections_that_fit(settings: &ServeSettings) -> Result<Fit, TooFewFiles> {
    let (http, database) = (&settings.http, &settings.connections);
    let pools = database.db_pool_size.saturating_add(database.db_admission_connections);
    let pools = usize::try_from(pools).unwrap_or(usize::MAX);
    let (admin, admin_waiting) = ADMIN_CONNECTIONS;
    let others = (OTHER_FILES + admin + 2 * admin_waiting)
        .saturating_add(pools)
        .saturating_add(settings.replicas.connections());
    fit_connections(http.max_connections, WAITING_CONNECTIONS, others)
}

/// The limits of the public port, as far as the limit of open files allows.
fn connection_limits(settings: &ServeSettings) -> anyhow::Result<ListenerLimits> {
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
    Ok(ListenerLimits {
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
    // Its own connection, so that publishing never waits for the console's queries.
    let queue = Queue::connect(settings.cache.queue())?;
    Ok(Some(Console::start(metrics, store.clone(), queue, readiness.clone())))
}

/// The access check and the rate limits.
fn guard(settings: &ServeSettings, store: &Store) -> anyhow::Result<Guard> {
    let access = settings.access.access();
    if access.is_none() {
        tracing::warn!(
            "HOLDFAST_AUTH is off: every client that reaches a port of this server may do everything there"
        );
    }
    let access = access.map(|access| CallerCheck::follow(access, store.clone())).transpose()?;
    let rates = settings.access.rates(&settings.cache);
    Ok(Guard::new(access, rates.as_ref().map(Rates::start).transpose()?))
}

#[derive(Debug, thiserror::Error)]
#[error("{setting}: {address} {}", match .cause.kind() {
    io::ErrorKind::AddrInUse => "is in use by another process".to_owned(),
    io::ErrorKind::PermissionDenied => "cannot be opened by this user".to_owned(),
    io::ErrorKind::AddrNotAvailable => "is not an address of this host".to_owned(),
    _ => format!("cannot be opened: {}", .cause),
})]
struct PortRefused {
    setting: &'static str,
    address: SocketAddr,
    /// Not the source: the sentence says what it is.
    cause: io::Error,
}

fn port_refused(setting: &'static str, address: SocketAddr, cause: io::Error) -> PortRefused {
    PortRefused { setting, address, cause }
}
