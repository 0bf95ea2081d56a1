//! Dead letters: orders that have failed.

mod discard;
mod get;
mod list;
mod replay;
mod replay_many;

pub use discard::Discard;
pub use list::ListDeadLetters;
pub use replay::OperatorRequest;
pub use replay_many::ReplayMany;

use holdfast_domain::{Order, OrderId, OrderStatus};
use holdfast_store::Store;

use crate::{endpoint::BoundEndpoint, orders::unknown, problem::Problem};

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        list::ENDPOINT.answered_by(list::list),
        get::ENDPOINT.answered_by(get::get),
        replay::ENDPOINT.answered_by(replay::replay),
        replay_many::ENDPOINT.answered_by(replay_many::replay_many),
        discard::ENDPOINT.answered_by(discard::discard),
    ]
}

/// An order that has failed.
async fn failed(store: &Store, id: i64) -> Result<Order, Problem> {
    let order = store.order(OrderId(id)).await?.ok_or_else(|| unknown(id))?;
    if order.status == OrderStatus::Failed {
        Ok(order)
    } else {
        Err(Problem::order_moved(order.status))
    }
}
