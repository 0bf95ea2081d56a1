//! `GET /holds/{id}`

use axum::{Json, extract::State, http::Method};
use holdfast_domain::HoldId;

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{Access, Endpoint, READS, Tag},
    holds::{HoldBody, unknown},
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/holds/{id}",
    path_example: "1",
    access: Access::Customers(Scope::OrdersRead),
    tag: Tag::Holds,
    operation_id: "get_hold",
    summary: "Get a hold",
    description: "A hold is `expired` as soon as its time is over, even if its units have not been returned to \
                  stock yet.",
    answer: "The hold",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], READS],
};

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    id: Id<HoldId>,
) -> Result<Json<HoldBody>, Problem> {
    let id = id.0;
    let hold = app.reads.hold(HoldId(id)).await?;
    let hold = hold.filter(|hold| caller.may_see(hold.customer_ref.as_ref()));
    Ok(Json(hold.ok_or_else(|| unknown(id))?.into()))
}
