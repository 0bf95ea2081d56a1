//! `GET /charts/{name}`

use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use holdfast_domain::Invalid;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};

use super::console;
use crate::{
    access::Scope,
    app::App,
    console::charts::{Chart, WIDTH, WIDTH_MAX, WIDTH_MIN},
    endpoint::{Access, Answer, Description, Endpoint, Tag},
    problem::{Problem, ProblemKind},
    request::{PathArgument, PathText, Query, Request, WholeNumber},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/charts/{name}",
    path_example: "orders",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Console,
    operation_id: "get_chart",
    summary: "Get a chart of the last five minutes",
    description: "An SVG image of data in the memory of the process that answers. `aria-label` describes the chart in \
                  words. Colours are attributes, so that a style sheet can replace them.\n\n\
                  404 if the console is off (`HOLDFAST_CONSOLE`).",
    answer: "The chart",
    headers: &[],
    problems: &[&[ProblemKind::NotFound]],
};

/// The size of the chart.
#[derive(Debug, Request)]
pub struct ChartSize {
    /// The width in pixels, rounded down to a multiple of 20; 640 if not given
    #[field(nullable = false)]
    width: Option<WholeNumber<{ WIDTH_MIN as i64 }, { WIDTH_MAX as i64 }>>,
}

impl PathText for Chart {
    const NAME: &'static str = "name";
    const DESCRIPTION: &'static str = "Which chart";
    const WRONG: Option<&'static str> =
        Some("must be orders, refusals, waits, batches, queue or age");

    fn read(text: String) -> Result<Self, Invalid> {
        Self::named(&text).ok_or_else(|| Self::WRONG.unwrap_or_default().into())
    }

    fn schema() -> RefOr<Schema> {
        let names = Self::NAMES.iter().copied();
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).into()
    }
}

/// 200 with an image.
pub struct Svg(Bytes);

impl IntoResponse for Svg {
    fn into_response(self) -> Response {
        let media_type = HeaderValue::from_static(Self::MEDIA_TYPE);
        ([(header::CONTENT_TYPE, media_type)], self.0).into_response()
    }
}

impl Svg {
    const MEDIA_TYPE: &'static str = "image/svg+xml";
}

impl Answer for Svg {
    fn describe(description: &mut Description) {
        let text = ObjectBuilder::new().schema_type(Type::String);
        description.answers.push((StatusCode::OK, Some(text.into())));
        description.media_type = Some(Self::MEDIA_TYPE);
    }
}

pub(super) async fn chart(
    State(app): State<App>,
    chart: PathArgument<Chart>,
    Query(size): Query<ChartSize>,
) -> Result<Svg, Problem> {
    let width = size.width.and_then(|width| u32::try_from(width.0).ok()).unwrap_or(WIDTH);
    let drawn = console(&app)?.chart(chart.0, width);
    drawn.map(Svg).map_err(|error| Problem::new(ProblemKind::Internal).because(error))
}
