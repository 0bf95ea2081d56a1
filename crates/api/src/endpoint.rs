//! Endpoints: each is declared once, beside its handler, and everything that must know of it is made from that: the
//! router, access, the labels of the metrics, the port, and the OpenAPI document.
//!
//! What the handler's own signature says is not said again: its arguments and its answer describe themselves
//! ([`Argument`], [`Answer`]).
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
use crate::{access::Scope, app::App, http::unknown_parameter, problem::ProblemKind};

/// The declaration of an endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with the name of a part that varies in braces.
    pub path: &'static str,
    /// What stands in that part in the document's example, which is there when `make run` begins; empty where no part
    /// varies.
    pub path_example: &'static str,
    /// What a caller needs. [`Scope::Admin`] is on the admin port, other scopes are on the public one, and what only reads
    /// or is open to everybody is on both. Requests of a caller who was asked for a scope count against their rate.
    pub access: Access,
    /// The group in the document.
    pub tag: Tag,
    /// The name of the operation in generated clients.
    pub operation_id: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The rest of what one must know.
    pub description: &'static str,
    /// What a successful answer has.
    pub answer: &'static str,
    /// Headers of a successful answer.
    pub headers: &'static [AnswerHeader],
    /// The problems that it can answer with, besides those that access and its arguments add.
    pub problems: &'static [&'static [ProblemKind]],
}

/// A port, and what answers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// For shops and their customers.
    Public,
    /// For operators: keys, sales and dead letters, and what the public port shows of the shop.
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
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub description: &'static str,
}

/// `Location`
pub const LOCATION: AnswerHeader = AnswerHeader { name: "Location", description: "Its path" };
/// `ETag`
pub const ETAG: AnswerHeader =
    AnswerHeader { name: "ETag", description: "Names the product as it is now" };
/// `Idempotency-Replayed`
pub const REPLAYED: AnswerHeader = AnswerHeader {
    name: "Idempotency-Replayed",
    description: "`true` if an earlier request with the same key did it",
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
/// The problems of an endpoint that waits for its turn at a product's stock.
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

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$tag => $name,)+ }
            }

            /// What its operations are about.
            pub fn description(self) -> &'static str {
                match self { $(Self::$tag => $description,)+ }
            }
        }
    };
}

tags! {
    Products: "products", "What is sold, and how much of it is left";
    Orders: "orders", "Orders take stock at once, and are fulfilled by workers";
    Holds: "holds", "Stock that is kept for a customer for a while, such as a cart's";
    Sales: "flash sales", "When products may be ordered, and how much of them one customer gets";
    ApiKeys: "API keys", "Who may do what";
    DeadLetters: "dead letters", "Orders that could not be fulfilled, until an operator replays or discards them";
    LogLevel: "log level", "What a process logs, changed while it runs";
    Console: "console", "What an operator sees of the system as a whole";
    Health: "health", "The state of this process";
}

/// An endpoint with its handler.
pub struct BoundEndpoint {
    /// The declaration.
    pub endpoint: Endpoint,
    /// Leads to the handler.
    pub router: MethodRouter<App>,
    /// What the handler's signature says.
    pub description: Description,
}

impl Endpoint {
    /// The endpoint, answered by `handler`.
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
        // Each endpoint refuses parameters that it does not have.
        if description.wrong.is_empty() {
            description.may_be_wrong(unknown_parameter("colour".to_owned(), &[]));
        }
        // Each method of an endpoint has a filter.
        let filter = MethodFilter::try_from(self.method.clone()).unwrap_or(MethodFilter::GET);
        BoundEndpoint { router: on(filter, handler), description, endpoint: self }
    }
}
