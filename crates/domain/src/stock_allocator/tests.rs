use super::*;
use crate::Stock;

mod flash_sales;
mod holds;
mod orders;
mod properties;

fn quantity(units: i64) -> Quantity {
    Quantity::new(units, 1_000).unwrap()
}

fn stock(units: i64) -> Stock {
    Stock::new(units).unwrap()
}

/// Adds a product again, with changes.
fn change_product(allocator: &mut StockAllocator, id: i64, change: impl FnOnce(&mut Available)) {
    let mut available = allocator.0.product(ProductId(id)).unwrap().before;
    change(&mut available);
    allocator.add_product(ProductId(id), available);
}

fn customer(name: &str) -> CustomerRef {
    CustomerRef::new(name.to_owned()).unwrap()
}

/// Products 1, 2, … with these stocks; the price of each is its id.
fn allocator(stocks: &[(i64, bool)]) -> StockAllocator {
    let mut allocator = StockAllocator::default();
    for (id, &(units, on_sale)) in (1..).zip(stocks) {
        let price = Money::from_minor(100 * id).unwrap();
        let selling = Selling::Always;
        let available =
            Available { stock: stock(units), held: 0, price, version: 7, on_sale, selling };
        allocator.add_product(ProductId(id), available);
    }
    allocator
}

fn line(product: i64, units: i64) -> RequestedLine {
    RequestedLine::from_stock(ProductId(product), quantity(units))
}

fn hold(
    allocator: &mut StockAllocator,
    product: i64,
    units: i64,
    customer: Option<&CustomerRef>,
) -> Result<Money, Shortfall> {
    allocator.hold(ProductId(product), quantity(units), None, customer)
}

/// The prices of an order that was granted.
fn prices(order: Result<AllocatedOrder, Shortfall>) -> Result<Vec<i64>, Shortfall> {
    order.map(|order| order.lines.iter().map(|line| line.unit_price.minor()).collect())
}

fn with_hold(allocator: &mut StockAllocator, id: i64, product: i64, units: i64) -> RequestedLine {
    let held = HeldUnits {
        product_id: ProductId(product),
        quantity: quantity(units),
        unit_price: Money::from_minor(1).unwrap(),
        customer: None,
        status: HoldStatus::Active,
        kept: true,
    };
    allocator.add_hold(HoldId(id), held);
    change_product(allocator, product, |product| product.held += units);
    RequestedLine { hold: Some(HoldId(id)), ..line(product, units) }
}

fn untouched(status: OrderStatus) -> LockedOrder {
    LockedOrder { status, may_be_fulfilled: false }
}

/// Adds a hold of product 1 for a customer.
fn hold_for(
    allocator: &mut StockAllocator,
    id: i64,
    name: Option<&str>,
    units: i64,
) -> RequestedLine {
    let from_hold = with_hold(allocator, id, 1, units);
    let hold = HeldUnits {
        customer: name.map(customer),
        ..allocator.hold_row(HoldId(id)).unwrap().clone()
    };
    allocator.add_hold(HoldId(id), hold);
    from_hold
}
