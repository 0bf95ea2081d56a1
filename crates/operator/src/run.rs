//! A running operator: its parts, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_telemetry::Readiness;
use holdfast_telemetry::{Registry, metrics};
use kube::Client;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    OperatorMetrics, Own,
    caller::{Callers, access::Access},
    external::ExternalMetrics,
    queues::{FileError, QueueSettings, Queues, Reach},
    sale::{Book, Controller, SaleSettings},
    sync::{self, Elector, Parts},
    tls::{OpenConnections, Served, TlsListener},
};

pub use crate::sync::Certificates;

/// How long giving the Lease back may take at the end.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// Who it is.
    pub own: Own,
    /// Where the TLS port listens.
    pub address: SocketAddr,
    /// Where the list of queues comes from.
    pub queues: QueueSettings,
    /// How the queues' Redis servers are asked.
    pub reach: Reach,
    /// Where the certificate comes from.
    pub certificates: Certificates,
    /// The pause between rounds of the loop.
    pub sync_interval: Duration,
    /// How long a verdict on an access is believed.
    pub access_cache: Duration,
    /// How long a silent holder of the Lease is waited for.
    pub lease_duration: Duration,
    /// Whose sales are looked after.
    pub sales: SaleSettings,
    /// Where they are written down.
    pub book: Book,
}

/// Why an operator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The list of queues is wrong.
    #[error("HOLDFAST_QUEUES_FILE cannot be used")]
    Queues(#[from] FileError),
    /// The TLS port cannot be opened.
    #[error("{0} cannot be listened on; HOLDFAST_EXTERNAL_METRICS_ADDR names another")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A metric's name is taken.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] metrics::Error),
}

/// A running operator. Dropping it ends it at once.
pub struct Operator {
    address: SocketAddr,
    stop_serving: CancellationToken,
    stop_leading: CancellationToken,
    readiness: Readiness,
    serving: AbortOnDropHandle<Option<OpenConnections>>,
    leading: AbortOnDropHandle<()>,
    syncing: AbortOnDropHandle<()>,
    selling: AbortOnDropHandle<()>,
}

impl Operator {
    /// Starts an operator. It waits for the API server by itself, and says through `readiness`
    /// whether it wants to be asked. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        settings: OperatorSettings,
        client: Client,
        registry: &Registry,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let metrics = OperatorMetrics::unmeasured(registry)?;
        let queues = Queues::load(settings.queues, settings.reach).await?;
        let listener = TlsListener::bind(settings.address)
            .await
            .map_err(|error| StartError::Listen(settings.address, error))?;
        let address = listener.address();
        let callers = Callers::new(client.clone());
        let access = Access::new(client.clone(), settings.access_cache, metrics.reviews.clone());
        let service = Arc::new(ExternalMetrics::new(
            callers.clone(),
            access,
            queues.clone(),
            metrics.clone(),
        ));
        let served = Served::default();
        let (stop_serving, stop_leading) = (CancellationToken::new(), CancellationToken::new());
        let owner = sync::Owner::default();
        let (leads, leading) = watch::channel(false);
        let elector = Elector::new(
            client.clone(),
            &settings.own,
            settings.lease_duration,
            owner.clone(),
            metrics.clone(),
        );
        let serving = {
            let (served, stop) = (served.clone(), stop_serving.clone());
            async move {
                let stop = stop.cancelled_owned();
                match listener.run(served, service, stop).await {
                    Ok(open) => Some(open),
                    Err(error) => {
                        tracing::error!(%error, "TLS could not be set up");
                        None
                    }
                }
            }
        };
        let controller = Controller::new(
            settings.sales,
            client.clone(),
            settings.book,
            queues.clone(),
            metrics.clone(),
        );
        let selling = controller.run(leading.clone());
        let syncing = sync::run(
            Parts {
                own: settings.own,
                client,
                callers,
                queues,
                served,
                metrics,
                readiness: readiness.clone(),
                leading,
                owner,
            },
            settings.certificates,
            settings.sync_interval,
        );
        Ok(Self {
            address,
            readiness,
            serving: AbortOnDropHandle::new(tokio::spawn(serving)),
            leading: AbortOnDropHandle::new(tokio::spawn(
                elector.run(leads, stop_leading.clone().cancelled_owned()),
            )),
            syncing: AbortOnDropHandle::new(tokio::spawn(syncing)),
            selling: AbortOnDropHandle::new(tokio::spawn(selling)),
            stop_serving,
            stop_leading,
        })
    }

    /// Where the TLS port listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the operator: it gives the Lease back, takes no more connections, and answers what was
    /// asked already for up to `limit`. Says whether everything was answered.
    pub async fn shutdown(self, limit: Duration) -> bool {
        drop((self.syncing, self.selling));
        self.readiness.not_ready("ending");
        self.stop_leading.cancel();
        let released = tokio::time::timeout(RELEASE_LIMIT, self.leading).await;
        self.stop_serving.cancel();
        let answered = tokio::time::timeout(limit, async {
            if let Ok(Some(open)) = self.serving.await {
                open.ended().await;
            }
        })
        .await;
        released.is_ok() && answered.is_ok()
    }
}
