//! Which route a path belongs to.
//!
//! The router decides what answers; this decides under which label a request is counted, with a
//! few comparisons and without an allocation. That both agree is tested against the OpenAPI
//! document.

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
    /// `/health`, `/livez` and `/readyz`
    Health,
    /// `/`, `/docs` and below, `/openapi.json`, `/problems` and below
    Docs,
    /// Everything else
    Unmatched,
}

impl Route {
    /// Each route.
    pub const ALL: [Self; 10] = [
        Self::Orders,
        Self::Order,
        Self::OrderCancel,
        Self::Holds,
        Self::Hold,
        Self::Products,
        Self::Product,
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
            "/health" | "/livez" | "/readyz" => Self::Health,
            "" | "/docs" | "/openapi.json" | "/problems" => Self::Docs,
            _ => {
                let below =
                    |parent: &str| path.strip_prefix(parent).is_some_and(|rest| !rest.is_empty());
                let one_below =
                    |parent: &str| path.strip_prefix(parent).is_some_and(|id| !id.contains('/'));
                if one_below("/products/") {
                    Self::Product
                } else if one_below("/orders/") {
                    Self::Order
                } else if one_below("/holds/") {
                    Self::Hold
                } else if path.strip_suffix("/cancel").is_some_and(|order| {
                    order.strip_prefix("/orders/").is_some_and(|id| !id.contains('/'))
                }) {
                    Self::OrderCancel
                } else if below("/docs/") || one_below("/problems/") {
                    Self::Docs
                } else {
                    Self::Unmatched
                }
            }
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
    fn routes_are_their_own_index() {
        for (at, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, at);
        }
    }
}
