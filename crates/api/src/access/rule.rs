//! Which scope each request needs.

use axum::http::Method;

use super::Scope;
use crate::http::Route;

/// The scope that a request needs; `None` for what is open to everybody.
pub fn needed(route: Route, method: &Method) -> Option<Scope> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Products | Route::Product | Route::StockLedger if reads => Some(Scope::ProductsRead),
        Route::Products | Route::Product | Route::Stock | Route::StockLedger => {
            Some(Scope::ProductsWrite)
        }
        Route::Orders | Route::Order | Route::OrderCancel | Route::Holds | Route::Hold => {
            Some(if reads { Scope::OrdersRead } else { Scope::OrdersWrite })
        }
        Route::DeadLetters
        | Route::DeadLetter
        | Route::DeadLettersReplay
        | Route::DeadLetterReplay
        | Route::DeadLetterDiscard
        | Route::ApiKeys
        | Route::ApiKey
        | Route::Sales
        | Route::Sale
        | Route::LogLevel => Some(Scope::Admin),
        // Probes, the documentation, and what is not there.
        Route::Health | Route::Docs | Route::Unmatched => None,
    }
}

/// Whether a caller who is bound to one customer may ask for it at all, given the scope. What he
/// then sees is his own only; what shows everybody's is not for him.
pub fn for_customers(route: Route, method: &Method) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Products | Route::Product => reads,
        Route::Orders | Route::Order | Route::OrderCancel | Route::Holds | Route::Hold => true,
        _ => needed(route, method).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_needs_more_than_reading() {
        for route in Route::ALL {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let needed = needed(route, &method);
                assert!(
                    !matches!(needed, Some(Scope::ProductsRead | Scope::OrdersRead)),
                    "{route:?}"
                );
            }
            let open = needed(route, &Method::GET).is_none();
            assert_eq!(open, matches!(route, Route::Health | Route::Docs | Route::Unmatched));
        }
    }

    #[test]
    fn a_customer_changes_no_product_and_sees_no_others_affairs() {
        for route in Route::ALL {
            let his = matches!(
                route,
                Route::Orders | Route::Order | Route::OrderCancel | Route::Holds | Route::Hold
            );
            let open = matches!(route, Route::Health | Route::Docs | Route::Unmatched);
            assert_eq!(for_customers(route, &Method::POST), his || open, "{route:?}");
            let shown = matches!(route, Route::Products | Route::Product);
            assert_eq!(for_customers(route, &Method::GET), his || open || shown, "{route:?}");
        }
    }
}
