//! Fulfilment by webhook: each order is sent by HTTP POST, per
//! [Standard Webhooks](https://www.standardwebhooks.com/), to a receiver that fulfils it.
//!
//! | file | subject |
//! |---|---|
//! | `target` | where it may go |
//! | `bounded` | how much a receiver may send |
//! | `payload` | what is sent |
//! | `signature` | how the receiver knows who sent it |
//! | `answer` | what an answer means |
//! | `gate` | how many orders go at once, and none while the receiver is down |
//! | `metrics` | what an operator sees of it |
//!
//! What operators and the authors of receivers need to know stands in `docs/webhooks.md`.

mod answer;
mod bounded;
mod gate;
mod metrics;
mod payload;
mod signature;
mod target;

use std::time::{Duration, SystemTime};

use holdfast_store::fulfilment::Taken;
use holdfast_telemetry::{Chain, propagation, settings::MustBe};
use http::{HeaderName, HeaderValue, Method, Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry::trace::Status;
use prometheus::Registry;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{FulfilError, Fulfilment, Handover, Work, backoff::Backoff};
use answer::Condition;
use bounded::BoundedConnector;
use gate::Gate;
use metrics::WebhookMetrics;
use payload::Payload;
use target::Resolver;

pub use answer::retry_after;
pub use signature::Secrets;
pub use target::Target;

/// The longest pause between two looks at a receiver that is down.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an unused connection is kept: less than most servers do.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static(propagation::TRACEPARENT);

/// Registers the metrics of a webhook that is not there, for the reference.
///
/// # Errors
/// A name is registered already.
pub(crate) fn register_metrics(registry: &Registry) -> prometheus::Result<()> {
    WebhookMetrics::new(registry).map(drop)
}

/// How orders are sent, and where to.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where to.
    pub target: Target,
    /// What each request is signed with.
    pub secrets: Secrets,
    /// The longest that a request may take, from the lookup of the name to the end of the answer.
    pub timeout: Duration,
    /// The longest that a request may still take when the worker ends.
    pub shutdown_timeout: Duration,
    /// The longest that making a connection may take, of that.
    pub connect_timeout: Duration,
    /// The most requests, and so connections, at the same time.
    pub connections: usize,
    /// Whether addresses that are not of the public internet, and plain HTTP, are allowed.
    pub allow_private: bool,
    /// The ceiling of the first pause after the receiver was found down; it doubles with each.
    pub pause_base: Duration,
    /// The longest time that a receiver may ask for with `Retry-After`; what is more counts as
    /// that. Also a bound of the pauses.
    pub retry_after_max: Duration,
}

