//! The rows that a batch has locked, and the allocations so far.
//!
//! Each change goes through a method of [`BatchRows`] that first records the previous state. So a request that
//! is refused halfway changes nothing.

use std::collections::BTreeMap;

use super::{Available, CustomerTotals, HeldUnits, LockedOrder, Shortfall};
use crate::{
    CustomerRef, HoldId, HoldStatus, MAX_STOCK, OrderId, OrderStatus, ProductId, Quantity, Stock,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchRows {
    products: BTreeMap<ProductId, ProductState>,
    holds: BTreeMap<HoldId, HeldUnits>,
    orders: BTreeMap<OrderId, LockedOrder>,
    /// What customers have of products with a limit.
    customer_totals: BTreeMap<(ProductId, CustomerRef), CustomerTotals>,
    /// The state before each change of the current request, in the order of the changes.
    undo: Vec<StateBefore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProductState {
    /// The row before the batch.
    pub before: Available,
    pub units: ProductUnits,
}

/// The units of a product within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProductUnits {
    /// Units left in stock.
    pub stock: Stock,
    pub sold: i64,
    pub returned: i64,
    /// Units moved into holds, minus units returned from holds.
    pub held: i64,
    /// Whether a granted request has changed anything here, even if a later one has changed it back.
    pub touched: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum StateBefore {
    Units(ProductId, ProductUnits),
    Hold(HoldId, HoldStatus, bool),
    Order(OrderId, OrderStatus),
    CustomerTotals((ProductId, CustomerRef), Option<CustomerTotals>),
}

/// The state that the batch has read from the database.
impl BatchRows {
    pub fn add_product(&mut self, id: ProductId, before: Available) {
        let units =
            ProductUnits { stock: before.stock, sold: 0, returned: 0, held: 0, touched: false };
        self.products.insert(id, ProductState { before, units });
    }

    pub fn add_hold(&mut self, id: HoldId, hold: HeldUnits) {
        self.holds.insert(id, hold);
    }

    pub fn add_order(&mut self, id: OrderId, order: LockedOrder) {
        self.orders.insert(id, order);
    }

    pub fn add_customer_totals(
        &mut self,
        id: ProductId,
        customer: CustomerRef,
        units: CustomerTotals,
    ) {
        self.customer_totals.insert((id, customer), units);
    }
}

/// The current state.
impl BatchRows {
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &ProductState)> {
        self.products.iter().map(|(id, product)| (*id, product))
    }

    pub fn product(&self, id: ProductId) -> Result<&ProductState, Shortfall> {
        self.products.get(&id).ok_or(Shortfall::UnknownProduct(id))
    }

    pub fn hold(&self, id: HoldId) -> Result<&HeldUnits, Shortfall> {
        self.holds.get(&id).ok_or(Shortfall::UnknownHold(id))
    }

    pub fn order(&self, id: OrderId) -> Result<LockedOrder, Shortfall> {
        self.orders.get(&id).copied().ok_or(Shortfall::UnknownOrder)
    }

    pub fn customer_totals(&self, id: ProductId, customer: &CustomerRef) -> CustomerTotals {
        self.customer_totals.get(&(id, customer.clone())).copied().unwrap_or_default()
    }
}

/// Changes.
impl BatchRows {
    /// Runs a request. If it is refused, all its changes are undone.
    pub fn whole<T>(
        &mut self,
        request: impl FnOnce(&mut Self) -> Result<T, Shortfall>,
    ) -> Result<T, Shortfall> {
        let result = request(self);
        if result.is_err() {
            while let Some(before) = self.undo.pop() {
                self.restore(before);
            }
        }
        self.undo.clear();
        result
    }

    fn restore(&mut self, before: StateBefore) {
        match before {
            StateBefore::Units(id, units) => {
                if let Some(product) = self.products.get_mut(&id) {
                    product.units = units;
                }
            }
            StateBefore::Hold(id, status, kept) => {
                if let Some(hold) = self.holds.get_mut(&id) {
                    (hold.status, hold.kept) = (status, kept);
                }
            }
            StateBefore::Order(id, status) => {
                if let Some(order) = self.orders.get_mut(&id) {
                    order.status = status;
                }
            }
            StateBefore::CustomerTotals(key, Some(taken)) => {
                self.customer_totals.insert(key, taken);
            }
            StateBefore::CustomerTotals(key, None) => {
                self.customer_totals.remove(&key);
            }
        }
    }

    /// The units of a product, for a change.
    pub fn units(&mut self, id: ProductId) -> Result<&mut ProductUnits, Shortfall> {
        let product = self.products.get_mut(&id).ok_or(Shortfall::UnknownProduct(id))?;
        self.undo.push(StateBefore::Units(id, product.units));
        product.units.touched = true;
        Ok(&mut product.units)
    }

    pub fn end(&mut self, id: HoldId, status: HoldStatus) {
        if let Some(hold) = self.holds.get_mut(&id) {
            self.undo.push(StateBefore::Hold(id, hold.status, hold.kept));
            (hold.status, hold.kept) = (status, false);
        }
    }

    pub fn set_order(&mut self, id: OrderId, status: OrderStatus) {
        if let Some(order) = self.orders.get_mut(&id) {
            self.undo.push(StateBefore::Order(id, order.status));
            order.status = status;
        }
    }

    pub fn set_customer_totals(
        &mut self,
        id: ProductId,
        customer: CustomerRef,
        units: CustomerTotals,
    ) {
        let key = (id, customer);
        let before = self.customer_totals.insert(key.clone(), units);
        self.undo.push(StateBefore::CustomerTotals(key, before));
    }
}

impl ProductUnits {
    pub fn take(&mut self, id: ProductId, quantity: Quantity) -> Result<(), Shortfall> {
        self.stock = self
            .stock
            .take(quantity)
            .ok_or(Shortfall::NotEnough { product_id: id, left: self.stock })?;
        Ok(())
    }

    /// Returns units to stock, if there is room below [`MAX_STOCK`].
    pub fn put_back(&mut self, id: ProductId, quantity: Quantity) -> Result<(), Shortfall> {
        if MAX_STOCK - self.stock.units() < i64::from(quantity.units()) {
            return Err(Shortfall::StockFull(id));
        }
        self.stock = self.stock.put_back(quantity);
        Ok(())
    }
}
