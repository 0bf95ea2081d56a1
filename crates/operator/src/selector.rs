//! Label selectors of queries: `queue=orders,release in (a, b),!old`.
//!
//! The grammar is that of Kubernetes (`k8s.io/apimachinery/pkg/labels`) without `>` and `<`, which autoscalers cannot
//! use: `key = value`, `==`, `!=`, `in (…)`, `notin (…)`, `key`, `!key`, separated by commas. An invalid selector is
//! refused, because a wrong interpretation would select the wrong queues.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, SelectorExt as _};

use crate::kubernetes_names::{is_label_key, is_label_value};

/// The longest selector, in bytes.
const BYTES_MAX: usize = 4096;
/// The most requirements of a selector.
const REQUIREMENTS_MAX: usize = 64;
/// Separators of words, longer ones first.
const SIGNS: [&str; 7] = ["==", "!=", "=", "!", ",", "(", ")"];

/// A label selector. The default selects everything.
#[derive(Clone, Debug, Default)]
pub struct Selector(kube::core::Selector);

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("must have at most {BYTES_MAX} bytes and {REQUIREMENTS_MAX} requirements")]
    TooLong,
    #[error("has {found} where {expected} was expected")]
    Unexpected { found: String, expected: &'static str },
    #[error("has {0:?}, which is not a label key")]
    Key(String),
    #[error("has {0:?}, which is not a label value")]
    Value(String),
}

impl Selector {
    /// Parses a selector; an empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > BYTES_MAX {
            return Err(SelectorError::TooLong);
        }
        let mut tokens = Tokens { rest: text.trim_start() };
        if tokens.rest.is_empty() {
            return Ok(Self::default());
        }
        let mut requirements = vec![requirement(&mut tokens)?];
        while tokens.take(",") {
            requirements.push(requirement(&mut tokens)?);
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(SelectorError::TooLong);
            }
        }
        if !tokens.rest.is_empty() {
            return Err(tokens.unexpected("a comma or the end"));
        }
        Ok(Self(requirements.into_iter().collect()))
    }

    /// Whether these labels match.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

struct Tokens<'a> {
    /// Removes white space at the beginning.
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// The next separator or word; empty at the end.
    fn peek(&self) -> &'a str {
        if let Some(sign) = SIGNS.into_iter().find(|sign| self.rest.starts_with(sign)) {
            return &self.rest[..sign.len()];
        }
        let ends = |sign: char| sign.is_whitespace() || "=!,()<>".contains(sign);
        // Any other character counts as a word.
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        &self.rest[..end.max(first)]
    }

    /// Consumes a separator or word if it is next.
    fn take(&mut self, token: &str) -> bool {
        let next = self.peek() == token;
        if next {
            self.rest = self.rest[token.len()..].trim_start();
        }
        next
    }

    /// Consumes a word; `None` if a separator or the end is next.
    fn word(&mut self) -> Option<&'a str> {
        let word = self.peek();
        (!word.is_empty() && !SIGNS.contains(&word) && self.take(word)).then_some(word)
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        let found = match self.peek() {
            "" => "nothing".to_owned(),
            token => format!("{token:?}"),
        };
        SelectorError::Unexpected { found, expected }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Expression, SelectorError> {
    if tokens.take("!") {
        return Ok(Expression::DoesNotExist(key(tokens)?));
    }
    let key = key(tokens)?;
    match tokens.peek() {
        "" | "," => Ok(Expression::Exists(key)),
        "=" | "==" => {
            let _ = tokens.take("==") || tokens.take("=");
            Ok(Expression::Equal(key, value(tokens)?))
        }
        "!=" => {
            tokens.take("!=");
            Ok(Expression::NotEqual(key, value(tokens)?))
        }
        "in" => Ok(Expression::In(key, values(tokens)?)),
        "notin" => Ok(Expression::NotIn(key, values(tokens)?)),
        _ => Err(tokens.unexpected("=, ==, !=, in or notin")),
    }
}

fn key(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.word() {
        Some(key) if is_label_key(key) => Ok(key.to_owned()),
        Some(key) => Err(SelectorError::Key(key.to_owned())),
        None => Err(tokens.unexpected("a label's key")),
    }
}

/// A value. It is empty if a comma, a bracket or the end is next.
fn value(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.word() {
        Some(value) if is_label_value(value) => Ok(value.to_owned()),
        Some(value) => Err(SelectorError::Value(value.to_owned())),
        None if ["", ",", ")"].contains(&tokens.peek()) => Ok(String::new()),
        None => Err(tokens.unexpected("a label's value")),
    }
}

/// `in` or `notin`, and the values in brackets.
fn values(tokens: &mut Tokens<'_>) -> Result<BTreeSet<String>, SelectorError> {
    tokens.word();
    if !tokens.take("(") {
        return Err(tokens.unexpected("an opening bracket"));
    }
    let mut values = BTreeSet::from([value(tokens)?]);
    while tokens.take(",") {
        values.insert(value(tokens)?);
    }
    if tokens.take(")") { Ok(values) } else { Err(tokens.unexpected("a closing bracket")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requirements_have_the_semantics_of_kubernetes() {
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
            ("in in (a)", false),
            ("example.com/queue=orders", false),
            ("!example.com/queue", true),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), wanted, "{text:?}");
        }
    }

    #[test]
    fn an_invalid_selector_is_refused() {
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
            "queue>2",
            "queue < 2",
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
    fn a_refusal_has_a_reason() {
        for (text, sentence) in [
            ("queue=orders,", "has nothing where a label's key was expected"),
            ("queue like x", "has \"like\" where =, ==, !=, in or notin was expected"),
            ("queue=a/b", "has \"a/b\", which is not a label value"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), sentence);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,200}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn a_selector_with_a_queues_labels_selects_it(
            pairs in prop::collection::btree_map("[a-z][a-z0-9]{0,9}", "[a-z0-9]{0,10}", 0..8),
        ) {
            let text: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            prop_assert!(Selector::parse(&text.join(",")).unwrap().matches(&pairs));
        }
    }
}
