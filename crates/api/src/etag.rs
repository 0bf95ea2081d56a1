//! Entity tags of products, and conditional requests (RFC 9110, sections 8.8.3 and 13.1).
//!
//! A product's tag is strong. It consists of the revision of the representation, the product's version, which increases
//! with each change, and a digest of the body. The version alone is not enough: a restored database assigns the same
//! versions to other contents, and a client with an old tag would be told that nothing has changed.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use bytes::Bytes;
use holdfast_domain::{Product, ProductId};
use holdfast_store::{LockedProduct, Store};
use utoipa::openapi::{ObjectBuilder, path::ParameterIn, schema::Type};

use crate::{
    endpoint::{Argument, Description},
    problem::{FieldError, Problem, ProblemKind},
    products::ProductBody,
};

/// The revision of [`ProductBody`](crate::products::ProductBody). It must be raised with each change, because otherwise
/// clients would keep the old form.
const FORM: u32 = 1;

/// The syntax of a condition, for error messages.
const MUST: &str = "must be * or a list of entity tags in double quotes, as the header ETag gives them: \"1-42-85944171f73967e8\"";

/// The entity tag of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductTag(String);

impl ProductTag {
    /// The tag of a product with this version and body.
    pub fn new(version: i64, body: &[u8]) -> Self {
        // FNV-1a is enough, because the contents are not chosen by an attacker.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let digest = body.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        Self(format!("{FORM}-{version}-{digest:016x}"))
    }

    pub fn of(product: &ProductBody) -> Self {
        Self::new(product.version, &crate::encode::encode(product))
    }

    /// The header `ETag`.
    pub fn header(&self) -> HeaderValue {
        // A tag is visible ASCII, so this cannot fail.
        HeaderValue::from_maybe_shared(Bytes::from(format!("\"{}\"", self.0)))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }
}

/// The header `If-None-Match` of a read.
#[derive(Clone, Debug)]
pub struct IfNoneMatch(pub HeaderMap);

impl IfNoneMatch {
    /// Whether a read is answered with "not modified", because the header contains the current tag. An invalid header is
    /// ignored, because the full answer is always correct.
    pub fn is_known(&self, current: &ProductTag) -> bool {
        let condition = Precondition::read(&self.0, header::IF_NONE_MATCH);
        matches!(condition, Ok(Some(tags)) if tags.names(current))
    }
}

/// The conditions of a change, in the headers `If-Match` and `If-None-Match`.
#[derive(Clone, Debug)]
pub struct IfMatch(HeaderMap);

impl IfMatch {
    /// Locks the product, which meets the conditions.
    ///
    /// # Errors
    /// A header is neither `*` nor a list of tags, the product does not exist, or it does not meet the conditions.
    pub async fn lock(&self, store: &Store, id: i64) -> Result<LockedProduct, Problem> {
        let conditions = Preconditions::read(&self.0)?;
        if id < 1 {
            return Err(Problem::unknown_product(id));
        }
        let locked = store.lock_product(ProductId(id)).await?;
        let locked = locked.ok_or_else(|| Problem::unknown_product(id))?;
        conditions.check(locked.product())?;
        Ok(locked)
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.clone()))
    }
}

impl Argument for IfNoneMatch {
    fn describe(description: &mut Description) {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let about = "The ETag of the version that the client has";
        description.parameter(ParameterIn::Header, "If-None-Match", about, text.into());
    }
}

impl Argument for IfMatch {
    fn describe(description: &mut Description) {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let about = "Change the product only if this is its current ETag";
        description.parameter(ParameterIn::Header, "If-Match", about, text.into());
        description.may_answer(&[ProblemKind::PreconditionFailed]);
        description.may_be_wrong(FieldError::new("If-Match", MUST));
    }
}

/// The conditions under which a request may change a product.
#[derive(Debug)]
pub struct Preconditions<'h> {
    matches: Option<Precondition<'h>>,
    none_match: Option<Precondition<'h>>,
}

impl<'h> Preconditions<'h> {
    /// Reads the headers `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// A header is neither `*` nor a list of tags.
    pub fn read(headers: &'h HeaderMap) -> Result<Self, Problem> {
        let matches = Precondition::read(headers, header::IF_MATCH);
        let none_match = Precondition::read(headers, header::IF_NONE_MATCH);
        let wrong = |name| FieldError::new(name, MUST);
        let errors: Vec<_> = [
            matches.as_ref().err().map(|_| wrong("If-Match")),
            none_match.as_ref().err().map(|_| wrong("If-None-Match")),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (matches, none_match) {
            (Ok(matches), Ok(none_match)) => Ok(Self { matches, none_match }),
            _ => Err(Problem::validation(errors)),
        }
    }

    /// Compares the conditions with the locked product.
    ///
    /// # Errors
    /// A condition is not met.
    pub fn check(&self, product: &Product) -> Result<(), Problem> {
        if self.matches.is_none() && self.none_match.is_none() {
            return Ok(());
        }
        let current = ProductTag::of(&ProductBody::from(product.clone()));
        if self.holds_for(&current) {
            Ok(())
        } else {
            Err(Problem::precondition_failed(product.id.0, product.version))
        }
    }

    /// Whether a product with this tag meets the conditions.
    pub fn holds_for(&self, current: &ProductTag) -> bool {
        let matches = self.matches.as_ref().is_none_or(|tags| tags.names(current));
        let known = self.none_match.as_ref().is_some_and(|tags| tags.names(current));
        matches && !known
    }
}

/// The value of a conditional header.
#[derive(Debug, PartialEq, Eq)]
enum Precondition<'h> {
    Any,
    /// The tags without quotes.
    Tags(Vec<&'h [u8]>),
}

/// The suffixes that proxies add to a tag when they compress an answer.
const CODINGS: [&[u8]; 8] =
    [b"-gzip", b"--gzip", b";gzip", b"-br", b";br", b"-zstd", b"-deflate", b";deflate"];

/// An invalid conditional header.
#[derive(Debug, PartialEq, Eq)]
struct MalformedCondition;

impl<'h> Precondition<'h> {
    fn read(headers: &'h HeaderMap, name: HeaderName) -> Result<Option<Self>, MalformedCondition> {
        let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let Some(first) = lines.next() else { return Ok(None) };
        let mut more = lines.peekable();
        if first.trim_ascii() == b"*" && more.peek().is_none() {
            return Ok(Some(Self::Any));
        }
        // Several lines are one list.
        let mut tags = Vec::new();
        for line in std::iter::once(first).chain(more) {
            read_tags(line, &mut tags)?;
        }
        if tags.is_empty() { Err(MalformedCondition) } else { Ok(Some(Self::Tags(tags))) }
    }

