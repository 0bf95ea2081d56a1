//! Calls the endpoints of the admin port in this process.

use axum::{
    Router,
    body::Body,
    http::{Method, Request, header},
};
use holdfast_cache::Cache;
use holdfast_domain::json;
use holdfast_store::Store;
use holdfast_telemetry::{Chain, settings::MustBe};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tower::ServiceExt as _;

use super::super::output::NotReached;
use crate::{
    app::App, endpoint::Surface, problem::Problem, router::router, settings::RedisCacheSettings,
};

/// The endpoints with their state.
pub(super) struct AdminEndpoints {
    endpoints: Router,
    app: App,
}

impl AdminEndpoints {
    pub(super) async fn open(store: Store, settings: &RedisCacheSettings) -> anyhow::Result<Self> {
        store.check_schema().await?;
        let identity = store.database_identity().await?;
        let cache = Cache::connect(settings.cache())?;
        cache.of_database(&identity);
        let app = App::in_process(store, cache, settings.queue())?;
        Ok(Self { endpoints: router(app.clone(), Surface::Admin), app })
    }

    /// Returns when workers and caches have been notified of all changes.
    pub(super) async fn close(self) {
        self.app.admission.close().await;
        self.app.cache.shutdown().await;
        self.app.store.close().await;
    }

    /// Calls an endpoint. Returns its answer and the cursor of the next page.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(Box<RawValue>, Option<String>)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))?;
        let mut response = self.endpoints.clone().oneshot(request).await?;
        let status = response.status();
        let problem = response.extensions_mut().remove::<Problem>();
        if let Some(problem) = &problem {
            problem.write(&mut response, "");
        }
        let next = response.headers().get(header::LINK).and_then(|link| {
            let (path, _) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
            let (_, query) = path.split_once('?')?;
            let mut fields = form_urlencoded::parse(query.as_bytes());
            Some(fields.find(|(name, _)| name == "cursor")?.1.into_owned())
        });
        let bytes = response.into_body().collect().await?.to_bytes();
        let answer = RawValue::from_string(String::from_utf8(bytes.into())?)?;
        if status.is_success() {
            return Ok((answer, next));
        }
        // The detail names all wrong fields.
        let detail = json::from_str::<Refused>(answer.get())?.detail;
        let mut sentence = detail.unwrap_or_else(|| "The request was refused.".to_owned());
        if let Some(cause) = problem.as_ref().and_then(Problem::cause) {
            sentence = format!("{sentence} {}", Chain(cause));
        }
        Err(match status.as_u16() {
            400 | 422 => MustBe::new(sentence).into(),
            404 | 409 => EndpointRefusal(sentence).into(),
            _ => NotReached(sentence).into(),
        })
    }
}

/// The order does not exist, or its state does not allow the operation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct EndpointRefusal(String);

#[derive(Deserialize)]
struct Refused {
    detail: Option<String>,
}
