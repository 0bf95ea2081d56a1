//! Label selectors, as they come in a query: `queue=orders,release in (a, b),!old`.
//!
//! The grammar and its meaning are those of Kubernetes (`k8s.io/apimachinery/pkg/labels`):
//! `key = value`, `==`, `!=`, `in (…)`, `notin (…)`, `key`, `!key`, `key > 1`, `key < 1`, joined by
//! commas, all of which must hold. `!=` and `notin` also hold where the key is missing. What cannot
//! be read is refused: a selector that is misread would pick the wrong queues.

use std::collections::{BTreeMap, BTreeSet};

/// The longest selector that is read, in bytes.
const BYTES_MAX: usize = 4096;
/// The most requirements of one selector.
const REQUIREMENTS_MAX: usize = 64;

/// Which labels are wanted. The default wants anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
    GreaterThan(i64),
    LessThan(i64),
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It is too long, or has too many parts.
    #[error("must have at most {BYTES_MAX} bytes and {REQUIREMENTS_MAX} requirements")]
    TooLong,
    /// Something else stands where this was expected.
    #[error("has {found} where {expected} was expected")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A key that Kubernetes does not allow.
    #[error("has {0:?}, which is not a label's key")]
    Key(String),
    /// A value that Kubernetes does not allow.
    #[error("has {0:?}, which is not a label's value")]
    Value(String),
    /// `>` and `<` compare whole numbers.
    #[error("compares with {0:?}, which is not a whole number")]
    Number(String),
}

impl Selector {
    /// Reads a selector; an empty text wants anything.
    ///
    /// # Errors
    /// See [`SelectorError`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        let mut tokens = Tokens { rest: text };
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self(requirements));
        }
        loop {
            requirements.push(requirement(&mut tokens)?);
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(SelectorError::TooLong);
            }
            match tokens.next() {
                Token::End => return Ok(Self(requirements)),
                Token::Comma => {}
                other => return Err(other.instead_of("a comma or the end")),
            }
        }
    }

    /// Whether these labels are wanted.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
                Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
    End,
}

