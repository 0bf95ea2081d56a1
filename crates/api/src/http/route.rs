//! Finds the route of a path: the label for metrics, and the access that each method needs.
//!
//! The table is created once from the endpoints. A lookup needs a few comparisons in the order of the endpoints, and no
//! allocation.

use std::sync::LazyLock;

use axum::http::Method;
use utoipa::openapi::path::ParameterIn;

use crate::{
    access::Access,
    endpoint::{BoundEndpoint, Surface},
    routes,
};

/// The template of a path, or a label for paths that are not endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route(usize);

/// The labels of paths that are not endpoints, in the order of their numbers.
const OTHERS: [&str; 3] = ["/docs", "unmatched", "/console"];

static PATHS: LazyLock<Vec<Path>> = LazyLock::new(|| paths(routes::all()));

/// A path with its endpoints.
#[derive(Debug)]
struct Path {
    template: &'static str,
    /// The path before the variable part, or the whole path.
    prefix: &'static str,
    /// The path after the variable part; `None` if there is no variable part.
    suffix: Option<&'static str>,
    label: &'static str,
    methods: Vec<Served>,
}

/// A method of a path.
#[derive(Debug)]
struct Served {
    method: Method,
    access: Access,
    takes: Takes,
}

/// The parameters and the body of an endpoint.
#[derive(Debug)]
pub struct Takes {
    /// The names of the query parameters.
    pub query: Vec<String>,
    /// Whether it has a body.
    pub body: bool,
}

impl From<BoundEndpoint> for (&'static str, Served) {
    fn from(bound: BoundEndpoint) -> Self {
        let BoundEndpoint { endpoint, description, .. } = bound;
        let parameters = description.parameters.into_iter();
        let query = parameters.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
        let query = query.map(|parameter| parameter.name).collect();
        let takes = Takes { query, body: description.body.is_some() };
        (endpoint.path, Served { method: endpoint.method, access: endpoint.access, takes })
    }
}

/// Paths without a variable part come first: `/dead-letters/replay` is not `/dead-letters/{id}`.
fn paths(endpoints: Vec<BoundEndpoint>) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    for endpoint in endpoints {
        let (template, method) = endpoint.into();
        match paths.iter_mut().find(|path| path.template == template) {
            Some(path) => path.methods.push(method),
            None => paths.push(Path::new(template, method)),
        }
    }
    paths.sort_by_key(|path| path.suffix.is_some());
    paths
}

impl Path {
    fn new(template: &'static str, method: Served) -> Self {
        let (prefix, suffix) = match template.split_once('{') {
            Some((prefix, rest)) => (prefix, rest.split_once('}').map(|(_, suffix)| suffix)),
            None => (template, None),
        };
        // Probes are counted together.
        let label = if method.access == Access::Open { "/health" } else { template };
        Self { template, prefix, suffix, label, methods: vec![method] }
    }

    /// The endpoint for a method. HEAD is handled like GET.
    fn served(&self, method: &Method) -> Option<&Served> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|served| served.method == *method)
    }

    fn has(&self, path: &str) -> bool {
        match self.suffix {
            None => path == self.prefix,
            Some(suffix) => path
                .strip_prefix(self.prefix)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|part| !part.contains('/')),
        }
    }
}

impl Route {
    /// `/`, `/docs` and below, `/redoc`, `/openapi.json`, `/problems` and below
    pub const DOCS: Self = Self(0);
    /// Paths that do not exist.
    pub const UNMATCHED: Self = Self(1);
    /// `/console` and below, on the admin port
    pub const CONSOLE: Self = Self(2);

    /// The number of routes.
    pub fn count() -> usize {
        OTHERS.len() + PATHS.len()
    }

    /// The route of a path. A slash at the end is ignored.
    pub fn of(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some(at) = PATHS.iter().position(|known| known.has(path)) {
            return Self(OTHERS.len() + at);
        }
        let below = |parent: &str| path.strip_prefix(parent).is_some_and(|rest| !rest.is_empty());
        let is_docs = matches!(path, "" | "/docs" | "/redoc" | "/openapi.json" | "/problems")
            || below("/docs/")
            || path.strip_prefix("/problems/").is_some_and(|name| !name.contains('/'));
        let is_console = path
            .strip_prefix("/console")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match () {
            () if is_docs => Self::DOCS,
            () if is_console => Self::CONSOLE,
            () => Self::UNMATCHED,
        }
    }

    /// Whether this port serves the route.
    pub fn is_on(self, surface: Surface) -> bool {
        let Some(path) = self.path() else {
            return self != Self::CONSOLE || surface == Surface::Admin;
        };
        path.methods.iter().any(|served| surface.has(&served.method, served.access))
    }

    /// The access that the request needs. An unsupported method needs the same access as a change.
    pub fn access(self, method: &Method) -> Access {
        let Some(path) = self.path() else { return Access::Open };
        let change = || path.methods.iter().find(|served| served.method != Method::GET);
        let needed = path.served(method).or_else(change).or(path.methods.first());
        needed.map_or(Access::Open, |served| served.access)
    }

