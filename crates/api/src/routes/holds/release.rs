//! `DELETE /holds/{id}`

use axum::{extract::State, http::Method};
use holdfast_admission::ReleaseHold;
use holdfast_domain::HoldId;

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{ADMISSION, Access, Endpoint, NoContent, Tag},
    holds::unknown,
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/holds/{id}",
    path_example: "1",
    access: Access::Customers(Scope::OrdersWrite),
    tag: Tag::Holds,
    operation_id: "release_hold",
    summary: "Release a hold",
    description: "The units are returned to stock immediately.",
    answer: "The hold is released",
    headers: &[],
    problems: &[&[ProblemKind::NotFound, ProblemKind::HoldEnded], ADMISSION],
};

pub(super) async fn release(
    State(app): State<App>,
    caller: Caller,
    id: Id<HoldId>,
) -> Result<NoContent, Problem> {
    let id = id.0;
    let hold = app.store.hold(HoldId(id)).await?;
    let hold = hold
        .filter(|hold| caller.may_see(hold.customer_ref.as_ref()))
        .ok_or_else(|| unknown(id))?;
    let release = ReleaseHold { hold_id: hold.id, product_id: hold.product_id };
    app.admission.release(release).await?;
    Ok(NoContent)
}