impl Token<'_> {
    fn instead_of(self, expected: &'static str) -> SelectorError {
        let found = match self {
            Self::Word(word) => format!("{word:?}"),
            Self::End => "nothing".to_owned(),
            Self::Comma => "a comma".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        SelectorError::Unexpected { found, expected }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Token<'a> {
        Self { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        const SIGNS: [(&str, Token<'static>); 9] = [
            ("==", Token::Equal),
            ("!=", Token::NotEqual),
            ("=", Token::Equal),
            ("!", Token::Not),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
            (">", Token::Greater),
            ("<", Token::Less),
        ];
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return Token::End;
        }
        for (sign, token) in SIGNS {
            if let Some(rest) = self.rest.strip_prefix(sign) {
                self.rest = rest;
                return token;
            }
        }
        let ends = |sign: char| sign.is_whitespace() || "=!,()<>".contains(sign);
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        Token::Word(word)
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, SelectorError> {
    if tokens.peek() == Token::Not {
        tokens.next();
        return Ok(Requirement { key: key(tokens)?, test: Test::Missing });
    }
    let key = key(tokens)?;
    if matches!(tokens.peek(), Token::End | Token::Comma) {
        return Ok(Requirement { key, test: Test::Exists });
    }
    let test = match tokens.next() {
        Token::Equal => Test::In(BTreeSet::from([value(tokens)?])),
        Token::NotEqual => Test::NotIn(BTreeSet::from([value(tokens)?])),
        Token::Word("in") => Test::In(values(tokens)?),
        Token::Word("notin") => Test::NotIn(values(tokens)?),
        Token::Greater => Test::GreaterThan(number(tokens)?),
        Token::Less => Test::LessThan(number(tokens)?),
        other => return Err(other.instead_of("=, ==, !=, in, notin, > or <")),
    };
    Ok(Requirement { key, test })
}

fn key(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.next() {
        Token::Word(key) if is_label_key(key) => Ok(key.to_owned()),
        Token::Word(key) => Err(SelectorError::Key(key.to_owned())),
        other => Err(other.instead_of("a label's key")),
    }
}

/// A value, or nothing where a comma, a bracket or the end comes at once: an empty value is one.
fn value(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.peek() {
        Token::End | Token::Comma | Token::Close => Ok(String::new()),
        Token::Word(value) if is_label_value(value) => {
            tokens.next();
            Ok(value.to_owned())
        }
        Token::Word(value) => Err(SelectorError::Value(value.to_owned())),
        other => Err(other.instead_of("a label's value")),
    }
}

fn values(tokens: &mut Tokens<'_>) -> Result<BTreeSet<String>, SelectorError> {
    match tokens.next() {
        Token::Open => {}
        other => return Err(other.instead_of("an opening bracket")),
    }
    let mut values = BTreeSet::new();
    loop {
        values.insert(value(tokens)?);
        match tokens.next() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(other.instead_of("a comma or a closing bracket")),
        }
    }
}

fn number(tokens: &mut Tokens<'_>) -> Result<i64, SelectorError> {
    let text = value(tokens)?;
    text.parse().map_err(|_| SelectorError::Number(text))
}

/// Whether Kubernetes allows this as a label's key: a name of up to 63 characters, after a DNS
/// name and a slash if one likes.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

/// Whether Kubernetes allows this as a label's value: at most 63 letters, digits, `-`, `_` and
/// `.`, with a letter or digit at both ends; or nothing.
pub fn is_label_value(value: &str) -> bool {
    let inner = |sign: u8| sign.is_ascii_alphanumeric() || b"-_.".contains(&sign);
    value.len() <= 63
        && value.bytes().all(inner)
        && value.bytes().next().is_none_or(|sign| sign.is_ascii_alphanumeric())
        && value.bytes().last().is_none_or(|sign| sign.is_ascii_alphanumeric())
}

/// Whether this is a DNS name (RFC 1123): labels of [`is_dns_label`] with dots between them, at
/// most 253 characters.
pub fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// Whether this is one label of a DNS name: 1 to 63 lower-case letters, digits and `-`, with a
/// letter or digit at both ends. Names of namespaces and Services are such.
pub fn is_dns_label(label: &str) -> bool {
    let alphanumeric = |sign: &u8| sign.is_ascii_lowercase() || sign.is_ascii_digit();
    label.len() <= 63
        && label.as_bytes().first().is_some_and(alphanumeric)
        && label.as_bytes().last().is_some_and(alphanumeric)
        && label.bytes().all(|sign| alphanumeric(&sign) || sign == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requirements_mean_what_they_mean_to_kubernetes() {
        let labels = labels(&[("queue", "orders"), ("release", "shop"), ("shard", "3")]);
        for (text, wanted) in [
            ("", true),
            ("  ", true),
            ("queue=orders", true),
            ("queue==orders", true),
            (" queue = orders , release = shop ", true),
            ("queue=orders,release=other", false),
            ("queue=Orders", false),
            ("queue!=orders", false),
            ("queue!=other", true),
            ("absent!=other", true),
            ("queue in (orders)", true),
            ("queue in (a,orders, b)", true),
            ("queue in(a,b)", false),
            ("absent in (a)", false),
            ("queue notin (orders)", false),
            ("queue notin (a,b)", true),
            ("absent notin (a,b)", true),
            ("queue", true),
            ("absent", false),
            ("!queue", false),
            ("! absent", true),
            ("!absent,queue in (orders),release!=x", true),
            ("queue=", false),
            ("queue in ()", false),
            ("queue in (,orders)", true),
            ("shard>2", true),
            ("shard > 3", false),
            ("shard<4", true),
            ("queue>1", false),
            ("in in (a)", false),
            ("example.com/queue=orders", false),
            ("!example.com/queue", true),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "queue=orders,",
            ",queue=orders",
            "=orders",
            "queue=a=b",
            "queue in orders",
            "queue in (a",
            "queue in a)",
            "queue in (a))",
            "queue notin",
            "queue like a",
            "queue orders",
            "!",
            "!queue=orders",
            "-queue=orders",
            "queue=-orders",
            "queue=a/b",
            "a/b/c=d",
            "UPPER.com/x=d",
            "queue>many",
            "queue>",
            "(queue=orders)",
            "queue=ä",
            &"q".repeat(64),
            &format!("q={}", "v".repeat(64)),
            &["a"; 65].join(","),
            &"a,".repeat(3000),
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        for (text, sentence) in [
            ("queue=orders,", "has nothing where a label's key was expected"),
            ("queue like x", "has \"like\" where =, ==, !=, in, notin, > or < was expected"),
            ("queue=a/b", "has \"a/b\", which is not a label's value"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), sentence);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn a_selector_of_a_queues_own_labels_picks_it(
            pairs in prop::collection::btree_map("[a-z][a-z0-9]{0,9}", "[a-z0-9]{0,10}", 0..8),
        ) {
            let text: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            prop_assert!(Selector::parse(&text.join(",")).unwrap().matches(&pairs));
        }
    }
}
