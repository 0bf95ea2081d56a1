//! `GET /sales`

use axum::{Json, extract::State};
use holdfast_store::SALES_MAX;

use crate::{
    app::App,
    problem::{Problem, ProblemSchema},
    sales::SaleBody,
};

/// The flash sales
///
/// All of them, those that are over included: the one that ends last comes first.
#[utoipa::path(
    get, path = "/sales", tag = "flash sales", operation_id = "list_sales",
    responses(
        (status = 200, description = "The sales", body = Vec<SaleBody>),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<SaleBody>>, Problem> {
    let now = app.store.clock().await?;
    let sales = app.store.sales(u32::try_from(SALES_MAX).unwrap_or(u32::MAX)).await?;
    Ok(Json(sales.iter().map(|sale| SaleBody::at(sale, now)).collect()))
}
