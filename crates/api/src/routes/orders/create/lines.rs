//! The lines of an order.

use holdfast_domain::{HoldId, Invalid, Lines, Money, ProductId, Quantity, RequestedLine};
use utoipa::openapi::{Ref, RefOr, Schema, schema::ArrayBuilder};

use crate::{
    limits::OrderLimits,
    problem::FieldError,
    request::{Components, Input, Reading, Request, Value, Wrong, add_components, read_element},
};

/// A line of a new order.
#[derive(Debug, Request)]
pub struct NewItem {
    /// The id of the product.
    #[field(example = 3)]
    product_id: ProductId,
    /// The number of units.
    #[field(example = 1)]
    quantity: Quantity,
    /// The id of a hold of exactly these units.
    hold_id: Option<HoldId>,
    /// The price of one unit that the customer has seen.
    #[field(example = 499.90)]
    expected_price: Option<Money>,
}

impl From<NewItem> for RequestedLine {
    fn from(item: NewItem) -> Self {
        let NewItem { product_id, quantity, hold_id, expected_price } = item;
        Self { product_id, quantity, hold: hold_id, expected_price }
    }
}

/// Lines, in which two lines of the same product have become one with the sum of both.
#[derive(Clone, Debug)]
pub struct OrderItems(pub Lines);

impl Value for OrderItems {
    fn read(input: Input<'_>, reading: &Reading<'_>) -> Result<Self, Wrong> {
        let limits = reading.limits;
        if !input.written().starts_with('[') {
            return Err("must be an array of objects".into());
        }
        let elements = input.elements(limits.lines).filter(|elements| !elements.is_empty());
        let elements = elements
            .ok_or_else(|| Invalid::from(format!("must have 1 to {} elements", limits.lines)))?;
        let (mut lines, mut errors) = (Lines::new(), Vec::new());
        for (at, element) in elements.into_iter().enumerate() {
            match read_element::<NewItem>(element, reading) {
                Ok(item) => {
                    if let Err(detail) = add(&mut lines, item.into(), limits) {
                        errors.push(FieldError::new(format!("[{at}]"), detail));
                    }
                }
                Err(wrong) => errors.extend(wrong.into_iter().map(|error| {
                    let name = match &*error.field {
                        "body" => format!("[{at}]"),
                        field => format!("[{at}].{field}"),
                    };
                    FieldError::new(name, error.detail)
                })),
            }
        }
        if errors.is_empty() { Ok(Self(lines)) } else { Err(Wrong::Within(errors)) }
    }

    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(Ref::from_schema_name(NewItem::NAME)).into()
    }

    fn components(components: &mut Components) {
        add_components::<NewItem>(components);
    }
}

/// Adds a line to an order, or its units to the line of the same product.
fn add(lines: &mut Lines, line: RequestedLine, limits: &OrderLimits) -> Result<(), String> {
    if line.hold.is_some() {
        if lines.iter().any(|other| other.hold == line.hold) {
            return Err("must not name the hold of another line".to_owned());
        }
        lines.push(line);
        return Ok(());
    }
    let same =
        lines.iter_mut().find(|other| other.hold.is_none() && other.product_id == line.product_id);
    match same {
        None => lines.push(line),
        Some(same) => {
            same.expected_price = match (same.expected_price, line.expected_price) {
                (Some(one), Some(other)) if one != other => {
                    return Err(format!(
                        "expects a different price of product {} than another element",
                        line.product_id
                    ));
                }
                (one, other) => one.or(other),
            };
            let sum = i64::from(same.quantity.units()) + i64::from(line.quantity.units());
            same.quantity = Quantity::new(sum, limits.quantity).map_err(|_| {
                format!(
                    "raises the sum for product {} above {} units",
                    line.product_id, limits.quantity
                )
            })?;
        }
    }
    Ok(())
}
