//! Checks and parses untrusted JSON.
//!
//! Code that parses JSON into a type for any JSON (`serde_json::Value`, `serde`'s buffers for `flatten`
//! and `untagged`) recurses. `serde_json` limits the depth, but not if the text contains one of its
//! special keys: with the feature `raw_value`, which `sqlx` enables, the text after
//! `"$serde_json::private::RawValue"` is parsed as another document with a new limit. Therefore,
//! [`check`] checks untrusted texts first; it neither recurses nor allocates.

mod exact_form;

use serde::Deserialize;

pub use exact_form::{JsonMembers, exact_form};

/// How deep arrays and objects may be nested, including the outermost one.
pub const JSON_DEPTH_MAX: usize = 64;

/// `serde_json` itself gives keys with this prefix a special meaning.
const RESERVED: &[u8] = b"$serde_json::private::";
/// The largest exponent, with either sign, that fits both a double and a number of PostgreSQL.
const EXPONENT_MAX: usize = 999;

/// Why a text is refused.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not valid JSON at this byte.
    #[error("is not valid JSON at byte {0}")]
    Syntax(usize),
    /// It is nested too deeply.
    #[error("must not be nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// It has a key that `serde_json` does not treat as a key.
    #[error("has a key that begins with \"$serde_json::private::\"")]
    ReservedKey,
    /// It is JSON, but not of the requested type.
    #[error(transparent)]
    Type(#[from] serde_json::Error),
}

/// The contents of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is an independent fact
pub struct JsonFacts {
    /// A key that `serde_json` does not treat as a key.
    pub reserved_key: bool,
    /// An escaped NUL.
    pub nul: bool,
    /// An escaped half of a surrogate pair, which is not Unicode.
    pub lone_surrogate: bool,
    /// A number that a double cannot represent.
    pub beyond_double: bool,
}

/// Checks that a text is one JSON value, and returns what it contains. One pass, without recursion and
/// without allocation.
///
/// # Errors
/// The text is not JSON, or nested deeper than [`JSON_DEPTH_MAX`].
pub fn check(text: &str) -> Result<JsonFacts, JsonError> {
    let mut scanner = Scanner { text, at: 0, objects: 0, depth: 0, facts: JsonFacts::default() };
    scanner.document()?;
    Ok(scanner.facts)
}

/// Parses an untrusted text into any type, including recursive ones, because its depth is limited.
///
/// # Errors
/// [`check`] refuses the text, or it has a reserved key or another type.
pub fn from_str<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, JsonError> {
    if check(text)?.reserved_key {
        return Err(JsonError::ReservedKey);
    }
    #[allow(clippy::disallowed_methods)] // the text has been checked
    Ok(serde_json::from_str(text)?)
}

