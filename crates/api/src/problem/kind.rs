//! The kinds of problems.

use axum::http::StatusCode;

macro_rules! kinds {
    ($($kind:ident: $slug:literal, $status:ident, $title:literal, $explanation:literal;)+) => {
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $(#[doc = $title] $kind,)+
        }

        impl ProblemKind {
            /// Each kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The kind's `type`: a reference to [its explanation](Self::explanation), resolved
            /// against the address of the API.
            pub fn uri(self) -> &'static str {
                match self { $(Self::$kind => concat!("/problems/", $slug),)+ }
            }

            /// The last part of its `type`.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug,)+ }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)+ }
            }

            /// Its title.
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }

            /// What it means and what to do.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$kind => $explanation,)+ }
            }
        }
    };
}

kinds! {
    Validation: "validation", UNPROCESSABLE_ENTITY, "Invalid request",
        "One or more fields are wrong; `errors` names each of them. Nothing was changed.";
    Unreadable: "unreadable", BAD_REQUEST, "Malformed request",
        "The request broke off, or is not valid HTTP. Nothing was changed.";
    Unauthorized: "unauthorized", UNAUTHORIZED, "Unauthorized",
        "The request has no valid key or token. Send one with `Authorization: Bearer …`.";
    Forbidden: "forbidden", FORBIDDEN, "Forbidden",
        "The key or token is valid, but does not allow this; `detail` tells why.";
    TooManyRequests: "too-many-requests", TOO_MANY_REQUESTS, "Too many requests",
        "The key or token has sent more requests in this second than it may. Nothing was changed: try again after `Retry-After`.";
    TooManyConnections: "too-many-connections", TOO_MANY_REQUESTS, "Too many connections from one address",
        "Your address has as many connections, or requests at the same time, as one address may have. Nothing was changed: use fewer, or try again after `Retry-After`.";
    NotFound: "not-found", NOT_FOUND, "Not found",
        "There is nothing at this address.";
    MethodNotAllowed: "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        "This address does not have the method; the header `Allow` lists those that it has.";
    SlowRequest: "slow-request", REQUEST_TIMEOUT, "Request timeout",
        "The headers or the body did not arrive in time. Nothing was changed.";
    NotEnoughStock: "not-enough-stock", CONFLICT, "Not enough stock",
        "Fewer units are left than the request asks for; `left` tells how many. Nothing was changed.";
    SaleNotOpen: "sale-not-open", CONFLICT, "Sale not open yet",
        "The product is in a flash sale that is not open; `starts_at` tells when it opens, by the database's clock. Nothing was changed.";
    SaleOver: "sale-over", CONFLICT, "Sale over",
        "The product was in a flash sale that has ended. Nothing was changed.";
    OverLimit: "over-limit", CONFLICT, "Customer limit exceeded",
        "The product's flash sale allows each customer `limit` units, of which this one has `left` left. Nothing was changed.";
    VersionConflict: "version-conflict", CONFLICT, "Version conflict",
        "The product is not at the version that the request names; `version` is its version now. Nothing was changed: read it again, then decide.";
    PriceChanged: "price-changed", CONFLICT, "Price changed",
        "One unit does not cost what the request expects; `product_id` tells which product, and `current_price` what one unit costs now. Nothing was changed: ask the customer, then send the request with the new price.";
    OrderMoved: "order-moved", CONFLICT, "Order is in another state",
        "Only a pending order can be cancelled, and only a failed one replayed or discarded; `state` tells the state of this one. Nothing was changed.";
    OrderMayBeFulfilled: "order-may-be-fulfilled", CONFLICT, "Order cannot be cancelled",
        "The order was sent to be fulfilled, and it is not known whether it was accepted, so its units cannot be sold again. Nothing was changed. It is tried again until it is completed or has failed. An operator who has made sure that it is not fulfilled can discard it before that.";
    HoldEnded: "hold-ended", CONFLICT, "Hold ended",
        "The hold no longer keeps its units; `state` tells whether it was used, was released or has expired. Nothing was changed.";
    StockFull: "stock-full", CONFLICT, "Stock limit exceeded",
        "The product's stock would exceed the most that the shop can hold. Nothing was changed.";
    KeyReused: "idempotency-key-reused", UNPROCESSABLE_ENTITY, "Idempotency key reused",
        "The same `Idempotency-Key` came before, with another request. Nothing was changed: use a new key for a new request.";
    SaleBegun: "sale-begun", CONFLICT, "Sale has begun",
        "The start and the products of a sale that has begun cannot be changed. Nothing was changed: delete the sale, or let it end.";
    TooManySales: "too-many-sales", CONFLICT, "Too many sales",
        "The shop, or the product, is in as many sales as it can be, those that are over included. Nothing was changed: delete one first.";
    TooManyKeys: "too-many-keys", CONFLICT, "Too many keys",
        "All valid keys are kept in memory, and there are as many as fit. Nothing was changed: revoke one first.";
    PreconditionFailed: "precondition-failed", PRECONDITION_FAILED, "Precondition failed",
        "The product is not one of those that `If-Match` names, or is one that `If-None-Match` names; `version` is its version now. Nothing was changed: read it again, then decide.";
    BodyTooLarge: "body-too-large", PAYLOAD_TOO_LARGE, "Body too large",
        "The body is larger than this server accepts. Nothing was changed.";
    UnsupportedMediaType: "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type",
        "The body must be plain JSON: send it with `Content-Type: application/json` and without `Content-Encoding`.";
    TargetTooLong: "target-too-long", URI_TOO_LONG, "URI too long",
        "The request's path and query are longer than this server accepts. Nothing was changed.";
    HeadersTooLarge: "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers too large",
        "The headers are larger than this server accepts.";
    Internal: "internal", INTERNAL_SERVER_ERROR, "Internal server error",
        "The fault is on the server's side. Its log has it under `request_id`.";
    Overloaded: "overloaded", SERVICE_UNAVAILABLE, "Overloaded",
        "More requests wait than can be served in time. Nothing was changed: try again after `Retry-After`.";
    Locked: "locked", SERVICE_UNAVAILABLE, "Product locked",
        "Other transactions held the product's lock for too long. Nothing was changed: try again after `Retry-After`.";
    Unavailable: "unavailable", SERVICE_UNAVAILABLE, "Database unavailable",
        "The database cannot be used at the moment. Try again after `Retry-After`.";
    ShuttingDown: "shutting-down", SERVICE_UNAVAILABLE, "Server shutting down",
        "Nothing was changed: try again after `Retry-After`; another server will answer.";
    OutcomeUnknown: "outcome-unknown", SERVICE_UNAVAILABLE, "Outcome unknown",
        "The database did not confirm the change and could not be asked about it in time. The order, or whatever was to be changed, may be there or not: look before trying again, or send the same request with the `Idempotency-Key` that it had, which is safe.";
    Timeout: "timeout", GATEWAY_TIMEOUT, "Gateway timeout",
        "The time for this request is over. A change that it asked for may have happened or not: look before trying again.";
}

impl ProblemKind {
    /// For `Retry-After`: when trying again makes sense.
    pub fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::Overloaded
            | Self::Locked
            | Self::ShuttingDown
            | Self::TooManyRequests
            | Self::TooManyConnections => Some(1),
            Self::Unavailable | Self::OutcomeUnknown => Some(2),
            _ => None,
        }
    }

    /// The kind for a status that says it all.
    pub fn of_status(status: StatusCode) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.status() == status)
            .unwrap_or(if status.is_client_error() { Self::Unreadable } else { Self::Internal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_503_and_429_says_when_to_try_again() {
        for kind in ProblemKind::ALL {
            let busy = matches!(
                kind.status(),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
            );
            assert_eq!(kind.retry_after_seconds().is_some(), busy, "{kind:?}");
        }
    }

    #[test]
    fn kinds_are_told_apart_by_their_type() {
        let mut uris: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.uri()).collect();
        uris.sort_unstable();
        uris.dedup();
        assert_eq!(uris.len(), ProblemKind::ALL.len());
    }
}
