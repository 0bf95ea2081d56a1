//! Holds.

mod create;
mod get;
mod list;
mod release;

pub use create::NewHold;
pub use list::ListHolds;

use crate::endpoint::BoundEndpoint;

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        create::ENDPOINT.answered_by(create::create),
        list::ENDPOINT.answered_by(list::list),
        get::ENDPOINT.answered_by(get::get),
        release::ENDPOINT.answered_by(release::release),
    ]
}
