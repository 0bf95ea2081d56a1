//! Products.

mod adjust_stock;
mod create;
mod delete;
pub(crate) mod get;
mod list;
mod stock_ledger;
mod update;

pub use adjust_stock::StockAdjustment;
pub use create::NewProduct;
pub use list::ListProducts;
pub use update::ProductPatch;

use crate::endpoint::BoundEndpoint;

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        get::ENDPOINT.answered_by(get::get),
        create::ENDPOINT.answered_by(create::create),
        list::ENDPOINT.answered_by(list::list),
        update::ENDPOINT.answered_by(update::update),
        delete::ENDPOINT.answered_by(delete::delete),
        adjust_stock::ENDPOINT.answered_by(adjust_stock::adjust),
        stock_ledger::ENDPOINT.answered_by(stock_ledger::list),
    ]
}
