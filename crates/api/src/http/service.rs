//! Handles every request: its id, trace and time limit, panics, problems and metrics.
//!
//! This is a plain function instead of a stack of middleware, because each layer would cost an allocation and a dynamic
//! call per request, and it runs up to a hundred thousand times per second.

use std::{
    convert::Infallible,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri::PathAndQuery},
    response::{IntoResponse as _, Response},
};
use holdfast_telemetry::{Chain, REQUEST};
use hyper::body::Body as _;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;
use tracing::Instrument as _;

use super::{
    ClientAddresses, HttpMetrics, OwnSite, Peer, RequestIds, Route, charged::Charged,
    connection::wire, expected, log_limit::LogLimit, protection::protect, request_id::X_REQUEST_ID,
    request_trace::RequestTrace,
};
use crate::{
    access::{Access, Caller, Guard},
    app::App,
    byte_budget::ByteBudget,
    endpoint::Surface,
    etag::IfNoneMatch,
    problem::{Problem, ProblemKind},
    public_base::PublicBase,
    request::{Id, KeyedBody},
    router::router,
    routes::{orders, products},
};

/// The settings of a port.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// The longest time from the end of the headers to the answer.
    pub request_timeout: Duration,
    /// The port.
    pub surface: Surface,
    /// The budget for answers that have not been sent.
    pub answers: &'static ByteBudget,
    pub clients: Arc<ClientAddresses>,
    /// The check of web pages, if requests need no key.
    pub own_site: Option<OwnSite>,
    /// The URL of the API for its clients, if it is set.
    pub public_url: Option<PublicBase>,
}

/// The size up to which an answer is not charged to the budget.
const FREE_ANSWER_BYTES: u64 = 16 * 1024;

/// Answers requests with a router. Shared by all connections.
pub struct Service {
    app: App,
    router: Router,
    /// The routes of the endpoints that are called directly; orders only on the port where they are placed.
    orders: Option<Route>,
    product: Route,
    metrics: Arc<HttpMetrics>,
    settings: ServiceSettings,
    guard: Arc<Guard>,
    /// The CORS rules.
    cors: Option<CorsLayer>,
    ids: RequestIds,
    /// Whether each connection is closed after its next answer.
    closing: AtomicBool,
    /// The time at which a 503 was last logged, so that an outage does not fill the log.
    log_limit: LogLimit,
}

impl Service {
    /// Wraps the router.
    pub fn new(
        app: App,
        metrics: Arc<HttpMetrics>,
        guard: Arc<Guard>,
        cors: Option<CorsLayer>,
        settings: ServiceSettings,
    ) -> Self {
        let router = router(app.clone(), settings.surface);
        Self {
            app,
            router,
            orders: settings
                .surface
                .has(&orders::create::ENDPOINT.method, orders::create::ENDPOINT.access)
                .then(|| Route::of(orders::create::ENDPOINT.path)),
            product: Route::of(products::get::ENDPOINT.path),
            metrics,
            settings,
            guard,
            cors,
            ids: RequestIds::default(),
            closing: AtomicBool::new(false),
            log_limit: LogLimit::default(),
        }
    }

    /// Closes each connection after its next answer, which has `Connection: close`. Clients with open connections are
    /// notified in time, and do not send a request on a connection that is being closed.
    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Never.
    pub async fn answer(
        &self,
        request: Request<Body>,
        client: &Peer,
    ) -> Result<Response, Infallible> {
        match &self.cors {
            None => self.answered(request, client).await,
            Some(cors) => {
                let answered = service_fn(|request| self.answered(request, client));
                cors.layer(answered).oneshot(request).await
            }
        }
    }

    /// The bytes of an answer without routing, after which the connection ends.
    pub(super) fn refusal(
        &self,
        kind: ProblemKind,
        detail: &'static str,
        id: Option<HeaderValue>,
    ) -> Vec<u8> {
        let counted = self.metrics.begin(Route::UNMATCHED, &Method::OPTIONS);
        let given = HeaderMap::from_iter(id.map(|id| (X_REQUEST_ID, id)));
        let id = self.ids.take_or_make(&given);
        let problem = Problem::with_detail(kind, detail).and_close();
        counted.answered(kind.status());
        let mut answer = Response::new(Body::empty());
        let body = problem.write(&mut answer, id.as_str());
        let headers = answer.headers_mut();
        headers.insert(X_REQUEST_ID, id.into_header());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        protect(headers, Route::UNMATCHED);
        wire(kind.status(), headers, &body)
    }

