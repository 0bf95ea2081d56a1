//! Scopes: what a caller may do.

use holdfast_domain::named;

named! {
    /// A permission of a caller. The names are those in keys and tokens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub enum Scope {
        /// Read products and their stock ledger.
        ProductsRead = "products:read",
        /// Create, change and delete products, and change their stock.
        ProductsWrite = "products:write",
        /// Read orders and holds.
        OrdersRead = "orders:read",
        /// Place and cancel orders, create and release holds.
        OrdersWrite = "orders:write",
        /// Everything, including the admin port.
        Admin = "admin",
    }
}

/// A set of [`Scope`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether the set allows something. `admin` allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        let bit = |scope: Scope| 1 << scope as u8;
        self.0 & (bit(scope) | bit(Scope::Admin)) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with one more scope.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// The scopes in `words`. Other words are ignored, because they may be scopes of another service.
    pub fn among<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        words
            .into_iter()
            .filter_map(|word| word.parse::<Scope>().ok())
            .fold(Self::default(), Self::with)
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_what_is_in_it_and_admin_everything() {
        let scopes = Scopes::among("orders:write openid products:read".split(' '));
        for scope in Scope::ALL {
            let within = matches!(scope, Scope::OrdersWrite | Scope::ProductsRead);
            assert_eq!(scopes.allow(scope), within, "{scope}");
            assert!(Scopes::default().with(Scope::Admin).allow(scope));
            assert!(!Scopes::default().allow(scope));
        }
        assert_eq!(scopes.iter().collect::<Vec<_>>(), [Scope::ProductsRead, Scope::OrdersWrite]);
        assert!(Scopes::among(["openid", "ADMIN", ""]).is_empty());
    }

    #[test]
    fn a_scope_is_parsed_as_it_is_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert!("orders".parse::<Scope>().is_err());
    }
}
