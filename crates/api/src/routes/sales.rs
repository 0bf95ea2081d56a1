//! Flash sales, on the admin port.

mod delete;
mod get;
mod list;
mod put;

pub use put::NewSale;

use crate::{
    endpoint::BoundEndpoint,
    problem::{Problem, ProblemKind},
};

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        list::ENDPOINT.answered_by(list::list),
        get::ENDPOINT.answered_by(get::get),
        put::ENDPOINT.answered_by(put::put),
        delete::ENDPOINT.answered_by(delete::delete),
    ]
}

fn unknown() -> Problem {
    Problem::with_detail(ProblemKind::NotFound, "There is no sale of this name.")
}
