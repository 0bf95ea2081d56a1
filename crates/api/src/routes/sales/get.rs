//! `GET /sales/{name}`

use axum::{Json, extract::State, http::Method};
use holdfast_domain::SaleName;

use super::unknown;
use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, READS, Tag},
    problem::{Problem, ProblemKind},
    request::PathArgument,
    sales::{ReportBody, SaleBody, SaleWithReportBody},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/sales/{name}",
    path_example: "black-friday",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Sales,
    operation_id: "get_sale",
    summary: "Get a flash sale with its report",
    description: "`report` has the number of units sold and the reasons why requests were refused.",
    answer: "The sale",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], READS],
};

pub(super) async fn get(
    State(app): State<App>,
    PathArgument(name): PathArgument<SaleName>,
) -> Result<Json<SaleWithReportBody>, Problem> {
    let now = app.store.clock().await?;
    let sale = app.store.sale(&name).await?.ok_or_else(unknown)?;
    let report = app.store.sale_report(&name).await?.ok_or_else(unknown)?;
    Ok(Json(SaleWithReportBody {
        sale: SaleBody::at(&sale, now),
        report: ReportBody::from(report),
    }))
}
