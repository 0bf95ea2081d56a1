//! `GET /sales`

use axum::{extract::State, http::Method};
use holdfast_store::SALES_MAX;

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, JsonArray, READS, Tag},
    problem::Problem,
    sales::SaleBody,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/sales",
    path_example: "",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Sales,
    operation_id: "list_sales",
    summary: "List flash sales",
    description: "All flash sales, including those that are over. The sale with the latest end comes first.",
    answer: "The sales",
    headers: &[],
    problems: &[READS],
};

pub(super) async fn list(State(app): State<App>) -> Result<JsonArray<SaleBody>, Problem> {
    let now = app.store.clock().await?;
    let sales = app.store.sales(u32::try_from(SALES_MAX).unwrap_or(u32::MAX)).await?;
    Ok(JsonArray(sales.iter().map(|sale| SaleBody::at(sale, now)).collect()))
}