    /// Whether the list contains the current tag, as this server sent it or as a compressing proxy changed it. Our tags
    /// are strong. A weak tag was weakened by such a proxy, and still identifies the version.
    fn names(&self, current: &ProductTag) -> bool {
        let Self::Tags(tags) = self else { return true };
        tags.iter().any(|tag| {
            let coding = tag.strip_prefix(current.0.as_bytes());
            coding.is_some_and(|coding| coding.is_empty() || CODINGS.contains(&coding))
        })
    }
}

/// A list such as `W/"…" , "…"`. Empty elements are ignored, as RFC 9110 (5.6.1) requires.
fn read_tags<'h>(line: &'h [u8], tags: &mut Vec<&'h [u8]>) -> Result<(), MalformedCondition> {
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(b",") {
            rest = behind.trim_ascii_start();
            continue;
        }
        let quoted = rest.strip_prefix(b"W/").unwrap_or(rest);
        let text = quoted.strip_prefix(b"\"").ok_or(MalformedCondition)?;
        let end = text.iter().position(|byte| *byte == b'"').ok_or(MalformedCondition)?;
        let opaque = &text[..end];
        // A tag contains no spaces or control characters.
        if opaque.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(MalformedCondition);
        }
        tags.push(opaque);
        rest = text[end + 1..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return Err(MalformedCondition);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())).collect()
    }

    fn seven() -> ProductTag {
        ProductTag("1-7".to_owned())
    }

    #[test]
    fn a_tag_names_the_version_and_the_content() {
        let tag = ProductTag::new(7, b"a");
        assert_eq!(tag.header(), "\"1-7-af63dc4c8601ec8c\"");
        assert_ne!(ProductTag::new(7, b"b"), tag);
        assert_ne!(ProductTag::new(8, b"a"), tag);
    }

    #[test]
    fn a_change_happens_only_if_a_tag_matches() {
        for (lines, holds) in [
            (&["\"1-7\""][..], true),
            (&["*"], true),
            (&[" * "], true),
            (&["\"1-6\", \"1-7\""], true),
            (&["\"1-6\"", ",, \"x,y\" ,\"1-7\","], true),
            (&["\"1-6\""], false),
            (&["\"2-7\""], false),
            (&["W/\"1-7\""], true),
            (&["\"1-7-gzip\""], true),
            (&["W/\"1-7;br\""], true),
            (&["W/\"1-6\""], false),
            (&["\"1-7-x\""], false),
            (&["\"1-71\""], false),
            (&["\"\""], false),
        ] {
            let headers = headers(&header::IF_MATCH, lines);
            let conditions = Preconditions::read(&headers).unwrap();
            assert_eq!(conditions.holds_for(&seven()), holds, "{lines:?}");
        }
        assert!(Preconditions::read(&HeaderMap::new()).unwrap().holds_for(&seven()));
    }

    #[test]
    fn a_malformed_condition_is_refused() {
        for lines in [
            &[""][..],
            &[","],
            &["1-7"],
            &["\"1-7"],
            &["1-7\""],
            &["\"1-7\" \"1-8\""],
            &["w/\"1-7\""],
            &["W/1-7"],
            &["W/ \"1-7\""],
            &["*, \"1-7\""],
            &["*", "*"],
            &["\"a b\""],
        ] {
            for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
                let headers = headers(&name, lines);
                let problem = Preconditions::read(&headers).unwrap_err();
                let field = problem.fields().next().unwrap().to_lowercase();
                assert_eq!(field, name.as_str(), "{lines:?}");
                assert!(!IfNoneMatch(headers).is_known(&seven()), "{lines:?}");
            }
        }
    }

    #[test]
    fn a_current_version_is_not_sent_again() {
        for (line, known) in [
            ("\"1-7\"", true),
            ("W/\"1-7\"", true),
            ("\"1-6\", W/\"1-7\"", true),
            ("*", true),
            ("\"1-8\"", false),
        ] {
            let headers = headers(&header::IF_NONE_MATCH, &[line]);
            let changes = Preconditions::read(&headers).unwrap().holds_for(&seven());
            assert_eq!(changes, !known, "{line}");
            assert_eq!(IfNoneMatch(headers).is_known(&seven()), known, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(line in "[W/\",* 1-7\\x80é]{0,24}") {
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            let headers: HeaderMap = [(header::IF_MATCH, value)].into_iter().collect();
            let _ = Preconditions::read(&headers);
        }
    }
}
