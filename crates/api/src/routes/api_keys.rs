//! API keys, on the admin port.

mod create;
mod list;
mod revoke;

pub use create::NewApiKey;

use crate::endpoint::BoundEndpoint;

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        create::ENDPOINT.answered_by(create::create),
        list::ENDPOINT.answered_by(list::list),
        revoke::ENDPOINT.answered_by(revoke::revoke),
    ]
}
