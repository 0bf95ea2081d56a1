//! Giving out the stock of locked products, in the order of the callers' arrival.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::{
    Demand, HoldId, HoldStatus, Line, Money, OrderId, OrderStatus, ProductId, Quantity, Stock,
};

/// What a locked product row has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Units left.
    pub stock: Stock,
    /// Units in active holds; they are not in `stock`.
    pub held: i64,
    /// What one unit costs.
    pub price: Money,
    /// The row's version before the batch.
    pub version: i64,
    /// Whether the product is sold at all; one that was taken out of the shop is not.
    pub on_sale: bool,
}

/// The units of a hold, as they lie on the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldUnits {
    /// Of which product.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
    /// What one unit cost when the hold was made: the price that an order from it pays.
    pub unit_price: Money,
    /// Where the hold stands. One whose time is over is [`HoldStatus::Expired`], whether or not
    /// somebody has written that down, but its units are on the shelf only when it is.
    pub status: HoldStatus,
}

/// Everything that a batch has locked, and what has been given out of it so far.
///
/// Pure: the same demands in the same order have the same outcome.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    products: BTreeMap<ProductId, Product>,
    holds: BTreeMap<HoldId, HeldUnits>,
    orders: BTreeMap<OrderId, OrderStatus>,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    before: Available,
    stock: Stock,
    sold: i64,
    returned: i64,
    /// Taken into holds, less what came back from them.
    held: i64,
    touched: bool,
}

/// What a demand is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The order's units, at these prices for one unit of each line.
    Order(SmallVec<[Money; 1]>),
    /// The units are held, at this price.
    Hold(Money),
    /// The units are back in stock.
    Returned,
}

/// Why a demand gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There is no such product, or it is no longer sold.
    UnknownProduct(ProductId),
    /// Fewer units are left than are asked for.
    NotEnough {
        /// Of which product.
        product_id: ProductId,
        /// What was left.
        left: Stock,
    },
    /// There is no such hold.
    UnknownHold(HoldId),
    /// The hold keeps nothing any more.
    HoldEnded {
        /// Which one.
        hold_id: HoldId,
        /// How it ended.
        status: HoldStatus,
    },
    /// The hold is of another product or another quantity.
    HoldDiffers(HoldId),
    /// There is no such order.
    UnknownOrder,
    /// The order does not stand any more where the caller has seen it.
    OrderMoved(OrderStatus),
    /// The shop cannot hold that many units of the product.
    StockFull(ProductId),
}

/// A product that a batch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// Which one.
    pub product_id: ProductId,
    /// The version that its row gets.
    pub version: i64,
    /// What its stock changes by: `returned - sold - held`.
    pub delta: i64,
    /// What is left afterwards.
    pub left: Stock,
    /// Units in holds afterwards.
    pub held_after: i64,
    /// Units sold, from stock or from holds.
    pub sold: i64,
    /// Units of cancelled orders.
    pub returned: i64,
    /// Units taken into holds, less those that came out of them.
    pub held: i64,
    /// Whether the product is sold at all; units can still come back to one that is not.
    pub on_sale: bool,
}

impl Shelf {
    /// Puts a locked product on the shelf.
    pub fn put(&mut self, id: ProductId, available: Available) {
        let product = Product {
            before: available,
            stock: available.stock,
            sold: 0,
            returned: 0,
            held: 0,
            touched: false,
        };
        self.products.insert(id, product);
    }

    /// Puts a hold on the shelf, whose product is there.
    pub fn put_hold(&mut self, id: HoldId, hold: HeldUnits) {
        self.holds.insert(id, hold);
    }

    /// Says where a locked order stands.
    pub fn put_order(&mut self, id: OrderId, status: OrderStatus) {
        self.orders.insert(id, status);
    }

    /// Whether the product is there.
    pub fn has(&self, id: ProductId) -> bool {
        self.products.contains_key(&id)
    }

