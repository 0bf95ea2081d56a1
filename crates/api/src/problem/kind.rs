//! The kinds of problems.

use axum::http::StatusCode;

macro_rules! kinds {
    ($($kind:ident: $slug:literal, $status:ident, $title:literal, $explanation:literal;)+) => {
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
        "The key or token is valid but does not allow this; `detail` has the reason.";
    TooManyRequests: "too-many-requests", TOO_MANY_REQUESTS, "Too many requests",
        "The key or token has exceeded its limit of requests per second. Nothing was changed. Try again after `Retry-After`.";
    TooManyConnections: "too-many-connections", TOO_MANY_REQUESTS, "Too many connections from one address",
        "Your address has reached its limit of connections or concurrent requests. Nothing was changed. Use fewer, or try again after `Retry-After`.";
    NotFound: "not-found", NOT_FOUND, "Not found",
        "There is nothing at this address.";
    MethodNotAllowed: "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        "This address does not support the method; the header `Allow` lists the supported methods.";
    SlowRequest: "slow-request", REQUEST_TIMEOUT, "Request timeout",
        "The headers or the body did not arrive in time. Nothing was changed.";
    NotEnoughStock: "not-enough-stock", CONFLICT, "Not enough stock",
        "Fewer units are left than the request needs; `left` is their number. Nothing was changed.";
    SaleNotOpen: "sale-not-open", CONFLICT, "Sale not open yet",
        "The product is in a flash sale that is not open yet; `starts_at` is the time at which it opens, by the database's clock. Nothing was changed.";
    SaleOver: "sale-over", CONFLICT, "Sale over",
        "The product was in a flash sale that has ended. Nothing was changed.";
    OverLimit: "over-limit", CONFLICT, "Customer limit exceeded",
        "The product's flash sale allows `limit` units for each customer, and this customer can still order `left`. Nothing was changed.";
    VersionConflict: "version-conflict", CONFLICT, "Version conflict",
        "The product does not have the version that the request names; `version` is its current version. Nothing was changed. Read the product again, then decide.";
    PriceChanged: "price-changed", CONFLICT, "Price changed",
        "The price is not the one that the request expects; `product_id` names the product, and `current_price` is its current price. Nothing was changed. Ask the customer, then send the request with the new price.";
    OrderMoved: "order-moved", CONFLICT, "Order is in another state",
        "Only a pending order can be cancelled, and only a failed order can be replayed or discarded; `state` is the state of this order. Nothing was changed.";
    OrderMayBeFulfilled: "order-may-be-fulfilled", CONFLICT, "Order cannot be cancelled",
        "An attempt to fulfil the order may have succeeded, so its units cannot be sold again. Nothing was changed. The order is tried again until it is completed or fails. An operator who has made sure that it was not fulfilled can discard it before that.";
    HoldEnded: "hold-ended", CONFLICT, "Hold ended",
        "The hold is no longer active; `state` is `used`, `released` or `expired`. Nothing was changed.";
    StockFull: "stock-full", CONFLICT, "Stock limit exceeded",
        "The product's stock would exceed the highest possible number. Nothing was changed.";
    KeyReused: "idempotency-key-reused", UNPROCESSABLE_ENTITY, "Idempotency key reused",
        "The `Idempotency-Key` was used before with a different request. Nothing was changed. Use a new key for a new request.";
    SaleBegun: "sale-begun", CONFLICT, "Sale has begun",
        "The start and the products of a sale that has begun cannot be changed. Nothing was changed. Delete the sale, or wait until it ends.";
    TooManySales: "too-many-sales", CONFLICT, "Too many sales",
        "The shop or the product has reached the limit of sales, including those that are over. Nothing was changed. Delete a sale first.";
    TooManyKeys: "too-many-keys", CONFLICT, "Too many keys",
        "The limit of valid keys is reached. Nothing was changed. Revoke a key first.";
    PreconditionFailed: "precondition-failed", PRECONDITION_FAILED, "Precondition failed",
        "The product does not match `If-Match`, or it matches `If-None-Match`; `version` is its current version. Nothing was changed. Read the product again, then decide.";
    BodyTooLarge: "body-too-large", PAYLOAD_TOO_LARGE, "Body too large",
        "The body is larger than this server accepts. Nothing was changed.";
    UnsupportedMediaType: "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type",
        "The body must be plain JSON: send it with `Content-Type: application/json` and without `Content-Encoding`.";
    TargetTooLong: "target-too-long", URI_TOO_LONG, "URI too long",
        "The request's path and query are longer than this server accepts. Nothing was changed.";
    HeadersTooLarge: "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers too large",
        "The headers are larger than this server accepts.";
    Internal: "internal", INTERNAL_SERVER_ERROR, "Internal server error",
        "The server has failed. Its log contains the cause, with the `request_id`.";
    Overloaded: "overloaded", SERVICE_UNAVAILABLE, "Overloaded",
        "Too many requests are waiting. Nothing was changed. Try again after `Retry-After`.";
    Locked: "locked", SERVICE_UNAVAILABLE, "Row locked",
        "Another transaction has locked a row that the request needs. Nothing was changed. Try again after `Retry-After`.";
    Unavailable: "unavailable", SERVICE_UNAVAILABLE, "Database unavailable",
        "The database is not available at the moment. Try again after `Retry-After`.";
    ShuttingDown: "shutting-down", SERVICE_UNAVAILABLE, "Server shutting down",
        "The server is shutting down. Nothing was changed. Try again after `Retry-After`; another server will answer.";
    OutcomeUnknown: "outcome-unknown", SERVICE_UNAVAILABLE, "Outcome unknown",
        "The database did not confirm the change, and its outcome could not be looked up in time. The change may or may not have happened. Check before you try again, or repeat the request with the same `Idempotency-Key`, which is safe.";
    Timeout: "timeout", GATEWAY_TIMEOUT, "Gateway timeout",
        "The request took too long. The change may or may not have happened. Check before you try again.";
}

impl ProblemKind {
    /// The value of `Retry-After`.
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

    /// The kind for a status that needs no further details.
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
    fn each_kind_has_its_own_type() {
        let mut uris: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.uri()).collect();
        uris.sort_unstable();
        uris.dedup();
        assert_eq!(uris.len(), ProblemKind::ALL.len());
    }
}
