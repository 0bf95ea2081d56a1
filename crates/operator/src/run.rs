//! A running operator: its parts, and its shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_store::Store;
use holdfast_telemetry::Readiness;
use holdfast_telemetry::{Registry, metrics};
use kube::Client;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    ObjectNames, OperatorMetrics,
    caller::{Callers, access::AccessReviews},
    external::ExternalMetrics,
    failures::Failures,
    leadership::{Leadership, Owner},
    queues::{FileError, OwnOrders, QueueListSettings, Queues, RedisAccess},
    sale::{SaleController, SaleSettings},
    sync::{self, Parts, Registration},
    tls::{DrainingConnections, ServedCertificate, TlsListener},
};

pub use crate::sync::Certificates;

/// How long removing the registration may take at the end, and the pause between attempts.
const WITHDRAWAL_LIMIT: Duration = Duration::from_secs(8);
const WITHDRAWAL_PAUSE: Duration = Duration::from_millis(500);
/// How long releasing the Lease may take at the end.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct OperatorSettings {
    pub own: ObjectNames,
    /// The address of the TLS port.
    pub address: SocketAddr,
    pub queues: QueueListSettings,
    pub reach: RedisAccess,
    pub certificates: Certificates,
    /// The pause between rounds of the jobs in `sync`.
    pub sync_interval: Duration,
    /// How long the decision of an access review is cached.
    pub access_cache: Duration,
    /// How long the Lease stays valid without a renewal.
    pub lease_duration: Duration,
    /// Whether the definition of FlashSale is upgraded.
    pub upgrades_definition: bool,
    pub sales: SaleSettings,
    /// The database of the sales and of the own release's orders.
    pub store: Option<Store>,
}

/// Why an operator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("HOLDFAST_QUEUES_FILE cannot be used")]
    Queues(#[from] FileError),
    #[error("cannot listen on {0}; set HOLDFAST_EXTERNAL_METRICS_ADDR to another address")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("the metrics cannot be registered")]
    Metrics(#[from] metrics::Error),
}

/// A running operator. Dropping it stops it immediately.
pub struct Operator {
    address: SocketAddr,
    stop_serving: CancellationToken,
    stop_leading: CancellationToken,
    readiness: Readiness,
    registration: Registration,
    serving: AbortOnDropHandle<Option<DrainingConnections>>,
    leading: AbortOnDropHandle<()>,
    syncing: AbortOnDropHandle<()>,
    selling: AbortOnDropHandle<()>,
}

impl Operator {
    /// Starts an operator. It waits for the API server itself, and `readiness` shows when it can serve requests. Must
    /// be called within a tokio runtime.
    pub async fn start(
        settings: OperatorSettings,
        client: Client,
        registry: &Registry,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let metrics = OperatorMetrics::unmeasured(registry)?;
        let own_orders = settings.store.clone().map(|store| OwnOrders {
            namespace: settings.sales.namespace.clone(),
            release: settings.sales.release.clone(),
            store,
        });
        let queues = Queues::load(settings.queues, settings.reach, own_orders).await?;
        let listener = TlsListener::bind(settings.address)
            .await
            .map_err(|error| StartError::Listen(settings.address, error))?;
        let address = listener.address();
        let callers = Callers::new(client.clone());
        let access =
            AccessReviews::new(client.clone(), settings.access_cache, metrics.reviews.clone());
        let service = Arc::new(ExternalMetrics::new(
            callers.clone(),
            access,
            queues.clone(),
            metrics.clone(),
        ));
        let served = ServedCertificate::default();
        let (stop_serving, stop_leading) = (CancellationToken::new(), CancellationToken::new());
        let controller = SaleController::new(
            settings.sales,
            &client,
            settings.store,
            queues.clone(),
            metrics.clone(),
        );
        let failures = Failures::new(metrics.sync_failures.clone());
        let owner = Owner::default();
        let (leads, leading) = watch::channel(false);
        let leadership = Leadership {
            client: client.clone(),
            own: settings.own.clone(),
            duration: settings.lease_duration,
            owner: owner.clone(),
            progress: controller.progress(),
            metrics: metrics.clone(),
            failures: failures.clone(),
        };
        let registration = Registration::new(client.clone(), &settings.own);
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
                upgrades_definition: settings.upgrades_definition,
                failures,
            },
            settings.certificates,
            settings.sync_interval,
        );
        Ok(Self {
            address,
            readiness,
            registration,
            serving: AbortOnDropHandle::new(tokio::spawn(serving)),
            leading: AbortOnDropHandle::new(tokio::spawn(
                leadership.run(leads, stop_leading.clone().cancelled_owned()),
            )),
            syncing: AbortOnDropHandle::new(tokio::spawn(syncing)),
            selling: AbortOnDropHandle::new(tokio::spawn(selling)),
            stop_serving,
            stop_leading,
        })
    }

    /// The address of the TLS port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the operator. If its Deployment has no replicas any more, it removes its registration. Then it releases
    /// the Lease, accepts no more connections, and answers requests in progress for up to `limit`. Returns whether it
    /// released the Lease and answered all requests in time.
    pub async fn shutdown(self, limit: Duration) -> bool {
        drop((self.syncing, self.selling));
        self.readiness.not_ready("ending");
        let withdrawn = tokio::time::timeout(WITHDRAWAL_LIMIT, withdraw(&self.registration));
        if withdrawn.await.is_err() {
            tracing::warn!("the APIService may be left without a server");
        }
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

/// Removes the registration if the Deployment has no replicas any more. Retries until it succeeds.
async fn withdraw(registration: &Registration) {
    loop {
        match registration.withdraw().await {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!("the APIService was removed: the Deployment has no replicas");
                return;
            }
            Err(error) => {
                let error = holdfast_telemetry::Chain(&error);
                tracing::warn!(%error, "the APIService could not be checked or removed; trying again");
                tokio::time::sleep(WITHDRAWAL_PAUSE).await;
            }
        }
    }
}
