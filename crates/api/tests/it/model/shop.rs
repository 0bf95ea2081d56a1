//! A simple model of the shop in memory, with one request at a time.

use std::collections::BTreeMap;

use holdfast_store::fulfilment::Taken;

use super::request::{FromHold, Items, ModelAnswer, ModelRequest};

/// The number of products of a history.
pub const PRODUCTS: usize = 3;

/// The product in a flash sale, and its limit per customer.
pub const LIMITED: usize = 2;
pub const LIMIT: i64 = 3;

/// Used instead of a final price: of two prices that were set at the same time, either may be the last.
pub const ANY_PRICE: i64 = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelProduct {
    pub stock: i64,
    pub held: i64,
    pub on_sale: bool,
    pub price: i64,
}

#[derive(Clone, Debug)]
struct ModelHold {
    product: usize,
    quantity: i64,
    price: i64,
    customer: Option<&'static str>,
    status: &'static str,
}

#[derive(Clone, Debug)]
struct ModelOrder {
    /// From stock and from a hold.
    items: Items,
    customer: Option<&'static str>,
    status: &'static str,
    attempt: i32,
    may_be_fulfilled: bool,
}

/// What must be equal for two requests to be the same.
type Same = (Items, Option<FromHold>, Option<&'static str>, Option<i64>);

/// The visible state: products, and the statuses of orders and holds.
pub type Contents = (Vec<ModelProduct>, BTreeMap<i64, String>, BTreeMap<i64, String>);

#[derive(Clone, Debug)]
pub struct ModelShop {
    products: Vec<ModelProduct>,
    orders: BTreeMap<i64, ModelOrder>,
    holds: BTreeMap<i64, ModelHold>,
    /// With the ordered units, and the order.
    keys: BTreeMap<String, (Same, i64)>,
}

impl ModelShop {
    pub fn new(stocks: [i64; PRODUCTS]) -> Self {
        let product = |stock| ModelProduct { stock, held: 0, on_sale: true, price: 100 };
        Self {
            products: stocks.map(product).to_vec(),
            orders: BTreeMap::new(),
            holds: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    pub fn contents(&self) -> Contents {
        let orders = self.orders.iter().map(|(id, order)| (*id, order.status.to_owned()));
        let holds = self.holds.iter().map(|(id, hold)| (*id, hold.status.to_owned()));
        let product = |product: &ModelProduct| ModelProduct { price: ANY_PRICE, ..product.clone() };
        (self.products.iter().map(product).collect(), orders.collect(), holds.collect())
    }

    /// The shop after the request, if this answer is possible; otherwise `None`.
    pub fn after(&self, request: &ModelRequest, answer: &ModelAnswer) -> Option<Self> {
        let mut shop = self.clone();
        shop.serve(request, answer).then_some(shop)
    }

    fn serve(&mut self, request: &ModelRequest, answer: &ModelAnswer) -> bool {
        match request {
            ModelRequest::Order { items, hold, customer, price, key } => {
                self.order(&(items.clone(), *hold, *customer, *price), key.as_deref(), answer)
            }
            ModelRequest::Price { product, price } => {
                let of = &mut self.products[*product];
                if *answer == ModelAnswer::Done && of.on_sale {
                    of.price = *price;
                    return true;
                }
                *answer == ModelAnswer::UnknownProduct && !of.on_sale
            }
            ModelRequest::Hold { product, quantity, customer } => {
                let items = BTreeMap::from([(*product, *quantity)]);
                let ModelAnswer::Held(id) = answer else {
                    return self.lacks(&items, None, *customer, None, answer);
                };
                let hold = ModelHold {
                    product: *product,
                    quantity: *quantity,
                    price: self.products[*product].price,
                    customer: *customer,
                    status: "active",
                };
                if self.limit(&items, None, *customer).is_err() || !self.take(&items) {
                    return false;
                }
                self.products[*product].held += quantity;
                self.holds.insert(*id, hold).is_none()
            }
            ModelRequest::Release { hold } => {
                let Some(hold) = self.holds.get_mut(hold) else { return false };
                match answer {
                    ModelAnswer::Done if hold.status == "active" => {
                        hold.status = "released";
                        let product = &mut self.products[hold.product];
                        product.held -= hold.quantity;
                        product.stock += hold.quantity;
                        true
                    }
                    ModelAnswer::Stands(status) => status == hold.status && status != "active",
                    _ => false,
                }
            }
            ModelRequest::Cancel { order } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                match answer {
                    ModelAnswer::Done if order.status == "pending" && !order.may_be_fulfilled => {
                        order.status = "cancelled";
                        for (product, quantity) in &order.items {
                            self.products[*product].stock += quantity;
                        }
                        true
                    }
                    ModelAnswer::Stands(status) => status == order.status && status != "pending",
                    ModelAnswer::MayBeFulfilled => {
                        order.status == "pending" && order.may_be_fulfilled
                    }
                    _ => false,
                }
            }
            ModelRequest::Claim { order } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                // A worker skips an order that is locked, even if it is pending.
                let ModelAnswer::Claimed(attempt) = *answer else { return true };
                order.attempt += 1;
                let from = std::mem::replace(&mut order.status, "processing");
                from == "pending" && order.attempt == attempt
            }
            ModelRequest::Return { order, attempt, taken } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                let holds = order.status == "processing" && order.attempt == *attempt;
                if holds {
                    order.status = "pending";
                    order.may_be_fulfilled |= *taken == Taken::Maybe;
                }
                holds == (*answer == ModelAnswer::Done)
            }
            ModelRequest::Adjust { product, delta } => {
                let of = &mut self.products[*product];
                match answer {
                    ModelAnswer::Adjusted { stock } if of.on_sale && of.stock + delta == *stock => {
                        of.stock = *stock;
                        *stock >= 0
                    }
                    ModelAnswer::NotEnough { left, .. } => {
                        of.on_sale && *left == of.stock && of.stock + delta < 0
                    }
                    ModelAnswer::UnknownProduct => !of.on_sale,
                    _ => false,
                }
            }
            ModelRequest::Retire { product } => {
                let on_sale = std::mem::replace(&mut self.products[*product].on_sale, false);
                *answer == if on_sale { ModelAnswer::Done } else { ModelAnswer::UnknownProduct }
            }
        }
    }

    fn order(&mut self, same: &Same, key: Option<&str>, answer: &ModelAnswer) -> bool {
        let (items, from_hold, named, price) = same;
        if let Some((earlier, id)) = key.and_then(|key| self.keys.get(key)) {
            return *answer
                == if earlier == same { ModelAnswer::Placed(*id) } else { ModelAnswer::KeyReused };
        }
        let hold = from_hold.and_then(|line| self.holds.get(&line.id)).cloned();
        if let (Some(hold), ModelAnswer::Stands(status)) = (&hold, answer) {
            return status == hold.status && status != "active";
        }
        let ModelAnswer::Placed(id) = answer else {
            return self.lacks(items, hold.as_ref(), *named, *price, answer);
        };
        let customer = named.or(hold.as_ref().and_then(|hold| hold.customer));
        let mut sums = items.clone();
        if let (Some(line), Some(hold)) = (from_hold, &hold) {
            // This also applies to a deleted product: its holds stay valid.
            let whose = hold.customer.is_none() || hold.customer == customer;
            if hold.status != "active" || !whose || price.is_some_and(|price| price != hold.price) {
                return false;
            }
            *sums.entry(line.product).or_default() += line.quantity;
        }
        let told = |id: &usize| price.is_none_or(|price| price == self.products[*id].price);
        if !items.keys().all(told)
            || self.limit(items, hold.as_ref(), customer).is_err()
            || !self.take(items)
        {
            return false;
        }
        if let Some(line) = from_hold {
            self.products[line.product].held -= line.quantity;
            if let Some(hold) = self.holds.get_mut(&line.id) {
                hold.status = "used";
            }
        }
        if let Some(key) = key {
            self.keys.insert(key.to_owned(), (same.clone(), *id));
        }
        let order = ModelOrder {
            items: sums,
            customer,
            status: "pending",
            attempt: 0,
            may_be_fulfilled: false,
        };
        self.orders.insert(*id, order).is_none()
    }

    /// Takes units from stock, if there are enough.
    fn take(&mut self, items: &Items) -> bool {
        items.iter().all(|(product, quantity)| {
            let product = &mut self.products[*product];
            product.stock -= quantity;
            product.on_sale && product.stock >= 0
        })
    }

    /// The rest of the limit for a customer, after their orders and holds.
    fn left(&self, customer: &str) -> (i64, i64) {
        let orders = self.orders.values();
        let orders = orders.filter(|it| it.customer == Some(customer) && it.status != "cancelled");
        let ordered: i64 = orders.filter_map(|order| order.items.get(&LIMITED)).sum();
        let holds = self.holds.values().filter(|hold| {
            hold.customer == Some(customer) && hold.status == "active" && hold.product == LIMITED
        });
        (LIMIT - ordered, holds.map(|hold| hold.quantity).sum())
    }

    /// Whether the limit allows units from stock and from a hold; if not, the possible answers.
    fn limit(
        &self,
        items: &Items,
        hold: Option<&ModelHold>,
        customer: Option<&str>,
    ) -> Result<(), Vec<ModelAnswer>> {
        let hold = hold.filter(|hold| hold.product == LIMITED);
        let wanted = items.get(&LIMITED).copied().unwrap_or(0);
        if wanted == 0 && hold.is_none() {
            return Ok(());
        }
        let Some(customer) = customer else { return Err(vec![ModelAnswer::WrongCustomer]) };
        // The line from stock comes first.
        let (left, of_holds) = self.left(customer);
        let over = |left: i64| Err(vec![ModelAnswer::OverLimit { left: left.max(0) }]);
        if wanted > 0 && wanted > left - of_holds {
            return over(left - of_holds);
        }
        match hold {
            Some(hold) if hold.quantity > left - wanted => over(left - wanted),
            _ => Ok(()),
        }
    }

    /// Whether this is a reason to refuse an order, or a hold of this many units.
    fn lacks(
        &self,
        items: &Items,
        hold: Option<&ModelHold>,
        named: Option<&'static str>,
        price: Option<i64>,
        answer: &ModelAnswer,
    ) -> bool {
        let of_hold = hold.and_then(|hold| hold.customer);
        match answer {
            ModelAnswer::NotEnough { product, left } => {
                let of = &self.products[*product];
                of.on_sale
                    && of.stock == *left
                    && items.get(product).is_some_and(|wanted| wanted > left)
            }
            ModelAnswer::UnknownProduct => {
                items.keys().any(|product| !self.products[*product].on_sale)
            }
            ModelAnswer::WrongCustomer if named.is_some() && of_hold.is_some() => {
                named != of_hold && hold.is_some_and(|hold| hold.status == "active")
            }
            ModelAnswer::WrongCustomer | ModelAnswer::OverLimit { .. } => self
                .limit(items, hold, named.or(of_hold))
                .is_err_and(|answers| answers.contains(answer)),
            ModelAnswer::PriceChanged { product, current } => {
                let stock =
                    items.contains_key(product) && self.products[*product].price == *current;
                let from_hold =
                    hold.is_some_and(|hold| hold.product == *product && hold.price == *current);
                price.is_some_and(|told| told != *current) && (stock || from_hold)
            }
            _ => false,
        }
    }
}
