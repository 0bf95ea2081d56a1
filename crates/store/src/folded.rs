//! Case-insensitive names, in any language, whatever the locale of the database.
//!
//! ICU's root collation knows the case of all letters; the database's own locale may know only ASCII. A name is first
//! converted to upper case, which also unifies letters without their own capital (`ﬁ` becomes FI), and then to lower
//! case. The remaining differences are replaced: ẞ, because its lower case is ß although the upper case of `ß` is SS;
//! the sigma at the end of a word, because the text that is searched for may end there; and the dot that İ keeps. The
//! four letters I, ı, İ and i count as one, because it depends on the language which of them belong together, and the
//! language of a name is unknown. Letters with marks are the same whether they are one character or several (NFC).
//!
//! Folding a folded name changes nothing.

use sqlx::PgConnection;

/// The folded form of an expression, as in the index `products_by_folded_name`.
macro_rules! folded {
    ($text:literal) => {
        concat!($crate::folded::folded!(begin), $text, $crate::folded::folded!(end))
    };
    (begin) => {
        "normalize(replace(replace(replace(lower(upper("
    };
    (end) => {
        r#" COLLATE "und-x-icu")), 'ß', 'ss'), 'ς', 'σ'), E'i\u0307', 'i'), NFC)"#
    };
}

pub(crate) use folded;

const QUESTION: &str = r"
    SELECT
        current_setting('server_encoding'),
        EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')
    ";

/// What the database lacks for case-insensitive names, if anything.
pub(crate) async fn lacking(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let (encoding, has_icu): (String, bool) =
        sqlx::query_as(QUESTION).fetch_one(connection).await?;
    Ok(match (encoding.as_str(), has_icu) {
        ("UTF8", true) => None,
        ("UTF8", false) => Some("PostgreSQL is built without ICU".to_owned()),
        (other, _) => Some(format!("the encoding of the database is {other} and must be UTF8")),
    })
}