/// Why the webhook could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The target is not allowed.
    #[error("HOLDFAST_WEBHOOK_URL {0}")]
    Target(MustBe),
    /// No certificate authority is known on this host.
    #[error("the host's certificate authorities cannot be read; SSL_CERT_FILE may name their file")]
    Authorities(#[source] std::io::Error),
    /// A metric's name is taken.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Sends each order to a receiver, which fulfils it.
pub struct Webhook {
    settings: WebhookSettings,
    client: Client<HttpsConnector<BoundedConnector>, Payload>,
    gate: Gate,
    connections: Semaphore,
    metrics: WebhookMetrics,
}

impl Webhook {
    /// Sets it up. Connects to nothing yet.
    ///
    /// # Errors
    /// A target that is not allowed, or a host without certificate authorities.
    pub fn new(settings: WebhookSettings, registry: &Registry) -> Result<Self, WebhookError> {
        if !settings.allow_private {
            // An address that is no name is never looked up.
            settings.target.check_public().map_err(WebhookError::Target)?;
        }
        let mut http =
            HttpConnector::new_with_resolver(Resolver { allow_private: settings.allow_private });
        http.set_connect_timeout(Some(settings.connect_timeout));
        http.set_nodelay(true);
        // TLS is put around it.
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(WebhookError::Authorities)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(BoundedConnector(http));
        // It follows no redirects and knows of no proxies.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(settings.connections)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(https);
        let metrics = WebhookMetrics::new(registry)?;
        let pause = Backoff {
            base: settings.pause_base,
            max: PAUSE_MAX.min(settings.retry_after_max).max(settings.pause_base),
        };
        Ok(Self {
            client,
            // As many again wait for their turn, so that no connection waits for the next order.
            gate: Gate::new(settings.connections * 2, pause, metrics.paused.clone()),
            connections: Semaphore::new(settings.connections),
            metrics,
            settings,
        })
    }

    fn request(&self, work: &Work) -> Result<Request<Payload>, Box<dyn std::error::Error>> {
        let id = payload::message_id(work);
        let body = payload::body(work)?;
        // A receiver refuses one that is too old, so each try has its own.
        let timestamp = jiff::Timestamp::now().as_second();
        let mut signature =
            HeaderValue::try_from(self.settings.secrets.sign(&id, timestamp, &body))?;
        signature.set_sensitive(true);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.settings.target.uri().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .header(WEBHOOK_ID, id)
            .header(WEBHOOK_TIMESTAMP, timestamp)
            .header(WEBHOOK_SIGNATURE, signature);
        if let Some(context) = propagation::traceparent_of(&tracing::Span::current()) {
            request = request.header(TRACEPARENT, context);
        }
        Ok(request.body(Payload::new(body, work.handover.clone()))?)
    }

    /// The span of a request, within that of an order which has one. The path of the target may be
    /// secret.
    fn span(&self) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        tracing::info_span!(
            "POST",
            otel.kind = "client",
            http.request.method = "POST",
            server.address = self.settings.target.uri().host(),
            server.port = self.settings.target.uri().port_u16(),
            http.response.status_code = tracing::field::Empty,
        )
    }

    /// Sends it and judges the answer.
    async fn send(
        &self,
        request: Request<Payload>,
        handover: &Handover,
    ) -> (Condition, Result<(), FulfilError>) {
        let unanswered = |reason| {
            self.metrics.answered(None);
            let error = FulfilError::Unavailable { reason, after: None };
            (Condition::Unwell(None), Err(error))
        };
        let origin = || self.settings.target.origin();
        let deadline = Instant::now() + self.settings.timeout;
        let answer = tokio::time::timeout_at(deadline, self.client.request(request)).await;
        let (head, body) = match answer {
            Ok(Ok(answer)) => answer.into_parts(),
            Ok(Err(error)) => {
                return unanswered(format!("no answer from {}: {}", origin(), Chain(&error)));
            }
            Err(_elapsed) => {
                let limit_ms = self.settings.timeout.as_millis();
                return unanswered(format!("no answer from {} within {limit_ms} ms", origin()));
            }
        };
        self.metrics.answered(Some(head.status));
        if answer::taken(head.status) == Taken::Never {
            handover.not_taken();
        }
        Span::current().record("http.response.status_code", head.status.as_u16());
        let excerpt = answer::read(head.status, body, deadline).await;
        answer::judge(&head, &excerpt, SystemTime::now())
    }

    /// No longer than a setting allows, whatever the receiver says.
    fn bounded(&self, after: Option<Duration>) -> Option<Duration> {
        after.map(|after| after.min(self.settings.retry_after_max))
    }
}

impl Fulfilment for Webhook {
    async fn fulfil(&self, work: Work) -> Result<(), FulfilError> {
        // Until the body of the request is sent.
        work.handover.not_taken();
        let _inside = self.gate.enter();
        // Never closed.
        let _connection = self.connections.acquire().await;
        self.gate.check()?;
        let span = self.span();
        let request = span
            .in_scope(|| self.request(&work))
            .map_err(|error| FulfilError::Fail(format!("it cannot be sent: {error}")))?;
        let sent = Instant::now();
        let (mut condition, mut outcome) =
            self.send(request, &work.handover).instrument(span.clone()).await;
        if outcome.is_err() {
            span.set_status(Status::error(""));
        }
        drop(span);
        if let Condition::Unwell(after) = &mut condition {
            *after = self.bounded(*after);
        }
        if let Err(FulfilError::Unavailable { after, .. }) = &mut outcome {
            *after = self.bounded(*after);
        }
        self.gate.heard(condition, sent, || {
            outcome.as_ref().err().map(ToString::to_string).unwrap_or_default()
        });
        outcome
    }

    async fn room(&self) -> usize {
        self.gate.room().await
    }

    fn time_at_the_end(&self) -> Option<Duration> {
        Some(self.settings.shutdown_timeout)
    }
}
