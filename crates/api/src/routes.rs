//! The endpoints, one per file, and the router that leads to them.

pub mod api_keys;
pub mod dead_letters;
pub mod docs;
pub mod extract;
pub mod health;
pub mod holds;
pub mod log_level;
pub mod orders;
pub mod problems;
pub mod products;
pub mod sales;

use axum::{Router, response::IntoResponse, routing::get};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    http::Surface,
    problem::{Kind, Problem},
};

/// The documented endpoints of a port, with their part of the OpenAPI document.
pub fn documented(surface: Surface) -> (Router<App>, OpenApi) {
    let endpoints = match surface {
        Surface::Public => OpenApiRouter::new()
            .routes(routes!(products::create::create, products::list::list))
            .routes(routes!(products::get::get, products::update::update, products::delete::delete))
            .routes(routes!(products::adjust_stock::adjust))
            .routes(routes!(products::stock_ledger::list))
            .routes(routes!(orders::create::create, orders::list::list))
            .routes(routes!(orders::get::get))
            .routes(routes!(orders::cancel::cancel))
            .routes(routes!(holds::create::create, holds::list::list))
            .routes(routes!(holds::get::get, holds::release::release)),
        Surface::Admin => OpenApiRouter::new()
            .routes(routes!(api_keys::create::create, api_keys::list::list))
            .routes(routes!(api_keys::revoke::revoke))
            .routes(routes!(sales::list::list))
            .routes(routes!(sales::get::get, sales::put::put, sales::delete::delete))
            .routes(routes!(log_level::get, log_level::put))
            .routes(routes!(dead_letters::list::list))
            .routes(routes!(dead_letters::replay_many::replay_many))
            .routes(routes!(dead_letters::get::get))
            .routes(routes!(dead_letters::replay::replay))
            .routes(routes!(dead_letters::discard::discard)),
    };
    endpoints
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .split_for_parts()
}

/// Everything that answers on a port.
pub fn router(app: App, surface: Surface) -> Router {
    let (router, _) = documented(surface);
    router
        .with_state(app)
        .route("/", get(docs::root))
        .route("/openapi.json", get(async move || docs::openapi(surface)))
        .merge(docs::swagger_ui())
        .route("/problems", get(problems::list))
        .route("/problems/{name}", get(problems::get))
        .fallback(async || Problem::new(Kind::NotFound).into_response())
        .method_not_allowed_fallback(async || Problem::new(Kind::MethodNotAllowed).into_response())
}
