//! Flash sales: when a product may be ordered, and how many units each customer may order.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{Invalid, ProductId};

/// The longest name of a sale, in characters. There is room for a namespace and a name of Kubernetes.
pub const MAX_SALE_NAME_CHARS: usize = 320;

/// The most products of one sale.
pub const MAX_SALE_PRODUCTS: usize = 100;

/// The highest limit of units of one product for each customer.
pub const MAX_PER_CUSTOMER: u32 = 1_000_000;

/// The name of a sale: 1 to [`MAX_SALE_NAME_CHARS`] lower-case letters, digits, `-`, `.`, `_` and `/`. It is part of
/// a URL path, so no part of it is empty or consists of dots, because clients would resolve `..` before they send
/// it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SaleName(String);

impl SaleName {
    /// Checks a name.
    ///
    /// # Errors
    /// The name is empty or too long, has other characters, or cannot be part of a path.
    pub fn new(name: String) -> Result<Self, Invalid> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._/".contains(c);
        let dots = |part: &str| part.chars().all(|c| c == '.');
        if name.len() > MAX_SALE_NAME_CHARS || !name.chars().all(good) || name.split('/').any(dots)
        {
            return Err(format!(
                "must be 1 to {MAX_SALE_NAME_CHARS} lower-case letters, digits, -, ., _ and /, \
                 and parts between / must not be empty or consist of dots"
            )
            .into());
        }
        Ok(Self(name))
    }

    /// A stored name, which may have been checked by older rules.
    pub fn kept(name: String) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A flash sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Its name, which is unique.
    pub name: SaleName,
    /// Its products: 1 to [`MAX_SALE_PRODUCTS`].
    pub products: BTreeSet<ProductId>,
    /// When it opens.
    pub starts_at: Timestamp,
    /// When it closes.
    pub ends_at: Timestamp,
    /// The most units of one product for one customer, up to [`MAX_PER_CUSTOMER`]; `None` for no limit.
    pub per_customer: Option<u32>,
    /// Whether it stays closed at its start.
    pub held_back: bool,
}

/// A sale as it is stored in the row of its product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaleWindow {
    /// When it opens.
    pub starts_at: Timestamp,
    /// When it closes.
    pub ends_at: Timestamp,
    /// The most units for one customer.
    pub per_customer: Option<u32>,
    /// Whether it stays closed at its start.
    pub held_back: bool,
    /// Only orders with higher ids can belong to it.
    pub after_order: i64,
}

/// Whether a product may be ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selling {
    /// It may be ordered at any time, because it is in no sale.
    #[default]
    Always,
    Open,
    /// Its sale is open, with a limit for each customer.
    Limited(CustomerLimit),
    /// Not before this time.
    From(Timestamp),
    /// Its sale would be open but is held back.
    HeldBack,
    Over,
}

/// The limit of a customer, and which orders count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomerLimit {
    /// Units of the product.
    pub units: u32,
    /// Orders from this time on count.
    pub since: Timestamp,
    /// Only orders with higher ids count.
    pub after_order: i64,
}

impl Selling {
    /// Whether a product in these sales may be ordered at a time. It may if any of them is open. If several are
    /// open, the strictest limit applies, counted over the longest time. A product without sales may always be
    /// ordered.
    pub fn at(sales: &[SaleWindow], now: Timestamp) -> Self {
        if sales.is_empty() {
            return Self::Always;
        }
        let open = |sale: &&SaleWindow| sale.starts_at <= now && now < sale.ends_at;
        let mut is_open = false;
        let mut limit: Option<CustomerLimit> = None;
        for sale in sales.iter().filter(open).filter(|sale| !sale.held_back) {
            is_open = true;
            let Some(units) = sale.per_customer else { continue };
            let (since, after_order) = (sale.starts_at, sale.after_order);
            limit = Some(limit.map_or(CustomerLimit { units, since, after_order }, |other| {
                CustomerLimit {
                    units: other.units.min(units),
                    since: other.since.min(since),
                    after_order: other.after_order.min(after_order),
                }
            }));
        }
        if is_open {
            return limit.map_or(Self::Open, Self::Limited);
        }
        if sales.iter().any(|sale| open(&sale)) {
            return Self::HeldBack;
        }
        let next = sales.iter().map(|sale| sale.starts_at).filter(|start| *start > now).min();
        next.map_or(Self::Over, Self::From)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sale(from: i64, to: i64, per_customer: Option<u32>) -> SaleWindow {
        SaleWindow {
            starts_at: at(from),
            ends_at: at(to),
            per_customer,
            held_back: false,
            after_order: from,
        }
    }

    #[test]
    fn the_start_belongs_to_the_sale_and_the_end_does_not() {
        let sales = [sale(10, 20, None)];
        for (now, selling) in [
            (9, Selling::From(at(10))),
            (10, Selling::Open),
            (19, Selling::Open),
            (20, Selling::Over),
        ] {
            assert_eq!(Selling::at(&sales, at(now)), selling, "at {now}");
        }
        assert_eq!(Selling::at(&[], at(0)), Selling::Always);
    }

    #[test]
    fn sales_of_one_product_follow_each_other_and_overlap() {
        let sales = [sale(10, 20, Some(5)), sale(15, 30, Some(2)), sale(40, 50, None)];
        let limit = |units, since| {
            Selling::Limited(CustomerLimit { units, since: at(since), after_order: since })
        };
        for (now, selling) in [
            (12, limit(5, 10)),
            (17, limit(2, 10)),
            (25, limit(2, 15)),
            (35, Selling::From(at(40))),
            (45, Selling::Open),
            (60, Selling::Over),
        ] {
            assert_eq!(Selling::at(&sales, at(now)), selling, "at {now}");
        }
    }

    #[test]
    fn a_sale_that_is_held_back_opens_when_it_is_released() {
        let mut held = SaleWindow { held_back: true, ..sale(10, 20, None) };
        assert_eq!(Selling::at(&[held], at(9)), Selling::From(at(10)));
        assert_eq!(Selling::at(&[held], at(10)), Selling::HeldBack);
        held.held_back = false;
        assert_eq!(Selling::at(&[held], at(10)), Selling::Open);
    }

    #[test]
    fn names_are_checked() {
        for bad in [
            "",
            "A",
            "a b",
            "ä",
            "a\n",
            "a\0",
            ".",
            "..",
            "...",
            "/",
            "/a",
            "a/",
            "a//b",
            "a/../b",
            "a/.",
            &"x".repeat(321),
        ] {
            SaleName::new(bad.to_owned()).unwrap_err();
        }
        for good in ["shop/black-friday.2026_1", ".a", "a..b", "-", "_"] {
            SaleName::new(good.to_owned()).unwrap();
        }
    }
}
