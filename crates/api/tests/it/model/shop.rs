//! The shop, as simple as it can be: one request at a time, everything in memory.

use std::collections::BTreeMap;

use holdfast_store::fulfilment::Taken;

/// How many products a history has.
pub const PRODUCTS: usize = 3;

/// Units by product.
pub type Items = BTreeMap<usize, i64>;

/// A request, with all names resolved: the ids are those that the server gave.
#[derive(Clone, Debug)]
pub enum Request {
    Order {
        items: Items,
        hold: Option<i64>,
        key: Option<String>,
    },
    Cancel {
        order: i64,
    },
    Hold {
        product: usize,
        quantity: i64,
    },
    Release {
        hold: i64,
    },
    Adjust {
        product: usize,
        delta: i64,
    },
    Retire {
        product: usize,
    },
    /// What a worker does before it fulfils an order.
    Claim {
        order: i64,
    },
    /// What a worker does after a try that it makes again later.
    Return {
        order: i64,
        attempt: i32,
        taken: Taken,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Placed(i64),
    Held(i64),
    /// Cancelled, released, retired, returned.
    Done,
    /// With the number of the claim.
    Claimed(i32),
    Adjusted {
        stock: i64,
    },
    NotEnough {
        product: usize,
        left: i64,
    },
    UnknownProduct,
    /// The order or hold stands elsewhere.
    Stands(String),
    /// A try of the order may have been taken.
    MayBeFulfilled,
    KeyReused,
}

/// The kinds of answers, for counting.
pub const OUTCOMES: [&str; 9] = [
    "placed",
    "held",
    "done",
    "adjusted",
    "not enough",
    "unknown product",
    "stands elsewhere",
    "key reused",
    "may be fulfilled",
];

impl Answer {
    pub fn outcome(&self) -> usize {
        match self {
            Self::Placed(_) => 0,
            Self::Held(_) => 1,
            Self::Done | Self::Claimed(_) => 2,
            Self::Adjusted { .. } => 3,
            Self::NotEnough { .. } => 4,
            Self::UnknownProduct => 5,
            Self::Stands(_) => 6,
            Self::KeyReused => 7,
            Self::MayBeFulfilled => 8,
        }
    }

    /// Whether nothing was changed. Such an answer may come from what the replica remembers, which
    /// may be a little old; it must have been true once.
    pub fn is_refusal(&self) -> bool {
        self.outcome() >= 4
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub stock: i64,
    pub held: i64,
    pub on_sale: bool,
}

#[derive(Clone, Debug)]
struct Hold {
    product: usize,
    quantity: i64,
    status: &'static str,
}

#[derive(Clone, Debug)]
struct Order {
    items: Items,
    status: &'static str,
    attempt: i32,
    may_be_fulfilled: bool,
}

/// What can be seen from outside: products, and the statuses of orders and holds.
pub type Contents = (Vec<Product>, BTreeMap<i64, String>, BTreeMap<i64, String>);

#[derive(Clone, Debug)]
pub struct Shop {
    products: Vec<Product>,
    orders: BTreeMap<i64, Order>,
    holds: BTreeMap<i64, Hold>,
    /// With what was ordered, from which hold, and the order.
    keys: BTreeMap<String, (Items, Option<i64>, i64)>,
}

impl Shop {
    pub fn new(stocks: [i64; PRODUCTS]) -> Self {
        let product = |stock| Product { stock, held: 0, on_sale: true };
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
        (self.products.clone(), orders.collect(), holds.collect())
    }

    /// The shop after the request, if it would have given this answer; otherwise `None`.
    pub fn after(&self, request: &Request, answer: &Answer) -> Option<Self> {
        let mut shop = self.clone();
        shop.serve(request, answer).then_some(shop)
    }

