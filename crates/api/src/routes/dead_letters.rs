//! Dead letters: orders that have failed.

pub mod discard;
pub mod get;
pub mod list;
pub mod replay;
pub mod replay_many;

use holdfast_domain::{Order, OrderId, OrderStatus};

use crate::{
    app::App,
    problem::{Kind, Problem},
};

fn unknown(id: i64) -> Problem {
    Problem::with_detail(Kind::NotFound, format!("There is no order with the id {id}."))
}

/// An order that has failed.
async fn failed(app: &App, id: i64) -> Result<Order, Problem> {
    let order = app.store.order(OrderId(id)).await?.ok_or_else(|| unknown(id))?;
    if order.status == OrderStatus::Failed {
        Ok(order)
    } else {
        Err(Problem::order_moved(order.status))
    }
}
