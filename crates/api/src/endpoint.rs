//! Endpoints. Each is declared once, beside its handler. The router, access control, metric labels, the port and the
//! OpenAPI document are derived from the declaration.
//!
//! The handler's arguments and answer describe themselves ([`Argument`], [`Answer`]).
//!
//! | file | subject |
//! |---|---|
//! | `signature` | what a handler's arguments and answer add to the document |
//! | `answer` | answers of handlers |
//! | `answer_schema` | the schemas of answers, flat |

mod answer;
mod answer_schema;
mod signature;

use axum::{
    handler::Handler,
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};

pub use answer::{Created, JsonAnswer, JsonArray, JsonOk, NoContent};
pub(crate) use answer_schema::answer_schema;
pub use signature::{Answer, Argument, Description, Signature};

pub use crate::access::Access;
use crate::{
    access::Scope,
    app::App,
    problem::{FieldError, ProblemKind},
};

/// The declaration of an endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub method: Method,
    /// The path, with the name of a part that varies in braces.
    pub path: &'static str,
    /// An example of that part for the document, which exists after `make run`; empty if no part varies.
    pub path_example: &'static str,
    /// The required scope. Endpoints that need [`Scope::Admin`] are only on the admin port. All others are on the public
    /// port; those that only read or need no scope are on the admin port, too. Requests that need a scope count against
    /// the caller's rate limit.
    pub access: Access,
    /// The group in the document.
    pub tag: Tag,
    /// The name of the operation in generated clients.
    pub operation_id: &'static str,
    /// A short imperative sentence.
    pub summary: &'static str,
    /// Everything else that a client needs to know.
    pub description: &'static str,
    /// A description of the successful answer.
    pub answer: &'static str,
    /// Headers of a successful answer.
    pub headers: &'static [AnswerHeader],
    /// Possible problems, besides those that access and the arguments add.
    pub problems: &'static [&'static [ProblemKind]],
}

/// A port with its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// For shops and their customers.
    Public,
    /// For operators: keys, sales and dead letters, and the read endpoints of the public port.
    Admin,
}

impl Surface {
    /// Whether an endpoint with this method and access is on the port.
    pub fn has(self, method: &Method, access: Access) -> bool {
        let Some(scope) = access.scope() else { return true };
        match self {
            Self::Public => scope != Scope::Admin,
            Self::Admin => scope == Scope::Admin || method == Method::GET,
        }
    }
}

/// A header of a successful answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHeader {
    pub name: &'static str,
    /// Its description in the document.
    pub description: &'static str,
}

/// `Location`
pub const LOCATION: AnswerHeader =
    AnswerHeader { name: "Location", description: "The path of the new resource" };
/// `ETag`
pub const ETAG: AnswerHeader = AnswerHeader {
    name: "ETag",
    description: "The entity tag of the product in its current state",
};
/// `Idempotency-Replayed`
pub const REPLAYED: AnswerHeader = AnswerHeader {
    name: "Idempotency-Replayed",
    description: "`true` if this is the result of an earlier request with the same key",
};

/// The problems of an endpoint that reads from the database.
pub const READS: &[ProblemKind] = &[ProblemKind::Overloaded, ProblemKind::Unavailable];
/// The problems of an endpoint that changes something in the database.
pub const WRITES: &[ProblemKind] = &[
    ProblemKind::Overloaded,
    ProblemKind::Locked,
    ProblemKind::Unavailable,
    ProblemKind::OutcomeUnknown,
];
/// The problems of an endpoint that waits for a product's stock.
pub const ADMISSION: &[ProblemKind] = &[
    ProblemKind::Overloaded,
    ProblemKind::Locked,
    ProblemKind::Unavailable,
    ProblemKind::ShuttingDown,
    ProblemKind::OutcomeUnknown,
    ProblemKind::Timeout,
];

macro_rules! tags {
    ($($tag:ident: $name:literal, $description:literal;)+) => {
        /// A group of operations in the document.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Tag { $($tag,)+ }

        impl Tag {
            /// Each group, in the order of the document.
            pub const ALL: &[Self] = &[$(Self::$tag),+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$tag => $name,)+ }
            }

            /// Its description in the document.
            pub fn description(self) -> &'static str {
                match self { $(Self::$tag => $description,)+ }
            }
        }
    };
}

tags! {
    Products: "products", "Products and their stock";
    Orders: "orders", "Orders take stock immediately and are fulfilled by workers";
    Holds: "holds", "Stock that is reserved for a customer for a limited time, for example for a cart";
    Sales: "flash sales", "Times at which products can be ordered, and limits for each customer";
    ApiKeys: "API keys", "Keys with scopes, for callers of the API";
    DeadLetters: "dead letters", "Orders that could not be fulfilled and wait for an operator";
    LogLevel: "log level", "The log level of a running process";
    Console: "console", "The state of the whole system, for operators";
    Health: "health", "The state of this process";
}

/// An endpoint with its handler.
pub struct BoundEndpoint {
    /// The declaration.
    pub endpoint: Endpoint,
    /// The route to the handler.
    pub router: MethodRouter<App>,
    /// The description that is derived from the handler's signature.
    pub description: Description,
}

impl Endpoint {
    pub fn answered_by<H, HandlerArguments, Arguments>(self, handler: H) -> BoundEndpoint
    where
        H: Handler<HandlerArguments, App> + Signature<Arguments>,
        HandlerArguments: 'static,
    {
        let mut description = Description::default();
        if self.access != Access::Open {
            description.may_answer(&[
                ProblemKind::Unauthorized,
                ProblemKind::Forbidden,
                ProblemKind::TooManyRequests,
            ]);
        }
        self.problems.iter().for_each(|problems| description.may_answer(problems));
        H::describe(&mut description);
        // Each endpoint refuses unknown parameters.
        if description.wrong.is_empty() {
            description.may_be_wrong(FieldError::unknown_parameter("colour".to_owned(), &[]));
        }
        // Each method of an endpoint has a filter.
        let filter = MethodFilter::try_from(self.method.clone()).unwrap_or(MethodFilter::GET);
        BoundEndpoint { router: on(filter, handler), description, endpoint: self }
    }
}
