//! The router of a port: its endpoints, and the documentation.

use axum::{Router, response::IntoResponse, routing::get};

use crate::{
    app::App,
    console::page,
    docs,
    endpoint::Surface,
    problem::{Problem, ProblemKind},
    routes,
};

/// The router of a port.
pub fn router(app: App, surface: Surface) -> Router {
    let has_console = surface == Surface::Admin && app.console.is_some();
    let router = routes::all()
        .into_iter()
        .filter(|bound| surface.has(&bound.endpoint.method, bound.endpoint.access))
        .fold(Router::new(), |router, bound| router.route(bound.endpoint.path, bound.router))
        .with_state(app)
        .route("/", get(docs::to_docs))
        .route("/redoc", get(docs::to_docs))
        .route("/openapi.json", get(async move |base| docs::openapi(surface, base)))
        .route("/docs", get(docs::page))
        .route("/docs/", get(docs::page_below))
        .route("/docs/{file}", get(docs::file))
        .route("/problems", get(docs::problems::list))
        .route("/problems/{name}", get(docs::problems::get));
    let router = if has_console {
        router.route("/console", get(page::page)).route("/console/{name}", get(page::file))
    } else {
        router
    };
    router
        .fallback(async || Problem::new(ProblemKind::NotFound).into_response())
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemKind::MethodNotAllowed).into_response()
        })
}
