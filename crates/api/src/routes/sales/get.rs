//! `GET /sales/{name}`

use axum::{
    Json,
    extract::{Path, State},
};

use super::{named, unknown};
use crate::{
    app::App,
    problem::{Problem, ProblemSchema},
    sales::{ReportBody, SaleBody, SaleWithReportBody},
};

/// A flash sale, and how it goes
#[utoipa::path(
    get, path = "/sales/{name}", tag = "flash sales", operation_id = "get_sale",
    params(("name" = String, Path, min_length = 1, max_length = 320,
        description = "What it is called; a `/` in it is sent as `%2F`")),
    responses(
        (status = 200, description = "The sale", body = SaleWithReportBody),
        (status = 404, description = "There is no such sale",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "No sale can have this name",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<SaleWithReportBody>, Problem> {
    let name = named(name)?;
    let now = app.store.clock().await?;
    let sale = app.store.sale(&name).await?.ok_or_else(unknown)?;
    let report = app.store.sale_report(&name).await?.ok_or_else(unknown)?;
    Ok(Json(SaleWithReportBody {
        sale: SaleBody::at(&sale, now),
        report: ReportBody::from(report),
    }))
}
