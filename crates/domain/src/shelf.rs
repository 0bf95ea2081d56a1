//! Giving out the stock of locked products, in the order of the callers' arrival.

mod locked;
mod types;

use crate::{
    CustomerLimit, CustomerRef, Demand, HoldId, HoldStatus, Line, Money, OrderId, OrderStatus,
    ProductId, Quantity, Selling,
};
use locked::{Locked, Product};
pub use types::{Available, Grant, HeldUnits, LockedOrder, Shortfall, StockChange, Taken};

/// Everything that a batch has locked, and what has been given out of it so far.
///
/// Pure: the same demands in the same order have the same outcome. A demand that is refused leaves it as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf(Locked);

impl Shelf {
    /// Puts a locked product on the shelf.
    pub fn put(&mut self, id: ProductId, available: Available) {
        self.0.put(id, available);
    }

    /// Puts a hold on the shelf, whose product is there.
    pub fn put_hold(&mut self, id: HoldId, hold: HeldUnits) {
        self.0.put_hold(id, hold);
    }

    /// Says where a locked order stands.
    pub fn put_order(&mut self, id: OrderId, order: LockedOrder) {
        self.0.put_order(id, order);
    }

    /// Says what a customer has already of a product with a limit.
    pub fn put_taken(&mut self, id: ProductId, customer: CustomerRef, taken: Taken) {
        self.0.put_taken(id, customer, taken);
    }

    /// A hold that was put there.
    pub fn hold(&self, id: HoldId) -> Option<&HeldUnits> {
        self.0.hold(id).ok()
    }

    /// The products of which each customer gets a limited number of units, by ascending id.
    pub fn limits(&self) -> impl Iterator<Item = (ProductId, CustomerLimit)> {
        self.0.products().filter_map(|(id, product)| match product.before.selling {
            Selling::Limited(limit) => Some((id, limit)),
            _ => None,
        })
    }

    /// The products on it that are in a sale, by ascending id.
    pub fn in_sales(&self) -> impl Iterator<Item = ProductId> {
        let in_sale =
            |(_, product): &(ProductId, &Product)| product.before.selling != Selling::Always;
        self.0.products().filter(in_sale).map(|(id, _)| id)
    }

    /// Whether the product is there.
    pub fn has(&self, id: ProductId) -> bool {
        self.0.product(id).is_ok()
    }

    /// Whether the order is there.
    pub fn has_order(&self, id: OrderId) -> bool {
        self.0.order(id).is_ok()
    }

    /// Whether the hold is there.
    pub fn has_hold(&self, id: HoldId) -> bool {
        self.0.hold(id).is_ok()
    }

