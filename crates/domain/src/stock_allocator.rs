//! Allocates the stock of locked products to requests, in the order of their arrival.

mod locked_rows;
mod types;

use crate::{
    CustomerLimit, CustomerRef, HoldId, HoldStatus, Money, OrderId, OrderStatus, ProductId,
    Quantity, RequestedLine, Selling,
};
use locked_rows::{BatchRows, ProductState};
pub use types::{
    AllocatedLine, AllocatedLines, AllocatedOrder, Available, CustomerTotals, HeldUnits,
    LockedOrder, ProductChange, Shortfall,
};

/// Everything that a batch has locked, and the allocations so far.
///
/// Pure: the same requests in the same order have the same outcome. A refused request changes nothing, and does not
/// prevent a later, smaller one.
///
/// If a flash sale limits the units of a customer, they are added to the totals from
/// [`StockAllocator::add_customer_totals`], however they are obtained:
/// - units that are ordered or held from stock must fit the limit together with all units that the customer has ordered
///   or holds;
/// - units that are ordered from a hold must fit the limit together with all units that the customer has ordered. They
///   then no longer count as held, so they count once. A hold from before the sale, or from before the limit was
///   lowered, does not allow more than the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StockAllocator(BatchRows);

/// What the batch has locked.
impl StockAllocator {
    pub fn add_product(&mut self, id: ProductId, available: Available) {
        self.0.add_product(id, available);
    }

    /// Adds a hold. Its product must be added too.
    pub fn add_hold(&mut self, id: HoldId, hold: HeldUnits) {
        self.0.add_hold(id, hold);
    }

    pub fn add_order(&mut self, id: OrderId, order: LockedOrder) {
        self.0.add_order(id, order);
    }

    /// Adds what a customer already has of a product with a limit.
    pub fn add_customer_totals(
        &mut self,
        id: ProductId,
        customer: CustomerRef,
        units: CustomerTotals,
    ) {
        self.0.add_customer_totals(id, customer, units);
    }

    /// A hold that was added.
    pub fn hold_row(&self, id: HoldId) -> Option<&HeldUnits> {
        self.0.hold(id).ok()
    }

    /// The products with a limit for each customer, by ascending id.
    pub fn limits(&self) -> impl Iterator<Item = (ProductId, CustomerLimit)> {
        self.0.products().filter_map(|(id, product)| match product.before.selling {
            Selling::Limited(limit) => Some((id, limit)),
            _ => None,
        })
    }

    /// The products that are in a flash sale, by ascending id.
    pub fn in_sales(&self) -> impl Iterator<Item = ProductId> {
        let in_sale =
            |(_, product): &(ProductId, &ProductState)| product.before.selling != Selling::Always;
        self.0.products().filter(in_sale).map(|(id, _)| id)
    }

    /// Whether the product was added.
    pub fn has_product(&self, id: ProductId) -> bool {
        self.0.product(id).is_ok()
    }

    /// Whether the order was added.
    pub fn has_order(&self, id: OrderId) -> bool {
        self.0.order(id).is_ok()
    }

    /// Whether the hold was added.
    pub fn has_hold(&self, id: HoldId) -> bool {
        self.0.hold(id).is_ok()
    }

    /// The products, by ascending id, as they were before anything was allocated.
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &Available)> {
        self.0.products().map(|(id, product)| (id, &product.before))
    }

    /// Whether some units of the product were in holds before the batch.
    pub fn has_holds_of(&self, id: ProductId) -> bool {
        self.0.product(id).is_ok_and(|product| product.before.held > 0)
    }
}

/// Requests. Each is granted completely, or refused without a change.
impl StockAllocator {
    /// Sells the units of all lines.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn order(
        &mut self,
        lines: &[RequestedLine],
        customer: Option<&CustomerRef>,
    ) -> Result<AllocatedOrder, Shortfall> {
        self.0.whole(|rows| {
            let inherited = rows.customer_of_holds(lines, customer)?;
            let customer = customer.or(inherited.as_ref());
            let lines =
                lines.iter().map(|line| rows.sell(line, customer)).collect::<Result<_, _>>()?;
            Ok(AllocatedOrder { lines, inherited })
        })
    }

    /// Moves units from stock into a hold. Returns the price of one unit.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn hold(
        &mut self,
        product_id: ProductId,
        quantity: Quantity,
        expected_price: Option<Money>,
        customer: Option<&CustomerRef>,
    ) -> Result<Money, Shortfall> {
        let line =
            RequestedLine { expected_price, ..RequestedLine::from_stock(product_id, quantity) };
        self.0.whole(|rows| {
            let price = rows.take(&line, customer, |taken| taken.held += units(quantity))?;
            rows.units(product_id)?.held += units(quantity);
            Ok(price)
        })
    }

    /// Returns the units of an order to stock, if the order still has the status `from`. `settled` means that an
    /// operator knows that the order is not fulfilled, although the receiver may have accepted an attempt.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn cancel(
        &mut self,
        order_id: OrderId,
        from: OrderStatus,
        settled: bool,
        lines: &[RequestedLine],
    ) -> Result<(), Shortfall> {
        self.0.whole(|rows| {
            let order = rows.order(order_id)?;
            if order.status != from {
                return Err(Shortfall::OrderMoved(order.status));
            }
            if order.may_be_fulfilled && !settled {
                return Err(Shortfall::OrderMayBeFulfilled(order.status));
            }
            for line in lines {
                let product = rows.units(line.product_id)?;
                product.put_back(line.product_id, line.quantity)?;
                product.returned += units(line.quantity);
            }
            rows.set_order(order_id, OrderStatus::Cancelled);
            Ok(())
        })
    }

    /// Returns the units of a hold to stock before its time is over.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn release(&mut self, id: HoldId) -> Result<(), Shortfall> {
        self.0.whole(|rows| {
            rows.active(id)?;
            rows.end_hold(id, HoldStatus::Released)
        })
    }

    /// Returns the units of an expired hold to stock, if possible. The result says whether they were returned: they
    /// were not if the end of the hold is already recorded, or if the stock is at its maximum.
    pub fn expire(&mut self, id: HoldId) -> bool {
        let expired = self.0.whole(|rows| match rows.hold(id)?.status {
            HoldStatus::Expired => rows.end_hold(id, HoldStatus::Expired),
            status => Err(Shortfall::HoldEnded { hold_id: id, status }),
        });
        expired.is_ok()
    }
}

