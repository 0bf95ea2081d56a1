//! Giving out the stock of locked products, in the order of the callers' arrival.

mod locked;
mod types;

use crate::{
    CustomerLimit, CustomerRef, Demand, HoldId, HoldStatus, Line, Money, OrderId, OrderStatus,
    ProductId, Quantity, Selling,
};
use locked::{Locked, Product};
pub use types::{Available, Grant, HeldUnits, LockedOrder, Shortfall, StockChange};

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

    /// Says how many units of a product with a limit a customer has already.
    pub fn put_taken(&mut self, id: ProductId, customer: CustomerRef, units: i64) {
        self.0.put_taken(id, customer, units);
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

    /// The products on it, by ascending id, as they were before anything was given out.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &Available)> {
        self.0.products().map(|(id, product)| (id, &product.before))
    }

    /// Whether some units of the product were in holds before the batch.
    pub fn has_holds(&self, id: ProductId) -> bool {
        self.0.product(id).is_ok_and(|product| product.before.held > 0)
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
        self.0.whole(|locked| match demand {
            Demand::Order(lines) => {
                let prices = lines.iter().map(|line| locked.sell(line, customer));
                prices.collect::<Result<_, _>>().map(Grant::Order)
            }
            Demand::Hold { product_id, quantity } => {
                let price = locked.take(*product_id, *quantity, customer)?;
                locked.units(*product_id)?.held += units(*quantity);
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
            Demand::Expire(_) => Ok(Grant::Returned),
        })
    }

    /// Gives back the units of a hold whose time is over. It must be on the shelf and nobody must have
    /// written down its end yet.
    ///
    /// # Errors
    /// Its product is not on the shelf, or has no room for the units.
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
    fn sell(&mut self, line: &Line, customer: Option<&CustomerRef>) -> Result<Money, Shortfall> {
        let Some(hold_id) = line.hold else {
            let price = self.take(line.product_id, line.quantity, customer)?;
            self.units(line.product_id)?.sold += units(line.quantity);
            return Ok(price);
        };
        let hold = *self.active(hold_id)?;
        if (hold.product_id, hold.quantity) != (line.product_id, line.quantity) {
            return Err(Shortfall::HoldDiffers(hold_id));
        }
        // Kept units are sold even if the product was taken out of the shop since, or its flash sale is
        // over; they counted when they were kept.
        let product = self.units(line.product_id)?;
        product.sold += units(line.quantity);
        product.held -= units(line.quantity);
        self.set_hold(hold_id, HoldStatus::Used);
        Ok(hold.unit_price)
    }

    /// Takes units out of stock, if the product is sold and its flash sales let the customer have so many more. Gives
    /// back what one costs.
    fn take(
        &mut self,
        id: ProductId,
        quantity: Quantity,
        customer: Option<&CustomerRef>,
    ) -> Result<Money, Shortfall> {
        let Available { price, on_sale, selling, .. } = self.product(id)?.before;
        if !on_sale {
            return Err(Shortfall::UnknownProduct(id));
        }
        match selling {
            Selling::Always | Selling::Open => {}
            Selling::Limited(limit) => self.take_of_limit(id, limit.units, quantity, customer)?,
            Selling::From(starts_at) => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: Some(starts_at) });
            }
            Selling::HeldBack => {
                return Err(Shortfall::SaleNotOpen { product_id: id, starts_at: None });
            }
            Selling::Over => return Err(Shortfall::SaleOver(id)),
        }
        self.units(id)?.take(id, quantity)?;
        Ok(price)
    }

    fn take_of_limit(
        &mut self,
        id: ProductId,
        limit: u32,
        quantity: Quantity,
        customer: Option<&CustomerRef>,
    ) -> Result<(), Shortfall> {
        let customer = customer.ok_or(Shortfall::CustomerNeeded(id))?;
        let left = u32::try_from(i64::from(limit) - self.taken(id, customer)).unwrap_or(0);
        if units(quantity) > i64::from(left) {
            return Err(Shortfall::OverLimit { product_id: id, limit, left });
        }
        self.count(id, customer.clone(), units(quantity));
        Ok(())
    }

    fn end_hold(&mut self, id: HoldId, status: HoldStatus) -> Result<(), Shortfall> {
        let HeldUnits { product_id, quantity, .. } = *self.hold(id)?;
        let product = self.units(product_id)?;
        product.put_back(product_id, quantity)?;
        product.held -= units(quantity);
        self.set_hold(id, status);
        Ok(())
    }

    fn active(&self, id: HoldId) -> Result<&HeldUnits, Shortfall> {
        match self.hold(id)? {
            hold if hold.status == HoldStatus::Active => Ok(hold),
            hold => Err(Shortfall::HoldEnded { hold_id: id, status: hold.status }),
        }
    }
}

fn units(quantity: Quantity) -> i64 {
    quantity.units().into()
}

#[cfg(test)]
mod tests;
