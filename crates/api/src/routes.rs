//! The endpoints, one per file: its declaration, request, answer and handler.

pub mod api_keys;
mod console;
pub mod dead_letters;
mod health;
pub mod holds;
mod log_level;
pub mod orders;
pub mod products;
pub mod sales;

use crate::endpoint::BoundEndpoint;

/// All endpoints of both ports. Those that are called most come first, so that they are found first.
pub fn all() -> Vec<BoundEndpoint> {
    orders::all()
        .into_iter()
        .chain(products::all())
        .chain(holds::all())
        .chain(api_keys::all())
        .chain(sales::all())
        .chain(log_level::all())
        .chain(dead_letters::all())
        .chain(console::all())
        .chain(health::all())
        .collect()
}