    /// The products on it, by ascending id, as they were before anything was given out.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &Available)> {
        self.0.products().map(|(id, product)| (id, &product.before))
    }

    /// Whether some units of the product were in holds before the batch.
    pub fn has_holds(&self, id: ProductId) -> bool {
        self.0.product(id).is_ok_and(|product| product.before.held > 0)
    }

    /// Gives a demand what it wants, whole or not at all. One that is refused does not stand in the
    /// way of a later, smaller one.
    ///
    /// Units for a customer that a flash sale limits count from what [`Shelf::put_taken`] has said, however
    /// they are obtained:
    /// - what is taken from stock, to be ordered or held, must fit the limit beside all that the customer has
    ///   ordered and all that is held for them;
    /// - what is ordered from a hold must fit beside what they have ordered. It counts once: no longer as
    ///   held. So a hold from before the sale, or from before the limit was lowered, gives no more than the limit.
    ///
    /// # Errors
    /// Why it gets nothing.
    pub fn serve(
        &mut self,
        demand: &Demand,
        customer: Option<&CustomerRef>,
    ) -> Result<Grant, Shortfall> {
        self.0.whole(|locked| match demand {
            Demand::Order(lines) => {
                let inherited = locked.customer_of_holds(lines, customer)?;
                let customer = customer.or(inherited.as_ref());
                let prices = lines.iter().map(|line| locked.sell(line, customer));
                Ok(Grant::Order { unit_prices: prices.collect::<Result<_, _>>()?, inherited })
            }
            &Demand::Hold { product_id, quantity, expected_price } => {
                let line = Line { expected_price, ..Line::from_stock(product_id, quantity) };
                let price = locked.take(&line, customer, |taken| taken.held += units(quantity))?;
                locked.units(product_id)?.held += units(quantity);
                Ok(Grant::Hold(price))
            }
            Demand::Cancel { order_id, from, settled, lines } => {
                let order = locked.order(*order_id)?;
                if order.status != *from {
                    return Err(Shortfall::OrderMoved(order.status));
                }
                if order.may_be_fulfilled && !settled {
                    return Err(Shortfall::OrderMayBeFulfilled(order.status));
                }
                for line in lines {
                    let product = locked.units(line.product_id)?;
                    product.put_back(line.product_id, line.quantity)?;
                    product.returned += units(line.quantity);
                }
                locked.set_order(*order_id, OrderStatus::Cancelled);
                Ok(Grant::Returned)
            }
            Demand::Release { hold_id, .. } => {
                locked.active(*hold_id)?;
                locked.end_hold(*hold_id, HoldStatus::Released)?;
                Ok(Grant::Returned)
            }
            Demand::Expire { holds, .. } => {
                let mut over = |id: &HoldId| {
                    locked.hold(*id).is_ok_and(|hold| hold.status == HoldStatus::Expired)
                        && locked.end_hold(*id, HoldStatus::Expired).is_ok()
                };
                Ok(Grant::Expired(holds.iter().copied().filter(|id| over(id)).collect()))
            }
        })
    }

    /// Gives back the units of a hold whose time is over. It must be on the shelf.
    ///
    /// # Errors
    /// Somebody has written down its end, or its product is not on the shelf or has no room for the units.
    pub fn expire(&mut self, id: HoldId) -> Result<(), Shortfall> {
        self.0.whole(|locked| locked.end_hold(id, HoldStatus::Expired))
    }

    /// What has changed, by ascending id of the product. A product is among them if any demand that was granted
    /// has touched it, even if others have changed its stock back: the records of those demands rest on it.
    pub fn changes(&self) -> Vec<StockChange> {
        self.0
            .products()
            .filter(|(_, product)| product.units.touched)
            .map(|(product_id, Product { before, units })| StockChange {
                product_id,
                version: before.version + 1,
                delta: units.stock.units() - before.stock.units(),
                left: units.stock,
                held_after: before.held + units.held,
                sold: units.sold,
                returned: units.returned,
                held: units.held,
                on_sale: before.on_sale,
            })
            .collect()
    }
}

/// Parts of demands. Each may leave something half done when it fails: [`Locked::whole`] takes it back.
impl Locked {
    /// Whose the holds of an order are, if it names nobody.
    fn customer_of_holds(
        &self,
        lines: &[Line],
        named: Option<&CustomerRef>,
    ) -> Result<Option<CustomerRef>, Shortfall> {
        let mut customer = named;
        for id in lines.iter().filter_map(|line| line.hold) {
            let of_hold = self.active(id)?.customer.as_ref();
            if customer.is_some() && of_hold.is_some() && customer != of_hold {
                return Err(Shortfall::CustomerDiffers(id));
            }
            customer = customer.or(of_hold);
        }
        Ok(customer.filter(|_| named.is_none()).cloned())
    }

    fn sell(&mut self, line: &Line, customer: Option<&CustomerRef>) -> Result<Money, Shortfall> {
        let &Line { product_id, quantity, hold, .. } = line;
        let sold = units(quantity);
        let Some(hold_id) = hold else {
            let price = self.take(line, customer, |taken| taken.ordered += sold)?;
            self.units(product_id)?.sold += sold;
            return Ok(price);
        };
        let hold = self.active(hold_id)?;
        if (hold.product_id, hold.quantity) != (product_id, quantity) {
            return Err(Shortfall::HoldDiffers(hold_id));
        }
        let (price, counted) = (hold.unit_price, hold.customer.is_some());
        expect(line, price)?;
        // Kept units are sold even if the product was taken out of the shop since, or its flash sale is
        // over.
        if let Selling::Limited(limit) = self.product(product_id)?.before.selling {
            let others = |taken: Taken| taken.ordered;
            self.count(product_id, limit, quantity, customer, others, |taken| {
                taken.ordered += sold;
                taken.held -= if counted { sold } else { 0 };
            })?;
        }
        let product = self.units(product_id)?;
        product.sold += sold;
        product.held -= sold;
        self.end(hold_id, HoldStatus::Used);
        Ok(price)
    }