    fn serve(&mut self, request: &Request, answer: &Answer) -> bool {
        match request {
            Request::Order { items, hold, key } => self.order(items, *hold, key.as_deref(), answer),
            Request::Hold { product, quantity } => {
                let of = &mut self.products[*product];
                match answer {
                    Answer::Held(id) if of.on_sale && of.stock >= *quantity => {
                        of.stock -= quantity;
                        of.held += quantity;
                        let hold =
                            Hold { product: *product, quantity: *quantity, status: "active" };
                        self.holds.insert(*id, hold).is_none()
                    }
                    refused => self.lacks(&BTreeMap::from([(*product, *quantity)]), refused),
                }
            }
            Request::Release { hold } => {
                let Some(hold) = self.holds.get_mut(hold) else { return false };
                match answer {
                    Answer::Done if hold.status == "active" => {
                        hold.status = "released";
                        let product = &mut self.products[hold.product];
                        product.held -= hold.quantity;
                        product.stock += hold.quantity;
                        true
                    }
                    Answer::Stands(status) => status == hold.status && status != "active",
                    _ => false,
                }
            }
            Request::Cancel { order } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                match answer {
                    Answer::Done if order.status == "pending" && !order.may_be_fulfilled => {
                        order.status = "cancelled";
                        for (product, quantity) in &order.items {
                            self.products[*product].stock += quantity;
                        }
                        true
                    }
                    Answer::Stands(status) => status == order.status && status != "pending",
                    Answer::MayBeFulfilled => order.status == "pending" && order.may_be_fulfilled,
                    _ => false,
                }
            }
            Request::Claim { order } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                // A worker passes over an order that somebody has locked, pending as it may be.
                let Answer::Claimed(attempt) = *answer else { return true };
                order.attempt += 1;
                let from = std::mem::replace(&mut order.status, "processing");
                from == "pending" && order.attempt == attempt
            }
            Request::Return { order, attempt, taken } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                let holds = order.status == "processing" && order.attempt == *attempt;
                if holds {
                    order.status = "pending";
                    order.may_be_fulfilled |= *taken == Taken::Maybe;
                }
                holds == (*answer == Answer::Done)
            }
            Request::Adjust { product, delta } => {
                let of = &mut self.products[*product];
                match answer {
                    Answer::Adjusted { stock } if of.on_sale && of.stock + delta == *stock => {
                        of.stock = *stock;
                        *stock >= 0
                    }
                    Answer::NotEnough { left, .. } => {
                        of.on_sale && *left == of.stock && of.stock + delta < 0
                    }
                    Answer::UnknownProduct => !of.on_sale,
                    _ => false,
                }
            }
            Request::Retire { product } => {
                let on_sale = std::mem::replace(&mut self.products[*product].on_sale, false);
                *answer == if on_sale { Answer::Done } else { Answer::UnknownProduct }
            }
        }
    }

    fn order(
        &mut self,
        items: &Items,
        hold: Option<i64>,
        key: Option<&str>,
        answer: &Answer,
    ) -> bool {
        if let Some((earlier_items, earlier_hold, id)) = key.and_then(|key| self.keys.get(key)) {
            let same = earlier_items == items && *earlier_hold == hold;
            return *answer == if same { Answer::Placed(*id) } else { Answer::KeyReused };
        }
        let Answer::Placed(id) = answer else {
            let ended =
                hold.and_then(|hold| self.holds.get(&hold)).filter(|hold| hold.status != "active");
            return match (answer, ended) {
                (Answer::Stands(status), Some(hold)) => status == hold.status,
                (_, None) if hold.is_none() => self.lacks(items, answer),
                _ => false,
            };
        };
        if let Some(hold) = hold {
            let Some(hold) = self.holds.get_mut(&hold) else { return false };
            // Also of a product that is no longer on sale: what is kept for somebody is kept.
            if hold.status != "active" {
                return false;
            }
            hold.status = "used";
            self.products[hold.product].held -= hold.quantity;
        } else {
            for (product, quantity) in items {
                let product = &mut self.products[*product];
                if !product.on_sale || product.stock < *quantity {
                    return false;
                }
                product.stock -= quantity;
            }
        }
        if let Some(key) = key {
            self.keys.insert(key.to_owned(), (items.clone(), hold, *id));
        }
        self.orders.insert(*id, new_order(items)).is_none()
    }

    /// Whether this is a reason not to take so many units from stock.
    fn lacks(&self, items: &Items, answer: &Answer) -> bool {
        match answer {
            Answer::NotEnough { product, left } => {
                let of = &self.products[*product];
                of.on_sale
                    && of.stock == *left
                    && items.get(product).is_some_and(|wanted| wanted > left)
            }
            Answer::UnknownProduct => items.keys().any(|product| !self.products[*product].on_sale),
            _ => false,
        }
    }
}

fn new_order(items: &Items) -> Order {
    Order { items: items.clone(), status: "pending", attempt: 0, may_be_fulfilled: false }
}
