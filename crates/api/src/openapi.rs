//! The OpenAPI document, made from the declarations of the endpoints.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        Components, Content, ContentBuilder, HeaderBuilder, HttpMethod, InfoBuilder,
        LicenseBuilder, Object, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Response,
        ResponseBuilder, Schema, Server,
        example::ExampleBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::{
    endpoint::{AnswerHeader, BoundEndpoint, Description, Endpoint, Surface, Tag, answer_schema},
    problem::{Problem, ProblemBody, ProblemKind},
    routes,
};

/// The name of the security scheme.
const BEARER: &str = "bearer";

const ABOUT: &str = "Products with stock, and orders that take it.\n\n\
    Every error is an RFC 9457 problem (`application/problem+json`). Its `type` is a link to an explanation, and `errors` \
    lists all wrong fields of an invalid request. Every answer has an `X-Request-Id`: the one \
    from the request if there is one, otherwise a new one. An answer with `Retry-After` means \
    that nothing was changed, unless its `type` says otherwise.\n\n\
    A slash at the end of a path is optional.";

/// The document of a port, for `GET /openapi.json` and `holdfast-api openapi`. `server` is the address of the API:
/// absolute, or relative to the document's address.
pub fn document(surface: Surface, server: &str) -> OpenApi {
    let endpoints: Vec<_> = routes::all()
        .into_iter()
        .filter(|bound| surface.has(&bound.endpoint.method, bound.endpoint.access))
        .collect();
    // Swagger would show tags without an operation as empty groups.
    let used = |tag: &&Tag| endpoints.iter().any(|bound| bound.endpoint.tag == **tag);
    let tags = Tag::ALL
        .iter()
        .filter(used)
        .map(|tag| TagBuilder::new().name(tag.name()).description(Some(tag.description())).build());
    let tags: Vec<_> = tags.collect();
    let mut components = Components::new();
    components.add_security_scheme(BEARER, bearer());
    components
        .schemas
        .insert(ProblemBody::name().into_owned(), answer_schema(ProblemBody::schema()));
    add_schemas::<ProblemBody<'static>>(&mut components);
    let mut paths = PathsBuilder::new();
    for BoundEndpoint { endpoint, description, .. } in endpoints {
        components.schemas.extend(description.components.iter().cloned());
        let method = http_method(&endpoint.method);
        let path = endpoint.path;
        paths = paths.path(path, PathItem::new(method, operation(&endpoint, &description)));
    }
    let title = match surface {
        Surface::Public => "Holdfast",
        Surface::Admin => "Holdfast: administration",
    };
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new(server)]))
        .paths(paths)
        .components(Some(components))
        .tags(Some(tags))
        .build()
}

fn add_schemas<T: ToSchema>(components: &mut Components) {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

fn bearer() -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key (`hf_…`, created with `holdfast-api keys create`), or a token of the OpenID Connect issuer \
                 in the server's settings. Not needed if the server runs with HOLDFAST_AUTH=off.",
            ))
            .build(),
    )
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(endpoint: &Endpoint, description: &Description) -> Operation {
    let mut operation = OperationBuilder::new()
        .tag(endpoint.tag.name())
        .operation_id(Some(endpoint.operation_id))
        .summary(Some(endpoint.summary));
    if !endpoint.description.is_empty() {
        operation = operation.description(Some(endpoint.description));
    }
    operation = match endpoint.access.scope() {
        Some(scope) => operation.security(SecurityRequirement::new(BEARER, [scope.as_str()])),
        None => operation.securities(Some([])),
    };
    if !description.parameters.is_empty() {
        let parameters = description.parameters.iter().map(|one| parameter(endpoint, one.clone()));
        operation = operation.parameters(Some(parameters));
    }
    operation = operation.request_body(description.body.clone());
    for (status, schema) in &description.answers {
        let answer = success(endpoint, description, *status, schema.clone());
        operation = operation.response(status.as_str(), answer);
    }
    for (status, problems) in by_status(&description.problems) {
        operation = operation.response(status.as_str(), problem_answer(&problems, description));
    }
    operation.build()
}

/// A parameter, with its example if it is in the path.
fn parameter(endpoint: &Endpoint, parameter: Parameter) -> Parameter {
    if parameter.parameter_in != ParameterIn::Path {
        return parameter;
    }
    let text = endpoint.path_example;
    let example = text.parse::<i64>().map_or_else(|_| text.into(), serde_json::Value::from);
    ParameterBuilder::from(parameter).example(Some(example)).build()
}