    /// Takes units out of stock, if the product is sold and its flash sales let the customer have so many more, which
    /// `counted` counts. Gives back what one costs.
    fn take(
        &mut self,
        line: &Line,
        customer: Option<&CustomerRef>,
        counted: impl FnOnce(&mut Taken),
    ) -> Result<Money, Shortfall> {
        let &Line { product_id: id, quantity, .. } = line;
        let Available { price, on_sale, selling, .. } = self.product(id)?.before;
        if !on_sale {
            return Err(Shortfall::UnknownProduct(id));
        }
        match selling {
            Selling::Always | Selling::Open => {}
            Selling::Limited(limit) => {
                let others = |taken: Taken| taken.ordered + taken.held;
                self.count(id, limit, quantity, customer, others, counted)?;
            }
            Selling::From(starts_at) => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: Some(starts_at) });
            }
            Selling::HeldBack => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: None });
            }
            Selling::Over => return Err(Shortfall::SaleOver(id)),
        }
        expect(line, price)?;
        self.units(id)?.take(id, quantity)?;
        Ok(price)
    }

    /// Counts units for a customer with `counted`, if they fit the limit beside what `others` says.
    fn count(
        &mut self,
        id: ProductId,
        limit: CustomerLimit,
        quantity: Quantity,
        customer: Option<&CustomerRef>,
        others: impl FnOnce(Taken) -> i64,
        counted: impl FnOnce(&mut Taken),
    ) -> Result<(), Shortfall> {
        let customer = customer.ok_or(Shortfall::CustomerNeeded(id))?;
        let mut taken = self.taken(id, customer);
        let left = u32::try_from(i64::from(limit.units) - others(taken)).unwrap_or(0);
        if units(quantity) > i64::from(left) {
            return Err(Shortfall::OverLimit { product_id: id, limit: limit.units, left });
        }
        counted(&mut taken);
        self.set_taken(id, customer.clone(), taken);
        Ok(())
    }

    fn end_hold(&mut self, id: HoldId, status: HoldStatus) -> Result<(), Shortfall> {
        let hold = self.hold(id)?;
        let &HeldUnits { product_id, quantity, ref customer, status: before, kept, .. } = hold;
        if !kept {
            return Err(Shortfall::HoldEnded { hold_id: id, status: before });
        }
        // Before anything is changed: an expired hold that has to wait leaves the others of its demand be.
        if !self.product(product_id)?.units.has_room(quantity) {
            return Err(Shortfall::StockFull(product_id));
        }
        // What is over by its time is not counted any more.
        if before == HoldStatus::Active
            && matches!(self.product(product_id)?.before.selling, Selling::Limited(_))
            && let Some(customer) = customer.clone()
        {
            let mut taken = self.taken(product_id, &customer);
            taken.held -= units(quantity);
            self.set_taken(product_id, customer, taken);
        }
        let product = self.units(product_id)?;
        product.put_back(product_id, quantity)?;
        product.held -= units(quantity);
        self.end(id, status);
        Ok(())
    }

    fn active(&self, id: HoldId) -> Result<&HeldUnits, Shortfall> {
        match self.hold(id)? {
            hold if hold.status == HoldStatus::Active => Ok(hold),
            hold => Err(Shortfall::HoldEnded { hold_id: id, status: hold.status }),
        }
    }
}

/// Refuses a line whose customer was told another price.
fn expect(line: &Line, current: Money) -> Result<(), Shortfall> {
    match line.expected_price {
        Some(expected) if expected != current => {
            Err(Shortfall::PriceChanged { product_id: line.product_id, current })
        }
        _ => Ok(()),
    }
}

fn units(quantity: Quantity) -> i64 {
    quantity.units().into()
}

#[cfg(test)]
mod tests;
