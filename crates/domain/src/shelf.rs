//! Giving out the stock of locked products, in the order of the callers' arrival.

mod types;

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::{
    CustomerLimit, CustomerRef, Demand, HoldId, HoldStatus, Line, Money, OrderId, OrderStatus,
    ProductId, Quantity, Selling, Stock,
};
pub use types::{Available, Grant, HeldUnits, Shortfall, StockChange};

/// Everything that a batch has locked, and what has been given out of it so far.
///
/// Pure: the same demands in the same order have the same outcome.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    products: BTreeMap<ProductId, Product>,
    holds: BTreeMap<HoldId, HeldUnits>,
    orders: BTreeMap<OrderId, OrderStatus>,
    /// Units that customers have of products with a limit.
    taken: BTreeMap<(ProductId, CustomerRef), i64>,
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

    /// Says how many units of a product with a limit a customer has already.
    pub fn put_taken(&mut self, id: ProductId, customer: CustomerRef, units: i64) {
        self.taken.insert((id, customer), units);
    }

    /// The products of which each customer gets a limited number of units, by ascending id.
    pub fn limits(&self) -> impl Iterator<Item = (ProductId, CustomerLimit)> {
        self.products.iter().filter_map(|(id, product)| match product.before.selling {
            Selling::Limited(limit) => Some((*id, limit)),
            _ => None,
        })
    }

    /// The products on it that are in a sale, by ascending id.
    pub fn in_sales(&self) -> impl Iterator<Item = ProductId> {
        let in_sale =
            |(_, product): &(&ProductId, &Product)| product.before.selling != Selling::Always;
        self.products.iter().filter(in_sale).map(|(id, _)| *id)
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
    /// way of a later, smaller one. Units for a customer that a flash sale limits count from what
    /// [`Shelf::put_taken`] has said.
    ///
    /// [`Demand::Expire`] is given nothing here: see [`Shelf::expire`].
    ///
    /// # Errors
    /// Why it gets nothing.
    pub fn serve(
        &mut self,
        demand: &Demand,
        customer: Option<&CustomerRef>,
    ) -> Result<Grant, Shortfall> {
        match demand {
            Demand::Order(lines) => self.sell(lines, customer).map(Grant::Order),
            Demand::Hold { product_id, quantity } => {
                self.allow(*product_id, *quantity, customer)?;
                let product = self.on_sale(*product_id)?;
                product.take(*product_id, *quantity)?;
                product.held += units(*quantity);
                let price = product.before.price;
                self.count(*product_id, customer, units(*quantity));
                Ok(Grant::Hold(price))
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

    fn sell(
        &mut self,
        lines: &[Line],
        customer: Option<&CustomerRef>,
    ) -> Result<SmallVec<[Money; 1]>, Shortfall> {
        let mut prices = SmallVec::new();
        for (at, line) in lines.iter().enumerate() {
            match self.sell_line(line, customer) {
                Ok(price) => prices.push(price),
                Err(shortfall) => {
                    for line in lines.iter().take(at) {
                        self.take_back(line, customer);
                    }
                    return Err(shortfall);
                }
            }
        }
        Ok(prices)
    }

    fn sell_line(
        &mut self,
        line: &Line,
        customer: Option<&CustomerRef>,
    ) -> Result<Money, Shortfall> {
        let sold = units(line.quantity);
        let Some(hold_id) = line.hold else {
            self.allow(line.product_id, line.quantity, customer)?;
            let product = self.on_sale(line.product_id)?;
            product.take(line.product_id, line.quantity)?;
            product.sold += sold;
            let price = product.before.price;
            self.count(line.product_id, customer, sold);
            return Ok(price);
        };
        let hold = *self.active(hold_id)?;
        if (hold.product_id, hold.quantity) != (line.product_id, line.quantity) {
            return Err(Shortfall::HoldDiffers(hold_id));
        }
        // Kept units are sold even if the product was taken out of the shop since, or its flash sale is
        // over; they counted when they were kept.
        let product = self.product(line.product_id)?;
        product.sold += sold;
        product.held -= sold;
        product.touched = true;
        self.set_hold(hold_id, HoldStatus::Used);
        Ok(hold.unit_price)
    }

    /// Undoes `sell_line`.
    fn take_back(&mut self, line: &Line, customer: Option<&CustomerRef>) {
        let sold = units(line.quantity);
        if line.hold.is_none() {
            self.count(line.product_id, customer, -sold);
        }
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

    /// Whether the product's flash sales let the customer have so many units more.
    fn allow(
        &mut self,
        id: ProductId,
        quantity: Quantity,
        customer: Option<&CustomerRef>,
    ) -> Result<(), Shortfall> {
        let limit = match self.on_sale(id)?.before.selling {
            Selling::Always | Selling::Open => return Ok(()),
            Selling::Limited(limit) => limit.units,
            Selling::From(starts_at) => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: Some(starts_at) });
            }
            Selling::HeldBack => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: None });
            }
            Selling::Over => return Err(Shortfall::SaleOver(id)),
        };
        let customer = customer.ok_or(Shortfall::CustomerNeeded(id))?;
        let taken = self.taken.get(&(id, customer.clone())).copied().unwrap_or(0);
        let left = u32::try_from(i64::from(limit) - taken).unwrap_or(0);
        if units(quantity) > i64::from(left) {
            return Err(Shortfall::OverLimit { product_id: id, limit, left });
        }
        Ok(())
    }

    fn count(&mut self, id: ProductId, customer: Option<&CustomerRef>, more: i64) {
        let limited = |product: &Product| matches!(product.before.selling, Selling::Limited(_));
        if let Some(customer) = customer
            && self.products.get(&id).is_some_and(limited)
        {
            *self.taken.entry((id, customer.clone())).or_default() += more;
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