fn success(
    endpoint: &Endpoint,
    description: &Description,
    status: StatusCode,
    schema: Option<RefOr<Schema>>,
) -> Response {
    let text = if status == StatusCode::NOT_MODIFIED {
        "The client has the current version"
    } else {
        endpoint.answer
    };
    let mut answer = ResponseBuilder::new().description(text);
    let Some(schema) = schema else { return answer.build() };
    let media_type = description.media_type.unwrap_or("application/json");
    answer = answer.content(media_type, Content::new(Some(schema)));
    let next =
        AnswerHeader { name: "Link", description: "The link to the next page, with rel=\"next\"" };
    for header in endpoint.headers.iter().chain(description.is_page.then_some(&next)) {
        let text = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(header.description));
        answer = answer.header(header.name, text.build());
    }
    answer.build()
}

fn by_status(problems: &[ProblemKind]) -> BTreeMap<StatusCode, Vec<ProblemKind>> {
    let mut by_status: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for kind in ProblemKind::ALL.iter().filter(|kind| problems.contains(kind)) {
        by_status.entry(kind.status()).or_default().push(*kind);
    }
    by_status
}

/// The answer for problems with the same status, with an example of each.
fn problem_answer(problems: &[ProblemKind], description: &Description) -> Response {
    let explained = |kind: &ProblemKind| format!("{}. {}", kind.title(), kind.explanation());
    let about = if let [only] = problems {
        explained(only)
    } else {
        let each = problems.iter().map(|kind| format!("- `{}`: {}", kind.uri(), explained(kind)));
        each.collect::<Vec<_>>().join("\n")
    };
    let examples = problems.iter().map(|kind| {
        let example = Problem::example(*kind, &description.wrong);
        let value = ExampleBuilder::new().summary(kind.title()).value(Some(example));
        (kind.slug(), value.build())
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ProblemBody::name())))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new().description(about).content("application/problem+json", content).build()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Each operation of both ports, with its name.
    fn operations() -> Vec<(String, Value)> {
        let documents = [Surface::Public, Surface::Admin].map(|surface| document(surface, "/"));
        let documents = documents.map(|document| serde_json::to_value(document).unwrap());
        let paths = documents.iter().flat_map(|document| document["paths"].as_object().unwrap());
        let operations = paths.flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
        });
        operations.collect()
    }

    #[test]
    fn each_problem_of_an_answer_has_its_own_example() {
        for (name, operation) in operations() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                if !status.starts_with(['4', '5']) {
                    continue;
                }
                let examples = &answer["content"]["application/problem+json"]["examples"];
                let examples = examples.as_object().unwrap();
                assert!(!examples.is_empty(), "{name} {status}");
                for (slug, example) in examples {
                    let value = &example["value"];
                    assert_eq!(value["status"].to_string(), *status, "{name} {slug}");
                    assert_eq!(value["type"], format!("/problems/{slug}"), "{name}");
                }
            }
        }
    }

    /// Client generators lose the fields of nested parts.
    #[test]
    fn each_schema_is_an_object_with_all_its_fields_or_one_of_several() {
        for surface in [Surface::Public, Surface::Admin] {
            let document = serde_json::to_value(document(surface, "/")).unwrap();
            for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
                let text = schema.to_string();
                assert!(!text.contains("allOf"), "{name}");
                let forms = schema["oneOf"].as_array().into_iter().flatten();
                let forms: Vec<_> = forms.collect();
                assert!(forms.iter().all(|form| form["$ref"].is_string()), "{name}");
                assert!(schema["type"].is_string() || forms.len() > 1, "{name}");
            }
        }
    }

    #[test]
    fn the_example_of_an_invalid_request_names_what_the_operation_has() {
        for (name, operation) in operations() {
            let examples =
                &operation["responses"]["422"]["content"]["application/problem+json"]["examples"];
            let errors = &examples["validation"]["value"]["errors"];
            for error in errors.as_array().into_iter().flatten() {
                let field = error["field"].as_str().unwrap();
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let known = parameters.into_iter().any(|parameter| parameter["name"] == field);
                let unknown =
                    field == "colour" && !operation["parameters"].to_string().contains("query");
                assert!(known || unknown || !operation["requestBody"].is_null(), "{name}: {field}");
            }
            let takes_something = !operation["requestBody"].is_null();
            assert!(!takes_something || errors.is_array(), "{name}");
        }
    }

    #[test]
    fn summaries_are_short_and_start_with_a_verb() {
        const VERBS: [&str; 17] = [
            "Add", "Cancel", "Change", "Check", "Create", "Delete", "Discard", "Get", "Hold",
            "List", "Place", "Release", "Replay", "Revoke", "Update", "Rename", "Take",
        ];
        for (name, operation) in operations() {
            let summary = operation["summary"].as_str().unwrap();
            let verb = summary.split(' ').next().unwrap();
            assert!(VERBS.contains(&verb), "{name}: {summary}");
            assert!(summary.len() <= 50 && !summary.ends_with('.'), "{name}: {summary}");
        }
    }
}
