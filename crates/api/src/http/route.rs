//! Which route a path belongs to.
//!
//! The router decides what answers; this decides under which label a request is counted, with a
//! few comparisons and without an allocation. That both agree is tested against the OpenAPI
//! document.

/// A port, and what answers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// For shops and their customers.
    Public,
    /// For operators: keys and dead letters.
    Admin,
}

/// A route, as in the label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Route {
    /// `/orders`
    Orders,
    /// `/orders/{id}`
    Order,
    /// `/orders/{id}/cancel`
    OrderCancel,
    /// `/holds`
    Holds,
    /// `/holds/{id}`
    Hold,
    /// `/products`
    Products,
    /// `/products/{id}`
    Product,
    /// `/products/{id}/stock`
    Stock,
    /// `/products/{id}/stock-ledger`
    StockLedger,
    /// `/dead-letters`
    DeadLetters,
    /// `/dead-letters/{id}`
    DeadLetter,
    /// `/dead-letters/replay`
    DeadLettersReplay,
    /// `/dead-letters/{id}/replay`
    DeadLetterReplay,
    /// `/dead-letters/{id}/discard`
    DeadLetterDiscard,
    /// `/api-keys`
    ApiKeys,
    /// `/api-keys/{id}`
    ApiKey,
    /// `/sales`
    Sales,
    /// `/sales/{name}`
    Sale,
    /// `/log-level`
    LogLevel,
    /// `/health`, `/livez` and `/readyz`
    Health,
    /// `/`, `/docs` and below, `/openapi.json`, `/problems` and below
    Docs,
    /// Everything else
    Unmatched,
}

impl Route {
    /// Each route.
    pub const ALL: [Self; 22] = [
        Self::Orders,
        Self::Order,
        Self::OrderCancel,
        Self::Holds,
        Self::Hold,
        Self::Products,
        Self::Product,
        Self::Stock,
        Self::StockLedger,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::DeadLettersReplay,
        Self::DeadLetterReplay,
        Self::DeadLetterDiscard,
        Self::ApiKeys,
        Self::ApiKey,
        Self::Sales,
        Self::Sale,
        Self::LogLevel,
        Self::Health,
        Self::Docs,
        Self::Unmatched,
    ];

    /// The route of a path, with or without a slash at its end.
    pub fn of(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/orders" => Self::Orders,
            "/products" => Self::Products,
            "/holds" => Self::Holds,
            "/dead-letters" => Self::DeadLetters,
            "/dead-letters/replay" => Self::DeadLettersReplay,
            "/api-keys" => Self::ApiKeys,
            "/sales" => Self::Sales,
            "/log-level" => Self::LogLevel,
            "/health" | "/livez" | "/readyz" => Self::Health,
            "" | "/docs" | "/openapi.json" | "/problems" => Self::Docs,
            _ => {
                let below =
                    |parent: &str| path.strip_prefix(parent).is_some_and(|rest| !rest.is_empty());
                let one_below =
                    |parent: &str| path.strip_prefix(parent).is_some_and(|id| !id.contains('/'));
                let between = |parent: &str, child: &str| {
                    let id = path.strip_prefix(parent).and_then(|rest| rest.strip_suffix(child));
                    id.is_some_and(|id| !id.contains('/'))
                };
                if one_below("/products/") {
                    Self::Product
                } else if one_below("/orders/") {
                    Self::Order
                } else if one_below("/holds/") {
                    Self::Hold
                } else if between("/orders/", "/cancel") {
                    Self::OrderCancel
                } else if between("/products/", "/stock") {
                    Self::Stock
                } else if between("/products/", "/stock-ledger") {
                    Self::StockLedger
                } else if one_below("/dead-letters/") {
                    Self::DeadLetter
                } else if between("/dead-letters/", "/replay") {
                    Self::DeadLetterReplay
                } else if between("/dead-letters/", "/discard") {
                    Self::DeadLetterDiscard
                } else if one_below("/api-keys/") {
                    Self::ApiKey
                } else if one_below("/sales/") {
                    Self::Sale
                } else if below("/docs/") || one_below("/problems/") {
                    Self::Docs
                } else {
                    Self::Unmatched
                }
            }
        }
    }

    /// The port that answers it; `None`: both.
    pub fn surface(self) -> Option<Surface> {
        match self {
            Self::DeadLetters
            | Self::DeadLetter
            | Self::DeadLettersReplay
            | Self::DeadLetterReplay
            | Self::DeadLetterDiscard
            | Self::ApiKeys
            | Self::ApiKey
            | Self::Sales
            | Self::Sale
            | Self::LogLevel => Some(Surface::Admin),
            Self::Docs | Self::Health | Self::Unmatched => None,
            _ => Some(Surface::Public),
        }
    }

    /// The label.
    pub fn template(self) -> &'static str {
        match self {
            Self::Orders => "/orders",
            Self::Order => "/orders/{id}",
            Self::OrderCancel => "/orders/{id}/cancel",
            Self::Holds => "/holds",
            Self::Hold => "/holds/{id}",
            Self::Products => "/products",
            Self::Product => "/products/{id}",
            Self::Stock => "/products/{id}/stock",
            Self::StockLedger => "/products/{id}/stock-ledger",
            Self::DeadLetters => "/dead-letters",
            Self::DeadLetter => "/dead-letters/{id}",
            Self::DeadLettersReplay => "/dead-letters/replay",
            Self::DeadLetterReplay => "/dead-letters/{id}/replay",
            Self::DeadLetterDiscard => "/dead-letters/{id}/discard",
            Self::ApiKeys => "/api-keys",
            Self::ApiKey => "/api-keys/{id}",
            Self::Sales => "/sales",
            Self::Sale => "/sales/{name}",
            Self::LogLevel => "/log-level",
            Self::Health => "/health",
            Self::Docs => "/docs",
            Self::Unmatched => "unmatched",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_its_route_with_and_without_a_slash() {
        for (path, route) in [
            ("/orders", Route::Orders),
            ("/orders/7", Route::Order),
            ("/orders/7/cancel", Route::OrderCancel),
            ("/orders/7/8/cancel", Route::Unmatched),
            ("/holds", Route::Holds),
            ("/holds/7", Route::Hold),
            ("/products", Route::Products),
            ("/products/x", Route::Product),
            ("/products/7/stock", Route::Stock),
            ("/products/7/stock-ledger", Route::StockLedger),
            ("/readyz", Route::Health),
            ("/docs/index.html", Route::Docs),
            ("/problems/validation", Route::Docs),
            ("/products/7/x", Route::Unmatched),
            ("/ordersx", Route::Unmatched),
            ("", Route::Docs),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
            assert_eq!(Route::of(&format!("{path}/")), route, "{path}/");
        }
        assert_eq!(Route::of("/orders//"), Route::Order);
        assert_eq!(Route::of("*"), Route::Unmatched);
    }

    #[test]
    fn every_documented_path_has_a_label_of_its_own() {
        for surface in [Surface::Public, Surface::Admin] {
            for template in crate::openapi::document(surface).paths.paths.keys() {
                let route = Route::of(&template.replace("{id}", "7"));
                if route != Route::Health {
                    assert_eq!(route.template(), template);
                    assert_eq!(route.surface(), Some(surface), "{template}");
                }
            }
        }
    }

    #[test]
    fn routes_are_their_own_index() {
        for (at, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, at);
        }
    }
}