    /// The parameters and body of the endpoint, if there is one on this port.
    pub fn takes(self, method: &Method, surface: Surface) -> Option<&'static Takes> {
        let served = self.path()?.served(method)?;
        surface.has(&served.method, served.access).then_some(&served.takes)
    }

    /// The number of the route, less than [`Self::count`].
    pub fn index(self) -> usize {
        self.0
    }

    /// The label of the metrics.
    pub fn label(self) -> &'static str {
        self.path().map_or_else(|| OTHERS[self.0.min(OTHERS.len() - 1)], |path| path.label)
    }

    fn path(self) -> Option<&'static Path> {
        PATHS.get(self.0.checked_sub(OTHERS.len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Scope, endpoint::Endpoint};

    #[test]
    fn a_path_belongs_to_its_route_with_and_without_a_slash() {
        for (path, label) in [
            ("/orders", "/orders"),
            ("/orders/7", "/orders/{id}"),
            ("/orders/7/cancel", "/orders/{id}/cancel"),
            ("/orders/7/8/cancel", "unmatched"),
            ("/holds", "/holds"),
            ("/holds/7", "/holds/{id}"),
            ("/products", "/products"),
            ("/products/x", "/products/{id}"),
            ("/products/7/stock", "/products/{id}/stock"),
            ("/products/7/stock-ledger", "/products/{id}/stock-ledger"),
            ("/dead-letters/7", "/dead-letters/{id}"),
            ("/dead-letters/replay", "/dead-letters/replay"),
            ("/dead-letters/7/replay", "/dead-letters/{id}/replay"),
            ("/sales/a%2Fb", "/sales/{name}"),
            ("/readyz", "/health"),
            ("/docs/index.html", "/docs"),
            ("/console", "/console"),
            ("/console/console.js", "/console"),
            ("/consoles", "unmatched"),
            ("/problems/validation", "/docs"),
            ("/problems/validation/x", "unmatched"),
            ("/products/7/x", "unmatched"),
            ("/ordersx", "unmatched"),
            ("", "/docs"),
        ] {
            assert_eq!(Route::of(path).label(), label, "{path}");
            assert_eq!(Route::of(&format!("{path}/")).label(), label, "{path}/");
        }
        assert_eq!(Route::of("/orders//").label(), "/orders/{id}");
        assert_eq!(Route::of("*"), Route::UNMATCHED);
    }

    #[test]
    fn routes_have_unique_numbers() {
        let mut seen = vec![false; Route::count()];
        for path in PATHS.iter() {
            let route = Route::of(&path.template.replace(['{', '}'], ""));
            assert_eq!(route.path().map(|path| path.template), Some(path.template));
            assert!(!std::mem::replace(&mut seen[route.index()], true));
        }
    }

    #[test]
    fn the_path_of_each_endpoint_is_found() {
        for bound in routes::all() {
            let Endpoint { path, method, access, .. } = bound.endpoint;
            assert!(path.matches('{').count() <= 1, "{path}");
            let route = Route::of(&path.replace("{id}", "7").replace("{name}", "7"));
            assert_eq!(route.access(&method), access, "{method} {path}");
            for surface in [Surface::Public, Surface::Admin] {
                assert_eq!(
                    route.is_on(surface),
                    surface.has(&method, access) || {
                        // Another method of the same path.
                        let all = routes::all().into_iter().map(|bound| bound.endpoint);
                        all.filter(|other| other.path == path)
                            .any(|other| surface.has(&other.method, other.access))
                    },
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn changes_need_other_scopes_than_reads() {
        for bound in routes::all() {
            let Endpoint { path, method, access, .. } = bound.endpoint;
            if method != Method::GET {
                let scope = access.scope();
                assert!(
                    !matches!(scope, None | Some(Scope::ProductsRead | Scope::OrdersRead)),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_method_needs_what_the_known_ones_need() {
        let needs = |path: &str, method: Method| Route::of(path).access(&method).scope();
        assert_eq!(needs("/products/7", Method::PATCH), Some(Scope::ProductsWrite));
        assert_eq!(needs("/products/7", Method::HEAD), Some(Scope::ProductsRead));
        assert_eq!(needs("/orders", Method::DELETE), Some(Scope::OrdersWrite));
        assert_eq!(needs("/api-keys", Method::PUT), Some(Scope::Admin));
        assert_eq!(needs("/nowhere", Method::GET), None);
    }

    #[test]
    fn a_customer_can_neither_change_products_nor_see_data_of_others() {
        let mut of_customers: Vec<_> = routes::all()
            .into_iter()
            .map(|bound| bound.endpoint)
            .filter(|endpoint| matches!(endpoint.access, Access::Customers(_)))
            .map(|endpoint| endpoint.operation_id)
            .collect();
        of_customers.sort_unstable();
        let expected = [
            "cancel_order",
            "create_hold",
            "create_order",
            "get_hold",
            "get_order",
            "get_product",
            "list_holds",
            "list_orders",
            "list_products",
            "release_hold",
        ];
        assert_eq!(of_customers, expected);
    }
}
