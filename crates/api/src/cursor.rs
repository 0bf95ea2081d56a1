//! Keyset pagination: opaque cursors, and the `Link` header with the next page.
//!
//! A cursor identifies the row after which the next page begins. Its format is
//!
//! ```text
//! base64url( version: 1 byte | seal: 8 bytes | position )
//! ```
//!
//! The seal is the beginning of a SHA-256 of the version, the list, the values of its filters and the position. A cursor
//! that is invented, truncated, or from another list or other filters is therefore refused. The seal is not secret:
//! anybody can compute a cursor, but gets only a page that is accessible anyway, because every position is validated.

use std::marker::PhantomData;

use axum::{
    body::Body,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdfast_domain::Invalid;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::{
    byte_budget::Charge,
    encode::encode,
    endpoint::{Answer, Description, JsonArray},
    problem::{FieldError, Problem},
    request::{Input, PageLimit, Reading, Request, Value, Wrong},
};

/// The name of the query parameter.
pub const CURSOR: &str = "cursor";

const VERSION: u8 = 1;
const SEAL_BYTES: usize = 8;
/// The longest text within a position, in bytes: a product's name.
const TEXT_MAX: usize = 4 * holdfast_domain::MAX_NAME_CHARS;
/// The largest number within a position: the end of the year 9999 in microseconds, because a query with a later time
/// fails. Ids and versions are much smaller.
const NUMBER_MAX: i64 = 253_402_300_799_999_999;
/// An upper bound of the length of a cursor.
const CURSOR_MAX: usize = 2048;

/// A list with its filters, for which a cursor is valid.
///
/// ```
/// # use holdfast_api::cursor::CursorScope;
/// let scope = CursorScope::new("orders").filter(Some("pending")).filter(None::<&str>);
/// let cursor = scope.cursor(&4711_i64);
/// assert_eq!(scope.position(&cursor), Ok(4711_i64));
/// let other = CursorScope::new("orders").filter(Some("failed")).filter(None::<&str>);
/// assert!(other.position::<i64>(&cursor).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct CursorScope(Sha256);

impl CursorScope {
    /// A list, identified by a unique name.
    pub fn new(list: &'static str) -> Self {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        Self(hash).part(list.as_bytes())
    }

    /// Adds the value of the next filter. All filters must be given, always in the same order; `None` for a filter that is
    /// not set.
    pub fn filter(self, value: Option<impl ToString>) -> Self {
        match value {
            None => self.part(b"-"),
            Some(value) => self.part(format!("={}", value.to_string()).as_bytes()),
        }
    }

    /// Adds a part after its length, so that different lists of parts never have the same bytes.
    fn part(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// The cursor after a row.
    pub fn cursor<P: Position>(&self, position: &P) -> String {
        let mut payload = Vec::with_capacity(32);
        position.write(&mut payload);
        let mut cursor = vec![VERSION];
        cursor.extend(self.seal(&payload));
        cursor.extend(payload);
        BASE64_URL_SAFE_NO_PAD.encode(cursor)
    }

    /// The row after which the page begins.
    ///
    /// # Errors
    /// The text is not a cursor of this list with these filters.
    pub fn position<P: Position>(&self, cursor: &str) -> Result<P, Invalid> {
        self.open(cursor).ok_or_else(|| {
            Invalid::from(
                "must be a cursor from an earlier answer of this list with the same filters; \
                 leave it out to start from the beginning",
            )
        })
    }

    fn open<P: Position>(&self, cursor: &str) -> Option<P> {
        if cursor.len() > CURSOR_MAX {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let (seal, mut payload) = rest.split_at_checked(SEAL_BYTES)?;
        if version != VERSION || seal != self.seal(payload) {
            return None;
        }
        P::read(&mut payload).filter(|_| payload.is_empty())
    }

    fn seal(&self, payload: &[u8]) -> [u8; SEAL_BYTES] {
        let mut seal = [0; SEAL_BYTES];
        let hash = self.clone().part(payload).0.finalize();
        seal.copy_from_slice(&hash[..SEAL_BYTES]);
        seal
    }
}

/// The position of a row in a list: the values that the list is sorted by.
pub trait Position: Sized {
    /// Appends the position.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a position from the front of `input`. `None` if no row can have it, because a query could fail on it.
    fn read(input: &mut &[u8]) -> Option<Self>;
}

/// An id, a version, or a time in microseconds since 1970.
impl Position for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to_be_bytes());
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(Self::from_be_bytes(*bytes)).filter(|number| (0..=NUMBER_MAX).contains(number))
    }
}

impl Position for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.len() as u64).to_be_bytes());
        out.extend(self.as_bytes());
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        *input = rest;
        let text = str::from_utf8(text).ok()?;
        // PostgreSQL's text cannot contain NUL.
        (length <= TEXT_MAX && !text.contains('\0')).then(|| text.to_owned())
    }
}

impl<A: Position, B: Position> Position for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some((A::read(input)?, B::read(input)?))
    }
}