    async fn answered(
        &self,
        mut request: Request<Body>,
        client: &Peer,
    ) -> Result<Response, Infallible> {
        let route = self.route(request.uri().path());
        let in_flight = self.metrics.begin(route, request.method());
        let probe = is_probe(route, route.access(request.method()));
        let id = self.ids.take_or_make(request.headers());
        if route != Route::DOCS && request.uri().path().ends_with('/') {
            *request.uri_mut() = without_last_slash(request.uri());
        }

        let forwarded =
            || client.is_proxy.then(|| PublicBase::forwarded(request.headers())).flatten();
        let base = self.settings.public_url.clone().or_else(forwarded);
        if let (Some(base), Route::DOCS) = (&base, route) {
            request.extensions_mut().insert(base.clone());
        }
        let trace = RequestTrace::begin(&request, route, &id);
        let about =
            holdfast_telemetry::RequestContext { id: id.into_header(), trace_id: trace.id() };
        // Pinned here, so that the large future is not moved.
        let guarded = pin!(self.counted(request, route, client).instrument(trace.span().clone()));
        let mut scoped = pin!(REQUEST.scope(about, caught(guarded)));
        let limit = self.settings.request_timeout;
        let answered = tokio::time::timeout(limit, scoped.as_mut()).await;
        let about = scoped.as_mut().take_value();
        let mut response = match answered {
            Ok(Ok(response)) => response,
            // The panic hook in `serve` has logged the message and the location.
            Ok(Err(_panic)) => Problem::new(ProblemKind::Internal).into_response(),
            Err(_elapsed) => Problem::new(ProblemKind::Timeout).into_response(),
        };
        let id = about.as_ref().map(|about| about.id.clone());
        self.charge(&mut response);
        if (response.status().is_client_error() || response.status().is_server_error())
            && let Some(about) = about
        {
            REQUEST.sync_scope(about, || self.explain(&mut response, id.as_ref(), probe));
        }
        in_flight.answered(response.status());
        trace.end(response.status());
        let headers = response.headers_mut();
        if let Some(id) = id {
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(base) = base {
            base.complete(headers);
        }
        protect(headers, route);
        if self.closing.load(Ordering::Relaxed) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// The route of a path, if this port serves it.
    fn route(&self, path: &str) -> Route {
        let route = Route::of(path);
        if route.is_on(self.settings.surface) { route } else { Route::UNMATCHED }
    }

    /// Refuses pages of other sites, and too many concurrent requests of a proxy's client.
    async fn counted(&self, request: Request<Body>, route: Route, client: &Peer) -> Response {
        let access = route.access(request.method());
        if let Some(site) = self.settings.own_site.as_ref().filter(|_| !is_probe(route, access)) {
            let parts = (request.method(), request.uri(), request.headers());
            if let Err(problem) = site.check(parts, client) {
                return problem.and_close().into_response();
            }
        }
        match self.settings.clients.request(client, request.headers()) {
            Ok(_counted) => self.guarded(request, route, access).await,
            Err(_) => Problem::new(ProblemKind::TooManyConnections).and_close().into_response(),
        }
    }

    /// Charges a large answer until it is sent. If the budget has no room, the answer is replaced.
    fn charge(&self, response: &mut Response) {
        let bytes = response.body().size_hint().lower();
        if bytes <= FREE_ANSWER_BYTES {
            return;
        }
        let mut charge = self.settings.answers.charge();
        match charge.resize(usize::try_from(bytes).unwrap_or(usize::MAX)) {
            Ok(()) => {
                let body = std::mem::take(response.body_mut());
                *response.body_mut() = Body::new(Charged::new(body, charge));
            }
            Err(spent) => {
                *response = Problem::new(ProblemKind::Overloaded).because(spent).into_response();
            }
        }
    }

    /// Checks access and the rate limit.
    async fn guarded(&self, mut request: Request<Body>, route: Route, access: Access) -> Response {
        let caller = match self.guard.check(access, request.headers()) {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        };
        if caller.known().is_some() {
            request.extensions_mut().insert(caller.clone());
        }
        let allowance = self.guard.count(&caller);
        let mut response = match allowance.map(Guard::refusal) {
            Some(Some(problem)) => problem.into_response(),
            _ => self.dispatch(request, route, caller).await,
        };
        if let Some(allowance) = allowance {
            Guard::tell(allowance, response.headers_mut());
        }
        response
    }

    /// Calls the two most important endpoints of a flash sale directly. This saves the router's allocations and a tenth of
    /// the instructions of a request. The router calls the same functions.
    async fn dispatch(&self, request: Request<Body>, route: Route, caller: Caller) -> Response {
        let request = match route.takes(request.method(), self.settings.surface) {
            Some(takes) => match expected::check(request, takes, self.app.body.time).await {
                Ok(request) => request,
                Err(problem) => return problem.into_response(),
            },
            None => request,
        };
        if Some(route) == self.orders && request.method() == Method::POST {
            let (parts, body) = request.into_parts();
            match KeyedBody::receive(&parts.headers, body, &self.app, &caller).await {
                Ok(order) => orders::create::create(State(self.app.clone()), caller, order)
                    .await
                    .into_response(),
                Err(problem) => problem.into_response(),
            }
        } else if route == self.product && request.method() == Method::GET {
            match Id::of(request.uri().path()) {
                Ok(id) => {
                    let condition = IfNoneMatch(request.into_parts().0.headers);
                    products::get::get(State(self.app.clone()), id, condition).await.into_response()
                }
                Err(problem) => problem.into_response(),
            }
        } else {
            let Ok(response) = self.router.clone().call(request).await;
            response
        }
    }

    /// Adds the body of a problem to an error, and logs errors of the server. A readiness probe that fails is not logged
    /// here, because the reason is logged elsewhere.
    fn explain(&self, response: &mut Response, id: Option<&HeaderValue>, probe: bool) {
        let problem = response
            .extensions_mut()
            .remove::<Problem>()
            .unwrap_or_else(|| Problem::from(response.status()));
        problem.write(response, id.and_then(|id| id.to_str().ok()).unwrap_or_default());
        let because = || problem.cause().map(|cause| tracing::field::display(Chain(cause)));
        if problem.kind() == ProblemKind::Internal {
            // Without a cause it was a panic, which was logged just before.
            tracing::error!(error = because(), "a request failed");
        } else if response.status().is_server_error() && !probe && self.log_limit.allows() {
            tracing::warn!(
                problem = problem.kind().uri(),
                error = because(),
                "requests are refused; logged at most once per second"
            );
        }
    }
}

/// Whether a request asks for the state of the process, which needs no key.
fn is_probe(route: Route, access: Access) -> bool {
    access == Access::Open && !matches!(route, Route::DOCS | Route::CONSOLE | Route::UNMATCHED)
}

/// The output of `future`, or `Err` if it panics. It must not be polled again after a panic.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> std::thread::Result<F::Output> {
    poll_fn(|context| {
        // No broken state is visible after a panic, because shared state is behind locks and channels that survive it.
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
    })
    .await
}

/// A slash at the end of a path is optional. Clients of the reference API use both forms, and a redirect would lose the
/// body of a POST.
fn without_last_slash(uri: &Uri) -> Uri {
    let path = uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let with_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    with_query.map_or_else(|_| uri.clone(), Uri::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_wherever_it_happens() {
        assert_eq!(caught(pin!(async { 7 })).await.unwrap(), 7);
        let late = async {
            tokio::task::yield_now().await;
            panic!("as a test")
        };
        let outcome: Result<(), _> = caught(pin!(late)).await;
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"as a test"));
    }

    #[test]
    fn a_slash_at_the_end_is_removed_and_the_query_is_kept() {
        for (before, after) in [
            ("/orders/", "/orders"),
            ("/orders/?limit=1", "/orders?limit=1"),
            ("http://shop.test/orders/", "/orders"),
        ] {
            assert_eq!(without_last_slash(&before.parse().unwrap()), after);
        }
    }
}
