//! The OpenAPI document.

use std::collections::HashSet;

use axum::http::Method;
use utoipa::{
    OpenApi as _,
    openapi::{
        Components, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema,
        path::{Operation, Parameter},
        schema::{SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    access::{self, Scope},
    http::{Route, Surface},
    problem::ProblemSchema,
    routes,
};

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// The parts of the document that belong to no endpoint.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Products with stock, and orders that take it.\n\n\
            Every error is an RFC 9457 problem (`application/problem+json`); its `type` leads to an \
            explanation, and `errors` names each wrong field of an invalid request. Every answer has \
            an `X-Request-Id`, the one of the request if it had one. An answer with `Retry-After` \
            changed nothing unless its `type` says otherwise.\n\n\
            Each path answers with and without a slash at its end.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "products", description = "What is sold, and how much of it is left"),
        (name = "orders", description = "Orders take stock at once, and are fulfilled by workers"),
        (name = "holds", description = "Stock that is kept for somebody for a while, such as a cart's"),
        (name = "flash sales", description = "When products may be ordered, and how much of them one customer gets"),
        (name = "API keys", description = "Who may do what"),
        (name = "dead letters", description = "Orders that could not be fulfilled, and wait for somebody to replay or discard them"),
        (name = "log level", description = "What a process logs, changed while it runs"),
        (name = "health", description = "How this process is"),
    ),
    components(schemas(ProblemSchema)),
)]
struct Frame;

/// The document of a port, as `GET /openapi.json` and `holdfast-api openapi` give it.
pub fn document(surface: Surface) -> OpenApi {
    let (_, endpoints) = routes::documented(surface);
    let mut document = Frame::openapi();
    document.merge(endpoints);
    if surface == Surface::Admin {
        "Holdfast: administration".clone_into(&mut document.info.title);
    }
    let used = used_tags(&document);
    document.tags.iter_mut().for_each(|tags| tags.retain(|tag| used.contains(&tag.name)));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(BEARER, bearer());
    for (path, item) in &mut document.paths.paths {
        let route = Route::of(&path.replace("{id}", "7").replace("{name}", "7"));
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            operation.parameters.iter_mut().flatten().for_each(never_null);
            if let Some(scope) = access::needed(route, &method) {
                secure(operation, scope);
            }
        }
    }
    document
}

/// The tags of the operations that are there: Swagger would show the others as empty groups.
fn used_tags(document: &OpenApi) -> HashSet<String> {
    let items = document.paths.paths.values();
    let operations = items.flat_map(|item| [&item.get, &item.post, &item.put, &item.delete]);
    operations.flatten().flat_map(|operation| operation.tags.iter().flatten()).cloned().collect()
}

/// A parameter is there or not: `Option` makes it one that may be left out, and nothing in a URL is null.
fn never_null(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
        && let SchemaType::Array(kinds) = &mut schema.schema_type
    {
        kinds.retain(|kind| *kind != Type::Null);
        if let [only] = &kinds[..] {
            schema.schema_type = SchemaType::Type(only.clone());
        }
    }
}

fn bearer() -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key (`hf_…`, made with `holdfast-api keys create`), or a token of the OpenID Connect issuer \
                 that the server is set to. Not asked for where the server runs with HOLDFAST_AUTH=off.",
            ))
            .build(),
    )
}

/// Says what an operation needs, and how it answers without.
fn secure(operation: &mut Operation, scope: Scope) {
    operation.security = Some(vec![SecurityRequirement::new(BEARER, [scope.as_str()])]);
    for (status, description) in [
        ("401", "No good key or token".to_owned()),
        ("403", format!("The key or token lacks the scope {scope}, or is bound to one customer")),
        (
            "429",
            "The key or token has sent more requests than it may: try again after Retry-After"
                .to_owned(),
        ),
    ] {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", problem)
            .build();
        operation.responses.responses.insert(status.to_owned(), response.into());
    }
}