/// The same for bytes.
///
/// # Errors
/// The bytes are not UTF-8; otherwise as for a text.
pub fn from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, JsonError> {
    from_str(str::from_utf8(bytes).map_err(|error| JsonError::Syntax(error.valid_up_to()))?)
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// For each open array or object, whether it is an object; the innermost one is the lowest bit.
    objects: u64,
    depth: usize,
    facts: JsonFacts,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        loop {
            if self.begin_value()? {
                continue;
            }
            if !self.next_value()? {
                break;
            }
        }
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong()) }
    }

    /// Reads a value. An array or object is read up to its first element; returns whether one begins
    /// here.
    fn begin_value(&mut self) -> Result<bool, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'{') => {
                self.open(true)?;
                if self.close_if(b'}') {
                    return Ok(false);
                }
                self.key()?;
                Ok(true)
            }
            Some(b'[') => {
                self.open(false)?;
                Ok(!self.close_if(b']'))
            }
            Some(b'"') => self.string(&mut Pattern::none()).map(|()| false),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| false),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.wrong()),
        }
    }

    /// Closes all arrays and objects that end here. Returns whether another value follows.
    fn next_value(&mut self) -> Result<bool, JsonError> {
        while self.depth > 0 {
            let in_object = self.objects & 1 == 1;
            self.blanks();
            match (self.peek(), in_object) {
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b','), true) => {
                    self.at += 1;
                    self.blanks();
                    return self.key().map(|()| true);
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                _ => return Err(self.wrong()),
            }
        }
        Ok(false)
    }

    fn open(&mut self, object: bool) -> Result<(), JsonError> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.at += 1;
        self.blanks();
        Ok(())
    }

    fn close_if(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        if closes {
            self.close();
        }
        closes
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
        self.objects >>= 1;
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong());
        }
        let mut reserved = Pattern { rest: Some(RESERVED) };
        self.string(&mut reserved)?;
        self.facts.reserved_key |= reserved.is_met();
        self.blanks();
        self.expect(b':')
    }

    fn string(&mut self, pattern: &mut Pattern) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(pattern)?,
                Some(byte @ 0x20..) => {
                    self.at += 1;
                    pattern.meet(u32::from(byte));
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self, pattern: &mut Pattern) -> Result<(), JsonError> {
        self.at += 1;
        let escaped = self.peek().ok_or_else(|| self.wrong())?;
        let meant = match escaped {
            b'"' | b'\\' | b'/' => escaped,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode_escape(pattern),
            _ => return Err(self.wrong()),
        };
        self.at += 1;
        pattern.meet(u32::from(meant));
        Ok(())
    }

    fn unicode_escape(&mut self, pattern: &mut Pattern) -> Result<(), JsonError> {
        let unit = self.code_unit()?;
        pattern.meet(unit);
        match unit {
            0 => self.facts.nul = true,
            0xD800..=0xDBFF => {
                let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
                if !rest.starts_with(b"\\u") {
                    self.facts.lone_surrogate = true;
                    return Ok(());
                }
                let pair_begins = self.at;
                self.at += 1;
                if !(0xDC00..=0xDFFF).contains(&self.code_unit()?) {
                    self.facts.lone_surrogate = true;
                    // The next one may be half of another pair.
                    self.at = pair_begins;
                }
            }
            0xDC00..=0xDFFF => self.facts.lone_surrogate = true,
            _ => {}
        }
        Ok(())
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.wrong())?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let begin = self.at;
        self.skip_if(b"-");
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.wrong()),
        }
        if self.skip_if(b".") {
            self.digits()?;
        }
        let mantissa = self.at - begin;
        let mut exponent = "";
        if self.skip_if(b"eE") {
            self.skip_if(b"+-");
            let digits = self.at;
            self.digits()?;
            exponent = self.text[digits..self.at].trim_start_matches('0');
        }
        if !exponent.is_empty() || mantissa > 300 {
            let small = exponent.is_empty()
                || exponent.parse::<usize>().is_ok_and(|exponent| exponent <= EXPONENT_MAX);
            // Parsing a double takes time in proportion to the text, whatever the exponent is.
            let finite = || self.text[begin..self.at].parse::<f64>().is_ok_and(f64::is_finite);
            if !small || !finite() {
                self.facts.beyond_double = true;
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong());
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<bool, JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.wrong());
        }
        self.at += word.len();
        Ok(false)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(())
    }

    fn skip_if(&mut self, any_of: &[u8]) -> bool {
        let there = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }
}

/// A prefix of a key, which is compared character by character.
struct Pattern {
    /// The rest that has not been found yet; `None` after a difference.
    rest: Option<&'static [u8]>,
}

impl Pattern {
    fn none() -> Self {
        Self { rest: None }
    }

    fn meet(&mut self, char: u32) {
        self.rest = match self.rest {
            Some([next, rest @ ..]) if u32::from(*next) == char => Some(rest),
            Some([]) => return,
            _ => None,
        };
    }

    fn is_met(&self) -> bool {
        self.rest.is_some_and(<[u8]>::is_empty)
    }
}

#[cfg(test)]
mod tests;