impl StockAllocator {
    /// The changed products, by ascending id. A product is included if any granted request has changed it, even if
    /// others have changed its stock back, because the records of these requests refer to it.
    pub fn changes(&self) -> Vec<ProductChange> {
        self.0
            .products()
            .filter(|(_, product)| product.units.touched)
            .map(|(product_id, ProductState { before, units })| ProductChange {
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

/// Parts of requests. A part that fails may leave changes behind, which [`BatchRows::whole`] undoes.
impl BatchRows {
    /// The customer of an order's holds, if the order names no customer.
    fn customer_of_holds(
        &self,
        lines: &[RequestedLine],
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

    fn sell(
        &mut self,
        line: &RequestedLine,
        customer: Option<&CustomerRef>,
    ) -> Result<AllocatedLine, Shortfall> {
        let &RequestedLine { product_id, quantity, hold, .. } = line;
        let unit_price = if let Some(hold_id) = hold {
            self.sell_held(line, hold_id, customer)?
        } else {
            let sold = units(quantity);
            let price = self.take(line, customer, |taken| taken.ordered += sold)?;
            self.units(product_id)?.sold += sold;
            price
        };
        Ok(AllocatedLine { product_id, quantity, hold, unit_price })
    }

    /// Sells the units of a hold. Returns the price of one unit.
    fn sell_held(
        &mut self,
        line: &RequestedLine,
        hold_id: HoldId,
        customer: Option<&CustomerRef>,
    ) -> Result<Money, Shortfall> {
        let &RequestedLine { product_id, quantity, .. } = line;
        let sold = units(quantity);
        let hold = self.active(hold_id)?;
        if (hold.product_id, hold.quantity) != (product_id, quantity) {
            return Err(Shortfall::HoldDiffers(hold_id));
        }
        let (price, counted) = (hold.unit_price, hold.customer.is_some());
        expect(line, price)?;
        // Held units are sold even if the product has been retired or its flash sale is over.
        if let Selling::Limited(limit) = self.product(product_id)?.before.selling {
            let others = |taken: CustomerTotals| taken.ordered;
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

    /// Takes units from stock, if the product is on sale and its flash sales allow the customer that many more units,
    /// which `counted` counts. Returns the price of one unit.
    fn take(
        &mut self,
        line: &RequestedLine,
        customer: Option<&CustomerRef>,
        counted: impl FnOnce(&mut CustomerTotals),
    ) -> Result<Money, Shortfall> {
        let &RequestedLine { product_id: id, quantity, .. } = line;
        let Available { price, on_sale, selling, .. } = self.product(id)?.before;
        if !on_sale {
            return Err(Shortfall::UnknownProduct(id));
        }
        match selling {
            Selling::Always | Selling::Open => {}
            Selling::Limited(limit) => {
                let others = |taken: CustomerTotals| taken.ordered + taken.held;
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

    /// Counts units for a customer with `counted`, if they fit the limit together with `others`.
    fn count(
        &mut self,
        id: ProductId,
        limit: CustomerLimit,
        quantity: Quantity,
        customer: Option<&CustomerRef>,
        others: impl FnOnce(CustomerTotals) -> i64,
        counted: impl FnOnce(&mut CustomerTotals),
    ) -> Result<(), Shortfall> {
        let customer = customer.ok_or(Shortfall::CustomerNeeded(id))?;
        let mut taken = self.customer_totals(id, customer);
        let left = u32::try_from(i64::from(limit.units) - others(taken)).unwrap_or(0);
        if units(quantity) > i64::from(left) {
            return Err(Shortfall::OverLimit { product_id: id, limit: limit.units, left });
        }
        counted(&mut taken);
        self.set_customer_totals(id, customer.clone(), taken);
        Ok(())
    }

    fn end_hold(&mut self, id: HoldId, status: HoldStatus) -> Result<(), Shortfall> {
        let hold = self.hold(id)?;
        let &HeldUnits { product_id, quantity, ref customer, status: before, kept, .. } = hold;
        if !kept {
            return Err(Shortfall::HoldEnded { hold_id: id, status: before });
        }
        // The units of an expired hold do not count as held.
        if before == HoldStatus::Active
            && matches!(self.product(product_id)?.before.selling, Selling::Limited(_))
            && let Some(customer) = customer.clone()
        {
            let mut taken = self.customer_totals(product_id, &customer);
            taken.held -= units(quantity);
            self.set_customer_totals(product_id, customer, taken);
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

/// Refuses a line that expects another price.
fn expect(line: &RequestedLine, current: Money) -> Result<(), Shortfall> {
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