    /// The products on it, by ascending id, as they were before anything was given out.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &Available)> {
        self.products.iter().map(|(id, product)| (*id, &product.before))
    }

    /// Whether some units of the product were in holds before the batch.
    pub fn has_holds(&self, id: ProductId) -> bool {
        self.products.get(&id).is_some_and(|product| product.before.held > 0)
    }

    /// Gives a demand what it wants, whole or not at all. One that is refused does not stand in the
    /// way of a later, smaller one.
    ///
    /// [`Demand::Expire`] is given nothing here: see [`Shelf::expire`].
    ///
    /// # Errors
    /// Why it gets nothing.
    pub fn serve(&mut self, demand: &Demand) -> Result<Grant, Shortfall> {
        match demand {
            Demand::Order(lines) => self.sell(lines).map(Grant::Order),
            Demand::Hold { product_id, quantity } => {
                let product = self.on_sale(*product_id)?;
                product.take(*product_id, *quantity)?;
                product.held += units(*quantity);
                Ok(Grant::Hold(product.before.price))
            }
            Demand::Cancel { order_id, from, lines } => {
                match self.orders.get(order_id) {
                    None => return Err(Shortfall::UnknownOrder),
                    Some(status) if status != from => return Err(Shortfall::OrderMoved(*status)),
                    Some(_) => {}
                }
                for line in lines {
                    // A product may stand on several lines.
                    let of_it = lines.iter().filter(|other| other.product_id == line.product_id);
                    let coming: i64 = of_it.map(|line| units(line.quantity)).sum();
                    if self.product(line.product_id)?.room() < coming {
                        return Err(Shortfall::StockFull(line.product_id));
                    }
                }
                for line in lines {
                    let product = self.product(line.product_id)?;
                    product.put_back(line.quantity);
                    product.returned += units(line.quantity);
                }
                self.orders.insert(*order_id, OrderStatus::Cancelled);
                Ok(Grant::Returned)
            }
            Demand::Release { hold_id, .. } => {
                self.active(*hold_id)?;
                self.end_hold(*hold_id, HoldStatus::Released)?;
                Ok(Grant::Returned)
            }
            Demand::Expire(_) => Ok(Grant::Returned),
        }
    }

    /// Gives back the units of a hold whose time is over. It must be on the shelf and nobody must have
    /// written down its end yet.
    ///
    /// # Errors
    /// Its product is not on the shelf, or has no room for the units.
    pub fn expire(&mut self, id: HoldId) -> Result<(), Shortfall> {
        self.end_hold(id, HoldStatus::Expired)
    }

    /// What has changed, by ascending id of the product.
    pub fn changes(&self) -> Vec<StockChange> {
        self.products
            .iter()
            .filter(|(_, product)| product.touched)
            .map(|(id, product)| StockChange {
                product_id: *id,
                version: product.before.version + 1,
                delta: product.stock.units() - product.before.stock.units(),
                left: product.stock,
                held_after: product.before.held + product.held,
                sold: product.sold,
                returned: product.returned,
                held: product.held,
                on_sale: product.before.on_sale,
            })
            .collect()
    }

    fn sell(&mut self, lines: &[Line]) -> Result<SmallVec<[Money; 1]>, Shortfall> {
        let mut prices = SmallVec::new();
        for (at, line) in lines.iter().enumerate() {
            match self.sell_line(line) {
                Ok(price) => prices.push(price),
                Err(shortfall) => {
                    for line in lines.iter().take(at) {
                        self.take_back(line);
                    }
                    return Err(shortfall);
                }
            }
        }
        Ok(prices)
    }

    fn sell_line(&mut self, line: &Line) -> Result<Money, Shortfall> {
        let sold = units(line.quantity);
        let Some(hold_id) = line.hold else {
            let product = self.on_sale(line.product_id)?;
            product.take(line.product_id, line.quantity)?;
            product.sold += sold;
            return Ok(product.before.price);
        };
        let hold = *self.active(hold_id)?;
        if (hold.product_id, hold.quantity) != (line.product_id, line.quantity) {
            return Err(Shortfall::HoldDiffers(hold_id));
        }
        // Kept units are sold even if the product was taken out of the shop since.
        let product = self.product(line.product_id)?;
        product.sold += sold;
        product.held -= sold;
        product.touched = true;
        self.set_hold(hold_id, HoldStatus::Used);
        Ok(hold.unit_price)
    }

    /// Undoes `sell_line`.
    fn take_back(&mut self, line: &Line) {
        let sold = units(line.quantity);
        if let Some(product) = self.products.get_mut(&line.product_id) {
            product.sold -= sold;
            match line.hold {
                None => product.put_back(line.quantity),
                Some(_) => product.held += sold,
            }
            product.touched = (product.sold, product.returned, product.held) != (0, 0, 0)
                || product.stock != product.before.stock;
        }
        if let Some(hold_id) = line.hold {
            self.set_hold(hold_id, HoldStatus::Active);
        }
    }

    fn end_hold(&mut self, id: HoldId, status: HoldStatus) -> Result<(), Shortfall> {
        let hold = *self.holds.get(&id).ok_or(Shortfall::UnknownHold(id))?;
        let product = self.product(hold.product_id)?;
        if product.room() < units(hold.quantity) {
            return Err(Shortfall::StockFull(hold.product_id));
        }
        product.put_back(hold.quantity);
        product.held -= units(hold.quantity);
        self.set_hold(id, status);
        Ok(())
    }

    fn active(&self, id: HoldId) -> Result<&HeldUnits, Shortfall> {
        match self.holds.get(&id) {
            None => Err(Shortfall::UnknownHold(id)),
            Some(hold) if hold.status == HoldStatus::Active => Ok(hold),
            Some(hold) => Err(Shortfall::HoldEnded { hold_id: id, status: hold.status }),
        }
    }

    fn set_hold(&mut self, id: HoldId, status: HoldStatus) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.status = status;
        }
    }

    fn product(&mut self, id: ProductId) -> Result<&mut Product, Shortfall> {
        self.products.get_mut(&id).ok_or(Shortfall::UnknownProduct(id))
    }

    fn on_sale(&mut self, id: ProductId) -> Result<&mut Product, Shortfall> {
        self.product(id).and_then(|product| {
            product.before.on_sale.then_some(product).ok_or(Shortfall::UnknownProduct(id))
        })
    }
}

impl Product {
    fn take(&mut self, id: ProductId, quantity: Quantity) -> Result<(), Shortfall> {
        self.stock = self
            .stock
            .take(quantity)
            .ok_or(Shortfall::NotEnough { product_id: id, left: self.stock })?;
        self.touched = true;
        Ok(())
    }

    /// How many more units the shop can hold.
    fn room(&self) -> i64 {
        crate::MAX_STOCK - self.stock.units()
    }

    /// Only with [`Product::room`] for it.
    fn put_back(&mut self, quantity: Quantity) {
        self.stock = self.stock.put_back(quantity);
        self.touched = true;
    }
}

fn units(quantity: Quantity) -> i64 {
    quantity.units().into()
}

#[cfg(test)]
mod tests;
