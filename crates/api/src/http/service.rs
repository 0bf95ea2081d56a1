//! What happens around every request: its id, its trace, its time limit, panics, problems, metrics.
//!
//! One plain function and no stack of middleware: each layer of one costs an allocation and a
//! dynamic call per request, and this runs a hundred thousand times a second.

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
    http::{HeaderValue, Method, Request, Uri, header, uri::PathAndQuery},
    response::{IntoResponse as _, Response},
};
use holdfast_telemetry::{Chain, REQUEST};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;
use tracing::Instrument as _;

use super::{
    HttpMetrics, RequestIds, Route, Surface, protection::protect, request_id::X_REQUEST_ID,
    request_trace::RequestTrace,
};
use crate::{
    access::{Caller, Guard},
    app::App,
    problem::{Kind, Problem},
    routes::{self, extract::PathId},
};

/// How every request is treated.
#[derive(Clone, Copy, Debug)]
pub struct ServiceSettings {
    /// The longest that an answer may take, from the end of the headers.
    pub request_timeout: Duration,
    /// The port that it answers on.
    pub surface: Surface,
}

/// Answers requests by a router. Shared by all connections.
pub struct Service {
    app: App,
    router: Router,
    metrics: Arc<HttpMetrics>,
    settings: ServiceSettings,
    guard: Arc<Guard>,
    /// Lets web pages of other origins in.
    cors: Option<CorsLayer>,
    ids: RequestIds,
    /// Whether each connection is to be closed with its next answer.
    closing: AtomicBool,
    /// When a 503 was last logged: a database that is down must not fill the disk with logs.
    logged: Mutex<Option<Instant>>,
}

impl Service {
    /// Puts the treatment of every request around the routes.
    pub fn new(
        app: App,
        metrics: Arc<HttpMetrics>,
        guard: Arc<Guard>,
        cors: Option<CorsLayer>,
        settings: ServiceSettings,
    ) -> Self {
        let router = routes::router(app.clone(), settings.surface);
        Self {
            app,
            router,
            metrics,
            settings,
            guard,
            cors,
            ids: RequestIds::default(),
            closing: AtomicBool::new(false),
            logged: Mutex::new(None),
        }
    }

    /// From now on, each connection is closed with its next answer, which says so. A client that keeps its
    /// connection learns in time that it must go elsewhere, and sends nothing into one that closes at that moment.
    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Never.
    pub async fn answer(&self, request: Request<Body>) -> Result<Response, Infallible> {
        match &self.cors {
            None => self.answered(request).await,
            Some(cors) => {
                cors.layer(service_fn(|request| self.answered(request))).oneshot(request).await
            }
        }
    }

    async fn answered(&self, mut request: Request<Body>) -> Result<Response, Infallible> {
        let route = self.route(request.uri().path());
        let in_flight = self.metrics.begin(route, request.method());
        let id = self.ids.take_or_make(request.headers());
        if !matches!(route, Route::Docs) && request.uri().path().ends_with('/') {
            *request.uri_mut() = without_last_slash(request.uri());
        }

        let trace = RequestTrace::begin(&request, route, &id);
        let about = holdfast_telemetry::Request { id: id.into_header(), trace_id: trace.id() };
        // Pinned here, so that the large future is not moved from wrapper to wrapper.
        let guarded = pin!(self.guarded(request, route).instrument(trace.span().clone()));
        let mut scoped = pin!(REQUEST.scope(about, caught(guarded)));
        let limit = self.settings.request_timeout;
        let answered = tokio::time::timeout(limit, scoped.as_mut()).await;
        let about = scoped.as_mut().take_value();
        let mut response = match answered {
            Ok(Ok(response)) => response,
            // The panic's message and place are in the log already: `serve` sees to that.
            Ok(Err(_panic)) => Problem::new(Kind::Internal).into_response(),
            Err(_elapsed) => Problem::new(Kind::Timeout).into_response(),
        };
        let id = about.as_ref().map(|about| about.id.clone());
        if (response.status().is_client_error() || response.status().is_server_error())
            && let Some(about) = about
        {
            REQUEST.sync_scope(about, || self.explain(&mut response, id.as_ref()));
        }
        in_flight.answered(response.status());
        trace.end(response.status());
        let headers = response.headers_mut();
        if let Some(id) = id {
            headers.insert(X_REQUEST_ID, id);
        }
        protect(headers, route);
        if self.closing.load(Ordering::Relaxed) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// The route of a path, if it is answered on this port.
    fn route(&self, path: &str) -> Route {
        let route = Route::of(path);
        let here = route.surface().is_none_or(|surface| surface == self.settings.surface);
        if here { route } else { Route::Unmatched }
    }

    /// Lets through whom the guard lets through.
    async fn guarded(&self, mut request: Request<Body>, route: Route) -> Response {
        let caller = match self.guard.check(route, request.method(), request.headers()) {
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

    /// The two endpoints that a flash sale consists of are called directly, which saves the
    /// router's allocations and a tenth of a request's instructions; the router leads to the very
    /// same functions.
    async fn dispatch(&self, request: Request<Body>, route: Route, caller: Caller) -> Response {
        match (route, request.method()) {
            (Route::Orders, &Method::POST) => {
                let (parts, body) = request.into_parts();
                routes::orders::create::create(State(self.app.clone()), caller, parts.headers, body)
                    .await
                    .into_response()
            }
            (Route::Product, &Method::GET) => match PathId::of(request.uri().path()) {
                Ok(id) => {
                    let headers = request.into_parts().0.headers;
                    routes::products::get::get(State(self.app.clone()), id, headers)
                        .await
                        .into_response()
                }
                Err(problem) => problem.into_response(),
            },
            _ => {
                let Ok(response) = self.router.clone().call(request).await;
                response
            }
        }
    }

    /// Gives an error its problem as body, and logs what is ours to mend.
    fn explain(&self, response: &mut Response, id: Option<&HeaderValue>) {
        let problem = response
            .extensions_mut()
            .remove::<Problem>()
            .unwrap_or_else(|| Problem::from(response.status()));
        problem.write(response, id.and_then(|id| id.to_str().ok()).unwrap_or_default());
        let because = || problem.cause().map(|cause| tracing::field::display(Chain(cause)));
        if problem.kind() == Kind::Internal {
            // Without a cause it was a panic, which has a line of its own just before this one.
            tracing::error!(error = because(), "a request failed");
        } else if response.status().is_server_error() && self.may_log() {
            tracing::warn!(
                problem = problem.kind().uri(),
                error = because(),
                "requests are refused; at most one a second is logged"
            );
        }
    }

    fn may_log(&self) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        let may = logged.is_none_or(|last| now - last >= Duration::from_secs(1));
        if may {
            *logged = Some(now);
        }
        may
    }
}

/// The outcome of `future`, or `Err` if it panics. It must not be polled again then.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> std::thread::Result<F::Output> {
    poll_fn(|context| {
        // Broken state cannot be seen afterwards: what a request shares with others is behind
        // locks and channels that survive a panic.
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .map_or_else(|panic| Poll::Ready(Err(panic)), |poll| poll.map(Ok))
    })
    .await
}

/// Each route answers with and without a slash at its end; clients that were written for the
/// reference API use both, and a redirect would lose the body of a POST.
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
    fn a_slash_at_the_end_goes_and_the_query_stays() {
        for (before, after) in [
            ("/orders/", "/orders"),
            ("/orders/?limit=1", "/orders?limit=1"),
            ("http://shop.test/orders/", "/orders"),
        ] {
            assert_eq!(without_last_slash(&before.parse().unwrap()), after);
        }
    }
}
