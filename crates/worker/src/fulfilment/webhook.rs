//! Fulfilment by webhook: each order is sent by HTTP POST, per
//! [Standard Webhooks](https://www.standardwebhooks.com/), to a receiver that fulfils it.
//!
//! | file | subject |
//! |---|---|
//! | `target` | which addresses are allowed |
//! | `bounded` | how much a receiver may send |
//! | `payload` | the body of a request |
//! | `signature` | how the receiver authenticates the sender |
//! | `answer` | what an answer means |
//! | `gate` | how many orders are sent at the same time, and the pauses while the receiver is down |
//! | `metrics` | its metrics |
//!
//! `docs/webhooks.md` is for operators and authors of receivers.

mod answer;
mod bounded;
mod gate;
mod metrics;
mod payload;
mod signature;
mod target;

use std::time::{Duration, SystemTime};

use holdfast_store::fulfilment::Taken;
use holdfast_telemetry::{
    Chain, Registry, metrics::Error as MetricsError, propagation, settings::MustBe,
};
use http::{HeaderName, HeaderValue, Method, Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry::trace::Status;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{FulfilError, Fulfilment, Handover, OrderToFulfil, backoff::Backoff};
use answer::ReceiverCondition;
use bounded::BoundedConnector;
use gate::{Gate, GateLimits, LaneKind, SendTurn};
use metrics::WebhookMetrics;
use payload::Payload;
use target::Resolver;

pub use answer::retry_after;
pub use signature::Secrets;
pub use target::ReceiverUrl;

/// The longest pause between two requests to a receiver that is down.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an idle connection is kept open: less than most servers keep one.
const IDLE_TIME: Duration = Duration::from_secs(15);
const HEAD_BYTES_MAX: usize = 64 * 1024;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static(propagation::TRACEPARENT);

/// Registers the metrics without a webhook, for the reference.
///
/// # Errors
/// A name is already registered.
pub(crate) fn register_metrics(registry: &Registry) -> Result<(), MetricsError> {
    WebhookMetrics::new(registry).map(drop)
}

#[derive(Clone, Debug)]
pub struct WebhookSettings {
    pub target: ReceiverUrl,
    /// The secrets that sign each request.
    pub secrets: Secrets,
    /// How long a request may take, from the DNS lookup to the end of the answer.
    pub timeout: Duration,
    /// How long a request may still take at shutdown.
    pub shutdown_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The most concurrent requests.
    pub connections: usize,
    /// The most orders of the worker in flight.
    pub orders: usize,
    /// Whether private addresses and plain HTTP are allowed.
    pub allow_private: bool,
    /// The upper bound of the first pause when the receiver is down; it doubles with each pause.
    pub pause_base: Duration,
    /// The upper bound for `Retry-After` and for the pauses.
    pub retry_after_max: Duration,
}

/// Why the webhook cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("HOLDFAST_WEBHOOK_URL {0}")]
    Target(MustBe),
    #[error("the host's certificate authorities cannot be read; SSL_CERT_FILE may name their file")]
    Authorities(#[source] std::io::Error),
    #[error("the metrics cannot be registered")]
    Metrics(#[from] MetricsError),
}

/// Sends each order to a receiver that fulfils it.
pub struct Webhook {
    settings: WebhookSettings,
    client: Client<HttpsConnector<BoundedConnector>, Payload>,
    gate: Gate,
    metrics: WebhookMetrics,
}

impl Webhook {
    /// Does not connect yet.
    ///
    /// # Errors
    /// The target is not allowed, or the host has no certificate authorities.
    pub fn new(settings: WebhookSettings, registry: &Registry) -> Result<Self, WebhookError> {
        if !settings.allow_private {
            // The resolver checks names only.
            settings.target.check_public().map_err(WebhookError::Target)?;
        }
        let mut http =
            HttpConnector::new_with_resolver(Resolver { allow_private: settings.allow_private });
        http.set_connect_timeout(Some(settings.connect_timeout));
        http.set_nodelay(true);
        // The URL may be https.
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(WebhookError::Authorities)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(BoundedConnector(http));
        // It follows no redirects and uses no proxy.
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
        let limits = GateLimits {
            connections: settings.connections,
            orders: settings.orders,
            timeout: settings.timeout,
            pause,
        };
        Ok(Self { client, gate: Gate::new(limits, metrics.paused.clone()), metrics, settings })
    }

    fn request(
        &self,
        work: &OrderToFulfil,
    ) -> Result<Request<Payload>, Box<dyn std::error::Error>> {
        let id = payload::message_id(work);
        let body = payload::body(work)?;
        // Receivers refuse old timestamps, so each attempt has its own.
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

    /// The span of a request, if the order is sampled. It leaves out the path of the URL, which may be secret.
    fn span(&self) -> Span {
        if Span::current().is_none() {
            return Span::none();
        }
        tracing::info_span!(
            "POST",
            otel.kind = "client",
            http.request.method = "POST",
            server.address = self.settings.target.uri().host(),
            server.port = self.settings.target.uri().port_u16().map(i64::from),
            http.response.status_code = tracing::field::Empty,
        )
    }

    /// Sends the request and interprets the answer.
    async fn send(
        &self,
        request: Request<Payload>,
        handover: &Handover,
        turn: &mut SendTurn<'_>,
    ) -> (ReceiverCondition, Result<(), FulfilError>) {
        let unanswered = |reason| {
            self.metrics.answered(None);
            let error = FulfilError::Unavailable { reason, after: None };
            let condition = match handover.taken() {
                Taken::Never => ReceiverCondition::Unreachable,
                Taken::Maybe => ReceiverCondition::Down(None),
            };
            (condition, Err(error))
        };
        let origin = || self.settings.target.origin();
        let begun = Instant::now();
        let deadline = begun + self.settings.timeout;
        let answering = tokio::time::timeout_at(deadline, self.client.request(request));
        let answer = tokio::select! {
            biased;
            answer = answering => answer,
            () = turn.given_up() => {
                let ms = begun.elapsed().as_millis();
                let origin = origin();
                return unanswered(format!(
                    "no answer from {origin} within {ms} ms, and other orders were waiting"
                ));
            }
        };
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
        Span::current().record("http.response.status_code", i64::from(head.status.as_u16()));
        let excerpt = answer::read(head.status, body, deadline).await;
        answer::interpret(&head, &excerpt, SystemTime::now())
    }

    fn bounded(&self, after: Option<Duration>) -> Option<Duration> {
        after.map(|after| after.min(self.settings.retry_after_max))
    }
}

impl Fulfilment for Webhook {
    async fn fulfil(&self, work: OrderToFulfil) -> Result<(), FulfilError> {
        // True until the body of the request is sent.
        work.handover.not_taken();
        let lane = if work.failed_before { LaneKind::Again } else { LaneKind::First };
        let mut turn = self.gate.turn(lane).await?;
        let span = self.span();
        let request = span.in_scope(|| self.request(&work)).map_err(|error| {
            FulfilError::Fail(format!("the request cannot be created: {error}"))
        })?;
        let (mut condition, mut outcome) =
            self.send(request, &work.handover, &mut turn).instrument(span.clone()).await;
        if outcome.is_err() {
            span.set_status(Status::error(""));
        }
        drop(span);
        if let ReceiverCondition::Down(after) = &mut condition {
            *after = self.bounded(*after);
        }
        if let Err(FulfilError::Unavailable { after, .. }) = &mut outcome {
            *after = self.bounded(*after);
        }
        let own = self.gate.record(&turn, condition, || {
            outcome.as_ref().err().map(ToString::to_string).unwrap_or_default()
        });
        match outcome {
            Err(FulfilError::Unavailable { reason, .. }) if own => Err(FulfilError::Retry(reason)),
            outcome => outcome,
        }
    }

    async fn room(&self) -> usize {
        self.gate.room().await
    }

    fn shutdown_time(&self) -> Option<Duration> {
        Some(self.settings.shutdown_timeout)
    }
}
