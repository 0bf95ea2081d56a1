//! Orders.

mod cancel;
pub(crate) mod create;
mod get;
mod list;

pub use create::NewOrder;
pub use list::ListOrders;

use crate::endpoint::BoundEndpoint;

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        create::ENDPOINT.answered_by(create::create),
        list::ENDPOINT.answered_by(list::list),
        get::ENDPOINT.answered_by(get::get),
        cancel::ENDPOINT.answered_by(cancel::cancel),
    ]
}
