//! What a batch has locked, and what has become of it so far.
//!
//! Everything that a request changes is changed by a method of [`Locked`] that first notes how it was.
//! So a request that is refused half-way leaves nothing behind, whatever it has changed by then.

use std::collections::BTreeMap;

use super::{Available, HeldUnits, LockedOrder, Shortfall, Taken};
use crate::{
    CustomerRef, HoldId, HoldStatus, MAX_STOCK, OrderId, OrderStatus, ProductId, Quantity, Stock,
};

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locked {
    products: BTreeMap<ProductId, Product>,
    holds: BTreeMap<HoldId, HeldUnits>,
    orders: BTreeMap<OrderId, LockedOrder>,
    /// What customers have of products with a limit.
    taken: BTreeMap<(ProductId, CustomerRef), Taken>,
    /// How things were before the present request changed them, in the order of the changes.
    undo: Vec<Before>,
}

/// A product whose row is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// As it was found.
    pub before: Available,
    /// What has become of its units.
    pub units: Units,
}

/// The units of a product within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    /// Left to be sold.
    pub stock: Stock,
    pub sold: i64,
    pub returned: i64,
    /// Taken into holds, less what came back from them.
    pub held: i64,
    /// Whether a request that was granted has changed anything here, even if a later one has changed it back.
    pub touched: bool,
}

/// Something as it was before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Before {
    Units(ProductId, Units),
    Hold(HoldId, HoldStatus, bool),
    Order(OrderId, OrderStatus),
    Taken((ProductId, CustomerRef), Option<Taken>),
}

/// What the batch has found.
impl Locked {
    pub fn put(&mut self, id: ProductId, before: Available) {
        let units = Units { stock: before.stock, sold: 0, returned: 0, held: 0, touched: false };
        self.products.insert(id, Product { before, units });
    }

    pub fn put_hold(&mut self, id: HoldId, hold: HeldUnits) {
        self.holds.insert(id, hold);
    }

    pub fn put_order(&mut self, id: OrderId, order: LockedOrder) {
        self.orders.insert(id, order);
    }

    pub fn put_taken(&mut self, id: ProductId, customer: CustomerRef, taken: Taken) {
        self.taken.insert((id, customer), taken);
    }
}

/// What is there now.
impl Locked {
    pub fn products(&self) -> impl Iterator<Item = (ProductId, &Product)> {
        self.products.iter().map(|(id, product)| (*id, product))
    }

    pub fn product(&self, id: ProductId) -> Result<&Product, Shortfall> {
        self.products.get(&id).ok_or(Shortfall::UnknownProduct(id))
    }

    pub fn hold(&self, id: HoldId) -> Result<&HeldUnits, Shortfall> {
        self.holds.get(&id).ok_or(Shortfall::UnknownHold(id))
    }

    pub fn order(&self, id: OrderId) -> Result<LockedOrder, Shortfall> {
        self.orders.get(&id).copied().ok_or(Shortfall::UnknownOrder)
    }

    pub fn taken(&self, id: ProductId, customer: &CustomerRef) -> Taken {
        self.taken.get(&(id, customer.clone())).copied().unwrap_or_default()
    }
}

/// Changes.
impl Locked {
    /// Runs a request whole or not at all: if it is refused, everything is as it was.
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

    fn restore(&mut self, before: Before) {
        match before {
            Before::Units(id, units) => {
                if let Some(product) = self.products.get_mut(&id) {
                    product.units = units;
                }
            }
            Before::Hold(id, status, kept) => {
                if let Some(hold) = self.holds.get_mut(&id) {
                    (hold.status, hold.kept) = (status, kept);
                }
            }
            Before::Order(id, status) => {
                if let Some(order) = self.orders.get_mut(&id) {
                    order.status = status;
                }
            }
            Before::Taken(key, Some(taken)) => {
                self.taken.insert(key, taken);
            }
            Before::Taken(key, None) => {
                self.taken.remove(&key);
            }
        }
    }

    /// The units of a product, to be changed.
    pub fn units(&mut self, id: ProductId) -> Result<&mut Units, Shortfall> {
        let product = self.products.get_mut(&id).ok_or(Shortfall::UnknownProduct(id))?;
        self.undo.push(Before::Units(id, product.units));
        product.units.touched = true;
        Ok(&mut product.units)
    }

    /// Ends a hold.
    pub fn end(&mut self, id: HoldId, status: HoldStatus) {
        if let Some(hold) = self.holds.get_mut(&id) {
            self.undo.push(Before::Hold(id, hold.status, hold.kept));
            (hold.status, hold.kept) = (status, false);
        }
    }

    pub fn set_order(&mut self, id: OrderId, status: OrderStatus) {
        if let Some(order) = self.orders.get_mut(&id) {
            self.undo.push(Before::Order(id, order.status));
            order.status = status;
        }
    }

    pub fn set_taken(&mut self, id: ProductId, customer: CustomerRef, taken: Taken) {
        let key = (id, customer);
        let before = self.taken.insert(key.clone(), taken);
        self.undo.push(Before::Taken(key, before));
    }
}

impl Units {
    /// Takes units out of stock.
    pub fn take(&mut self, id: ProductId, quantity: Quantity) -> Result<(), Shortfall> {
        self.stock = self
            .stock
            .take(quantity)
            .ok_or(Shortfall::NotEnough { product_id: id, left: self.stock })?;
        Ok(())
    }

    /// Whether the shop can hold so many more.
    pub fn has_room(self, quantity: Quantity) -> bool {
        MAX_STOCK - self.stock.units() >= i64::from(quantity.units())
    }

    /// Puts units into stock, if the shop can hold them.
    pub fn put_back(&mut self, id: ProductId, quantity: Quantity) -> Result<(), Shortfall> {
        if !self.has_room(quantity) {
            return Err(Shortfall::StockFull(id));
        }
        self.stock = self.stock.put_back(quantity);
        Ok(())
    }
}