/// A cursor in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// The row after which the page begins, if the request has a cursor.
    ///
    /// # Errors
    /// The text is not a cursor of this list with these filters.
    pub fn position<P: Position>(
        cursor: Option<Self>,
        scope: &CursorScope,
    ) -> Result<Option<P>, Problem> {
        cursor
            .map(|Self(text)| scope.position(&text))
            .transpose()
            .map_err(|Invalid(reason)| Problem::validation(vec![FieldError::new(CURSOR, reason)]))
    }
}

impl Value for Cursor {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self(input.text()?))
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).into()
    }
}

/// The part of a list that has no filters.
#[derive(Debug, Request)]
pub struct ListPart {
    /// The most entries on the page; 100 if not given
    #[field(nullable = false)]
    pub limit: Option<PageLimit>,
    /// The start of the page, from the header Link of the previous page
    #[field(nullable = false)]
    pub cursor: Option<Cursor>,
}

pub struct PageAnswer<T>(Response, PhantomData<fn() -> T>);

impl<T> IntoResponse for PageAnswer<T> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<T: ToSchema> Answer for PageAnswer<T> {
    fn describe(description: &mut Description) {
        JsonArray::<T>::describe(description);
        description.is_page = true;
    }
}

/// One page of a list, with the `Link` header (RFC 8288) of the next page if `next` is a row after which there may be
/// more.
pub fn page<T: Serialize, P: Position>(
    uri: &Uri,
    scope: &CursorScope,
    items: &[T],
    next: Option<&P>,
    room: Charge,
) -> PageAnswer<T> {
    let mut response = Response::new(Body::from(encode(&items)));
    drop(room);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(link) = next.and_then(|next| next_link(uri, &scope.cursor(next))) {
        headers.insert(header::LINK, link);
    }
    PageAnswer(response, PhantomData)
}

/// The request's own path and parameters with this cursor. Never `None`, because everything is percent-encoded.
fn next_link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(given.filter(|(name, _)| name != CURSOR && name != SKIP));
    query.append_pair(CURSOR, cursor);
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())).ok()
}

/// A parameter that applies only to the first page.
const SKIP: &str = "skip";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type TestPosition = (String, i64);

    fn scope() -> CursorScope {
        CursorScope::new("products").filter(Some("lamp")).filter(None::<&str>)
    }

    #[test]
    fn a_cursor_is_valid_only_for_its_own_list_and_filters() {
        let cursor = scope().cursor(&7_i64);
        assert_eq!(scope().position(&cursor), Ok(7_i64));
        for other in [
            CursorScope::new("orders").filter(Some("lamp")).filter(None::<&str>),
            CursorScope::new("products").filter(None::<&str>).filter(Some("lamp")),
            CursorScope::new("products").filter(Some("lam")).filter(Some("p")),
            CursorScope::new("products").filter(Some("lamp")),
        ] {
            assert!(other.position::<i64>(&cursor).is_err(), "{other:?}");
        }
        assert!(scope().position::<TestPosition>(&cursor).is_err(), "another kind of position");
    }

    #[test]
    fn positions_that_a_query_cannot_use_are_refused() {
        for number in [-1, i64::MIN, NUMBER_MAX + 1, i64::MAX] {
            assert!(scope().position::<i64>(&scope().cursor(&number)).is_err(), "{number}");
        }
        for text in ["a\0b", &"x".repeat(TEXT_MAX + 1)] {
            assert!(scope().position::<String>(&scope().cursor(&text.to_owned())).is_err());
        }
    }

    #[test]
    fn the_link_keeps_the_parameters_and_replaces_the_cursor() {
        let uri = "/orders?limit=2&customer_ref=J%C3%BCrgen+%26+%22Co%22&cursor=old&skip=3";
        let link = next_link(&uri.parse().unwrap(), "new").unwrap();
        assert_eq!(
            link,
            "</orders?limit=2&customer_ref=J%C3%BCrgen+%26+%22Co%22&cursor=new>; rel=\"next\""
        );
        let link = next_link(&"/products".parse().unwrap(), "new").unwrap();
        assert_eq!(link, "</products?cursor=new>; rel=\"next\"");
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_its_position(name in "[^\0]{0,200}", id in 0..=NUMBER_MAX) {
            let cursor = scope().cursor(&(name.clone(), id));
            prop_assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(scope().position::<TestPosition>(&cursor), Ok((name, id)));
        }

        #[test]
        fn any_other_text_is_refused(text in "[A-Za-z0-9_-]{0,80}|.{0,40}") {
            prop_assert!(scope().position::<i64>(&text).is_err());
            prop_assert!(scope().position::<TestPosition>(&text).is_err());
        }

        #[test]
        fn a_cursor_that_was_changed_is_refused(id in 0..=NUMBER_MAX, at in 0_usize..22, to in "[A-Za-z0-9_-]") {
            let cursor = scope().cursor(&id);
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != cursor);
            prop_assert!(scope().position::<i64>(&changed).is_err());
        }
    }
}
