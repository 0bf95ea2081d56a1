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

/// An order that stands there and that only an operator can take back: one that has failed, or one that is
/// pending and may be fulfilled.
async fn unsettled(app: &App, id: i64, state: OrderStatus) -> Result<Order, Problem> {
    let order = app.store.order(OrderId(id)).await?.ok_or_else(|| unknown(id))?;
    let anybodys = order.status == OrderStatus::Pending && !order.may_be_fulfilled;
    if order.status == state && !anybodys {
        Ok(order)
    } else {
        Err(Problem::order_moved(order.status))
    }
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
