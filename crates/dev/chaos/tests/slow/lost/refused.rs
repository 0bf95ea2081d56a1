//! Writes that were done although clients were told that they were refused.

use holdfast_bench::audit::Log;
use holdfast_bench::audit::Write;

use super::Lost;

/// Existing writes, as if they had been refused.
pub fn refused(log: &Log) -> Vec<Lost> {
    let each = |route: &str| {
        let is_renamed = |write: &Write| {
            let Write::CreateProduct { id: Some(made), .. } = write else { return false };
            log.writes().any(|(it, _)| matches!(it, Write::UpdateProduct { id, .. } if id == made))
        };
        // An order from a hold is marked with the hold, which was not refused.
        let is_from_hold = |write: &Write| {
            let Write::PlaceOrder { lines, .. } = write else { return false };
            lines.iter().any(|line| line.hold_id.is_some())
        };
        let of_route = |write: &Write| {
            write.route() == route
                && write.key().is_none()
                && !is_renamed(write)
                && !is_from_hold(write)
        };
        let write = log.answered.iter().rev().find(|write| of_route(write)).unwrap().clone();
        let mut log = log.clone();
        log.answered.retain(|other| other.mark() != write.mark());
        let expected = format!(" `{}`", write.mark().unwrap());
        log.refused.push(write);
        Lost {
            what: "the meaning of a refusal",
            sql: "UPDATE products SET description = 'touched'".to_owned(),
            expected: format!("{}{expected}", named(route)),
            log,
        }
    };
    let routes = ["POST /products", "POST /orders", "POST /holds", "POST /api-keys"];
    let more = ["POST /products/{id}/stock", "POST /dead-letters/{id}/replay"];
    routes.into_iter().chain(more).map(each).collect()
}

fn named(route: &str) -> &'static str {
    match route {
        "POST /products" => "product",
        "POST /orders" => "order",
        "POST /holds" => "hold",
        "POST /api-keys" => "key",
        "POST /products/{id}/stock" => "change of stock",
        _ => "dead letter",
    }
}
