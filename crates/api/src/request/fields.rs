//! The fields of a body or a query string. They are first found and then read one by one.

use std::{borrow::Cow, cell::RefCell, fmt};

use holdfast_domain::Invalid;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::{SmallVec, smallvec};

use super::{Input, Reading, Value, Wrong};
use crate::{
    body::JsonText,
    problem::{FieldError, Problem},
};

/// The number of fields of most requests.
const INLINE: usize = 8;
/// The most unknown fields that one answer names.
const UNKNOWN_MAX: usize = 20;

/// The known fields of a request and all errors.
#[derive(Debug)]
pub struct Fields<'b> {
    names: &'static [&'static str],
    values: FoundFields<'b>,
    errors: Vec<FieldError>,
    not_json: bool,
    /// Whether an unknown field is an error.
    strict: bool,
}

type FoundFields<'b> = SmallVec<[Option<Input<'b>>; INLINE]>;

impl<'b> Fields<'b> {
    /// Finds the fields `names` of a body. Other fields are ignored, unless the request is `strict`.
    ///
    /// # Errors
    /// The text is not JSON. The error names the field where it is malformed.
    pub fn of_json(
        text: &'b JsonText<'_>,
        names: &'static [&'static str],
        strict: bool,
    ) -> Result<Self, Problem> {
        let place = RefCell::new(BodyPosition::Body);
        let mut fields = Self { strict, ..Self::new(names, text.is_not_json()) };
        let mut deserializer = serde_json::Deserializer::from_str(text.text());
        let object = ObjectVisitor { fields: &mut fields, place: &place };
        let read = deserializer.deserialize_map(object).and_then(|()| deserializer.end());
        match read {
            Ok(()) => Ok(fields),
            Err(error) => Err(Problem::validation(vec![FieldError::new(
                place.into_inner().name(),
                format!("is not valid JSON: {error}"),
            )])),
        }
    }

    /// Finds the parameters `names` of a query string. Others are ignored.
    pub fn of_query(
        pairs: &'b [(Cow<'_, str>, Cow<'_, str>)],
        names: &'static [&'static str],
    ) -> Self {
        let mut fields = Self::new(names, false);
        for (key, text) in pairs {
            let Some(at) = names.iter().position(|name| name == key) else { continue };
            let is_wrong =
                |fields: &Self| fields.errors.iter().any(|error| error.field == names[at]);
            if !is_wrong(&fields) {
                fields.found(at, Input::Text(text));
            }
            if is_wrong(&fields) {
                // It is unclear which of them is meant.
                fields.values[at] = None;
            }
        }
        fields
    }

    fn new(names: &'static [&'static str], not_json: bool) -> Self {
        Self {
            names,
            values: smallvec![None; names.len()],
            errors: Vec::new(),
            not_json,
            strict: false,
        }
    }

    fn found(&mut self, at: usize, value: Input<'b>) {
        if self.values[at].replace(value).is_some() {
            let name = self.names[at];
            if self.errors.iter().all(|error| error.field != name) {
                self.wrong(name, "must not be given twice");
            }
        }
    }

    fn unknown(&mut self, name: &str) {
        if self.errors.len() < UNKNOWN_MAX && self.errors.iter().all(|error| error.field != name) {
            let known = self.names.join(", ");
            self.wrong(name.to_owned(), format!("is not a known field; the fields are {known}"));
        }
    }

    pub fn required<T: Value>(&mut self, at: usize, reading: &Reading<'_>) -> Option<T> {
        let Some(input) = self.values[at].take() else {
            let name = self.names[at];
            // The field may already have an error.
            if self.errors.iter().all(|error| error.field != name) {
                self.wrong(name, "is required");
            }
            return None;
        };
        self.not_null(at, input, reading)
    }

    /// Reads an optional field that must not be null.
    pub fn optional<T: Value>(&mut self, at: usize, reading: &Reading<'_>) -> Option<T> {
        let input = self.values[at].take()?;
        self.not_null(at, input, reading)
    }

    /// Reads a field that may be absent (`None`) or null (`Some(None)`).
    pub fn nullable<T: Value>(&mut self, at: usize, reading: &Reading<'_>) -> Option<Option<T>> {
        let input = self.values[at].take()?;
        if input.is_null() {
            return Some(None);
        }
        self.value(at, input, reading).map(Some)
    }

    /// Whether a field was given. Null counts as absent.
    pub fn has(&self, name: &str) -> bool {
        let at = self.names.iter().position(|known| *known == name);
        at.and_then(|at| self.values[at]).is_some_and(|value| !value.is_null())
    }

    /// Adds an error if a field was given. Its value is then ignored.
    pub fn refuse(&mut self, name: &'static str, why: impl Into<Cow<'static, str>>) {
        if self.has(name) {
            if let Some(at) = self.names.iter().position(|known| *known == name) {
                self.values[at] = None;
            }
            self.wrong(name, why);
        }
    }

    /// Adds an error if a field is absent.
    pub fn need(&mut self, name: &'static str) {
        if !self.has(name) {
            self.wrong(name, "is required");
        }
    }

    /// Adds an error of a field that depends on the whole request.
    pub fn wrong(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.errors.push(FieldError::new(name, detail));
    }

    /// Adds an error outside of the fields.
    pub fn add(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    /// Must be called after all fields have been read.
    ///
    /// # Errors
    /// All wrong fields.
    pub fn finish(self) -> Result<(), Problem> {
        let errors = self.into_errors();
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
    }

    /// All wrong fields, in the order of their declaration.
    pub fn into_errors(mut self) -> Vec<FieldError> {
        if self.errors.is_empty() && self.not_json {
            self.wrong("body", "is not valid JSON, because it contains NaN or Infinity");
        }
        let position = |error: &FieldError| {
            let name = error.field.split('[').next();
            self.names.iter().position(|known| Some(*known) == name).unwrap_or(self.names.len())
        };
        self.errors.sort_by_key(position);
        self.errors
    }

    fn not_null<T: Value>(
        &mut self,
        at: usize,
        input: Input<'b>,
        reading: &Reading<'_>,
    ) -> Option<T> {
        if input.is_null() {
            self.wrong(self.names[at], "must not be null");
            return None;
        }
        self.value(at, input, reading)
    }

    fn value<T: Value>(&mut self, at: usize, input: Input<'b>, reading: &Reading<'_>) -> Option<T> {
        let name = self.names[at];
        match T::read(input, reading) {
            Ok(value) => return Some(value),
            Err(Wrong::Value(Invalid(reason))) => self.wrong(name, reason),
            Err(Wrong::Within(errors)) => {
                for FieldError { field, detail } in errors {
                    self.wrong(format!("{name}{field}"), detail);
                }
            }
        }
        None
    }
}

enum BodyPosition {
    Body,
    Known(&'static str),
    Other(String),
}

impl BodyPosition {
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Body => "body".into(),
            Self::Known(name) => name.into(),
            Self::Other(name) => name.into(),
        }
    }
}

struct ObjectVisitor<'p, 'b> {
    fields: &'p mut Fields<'b>,
    place: &'p RefCell<BodyPosition>,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let names = self.fields.names;
        while let Some(key) = map.next_key_seed(KeySeed { names, place: self.place })? {
            if let Some(at) = key {
                let value: &'de RawValue = map.next_value()?;
                self.fields.found(at, Input::Json(value));
            } else {
                if let (true, BodyPosition::Other(name)) =
                    (self.fields.strict, &*self.place.borrow())
                {
                    self.fields.unknown(name);
                }
                map.next_value::<IgnoredAny>()?;
            }
            self.place.replace(BodyPosition::Body);
        }
        Ok(())
    }
}

/// Reads a key: the position of a known field, or `None`.
struct KeySeed<'p> {
    names: &'static [&'static str],
    place: &'p RefCell<BodyPosition>,
}

/// The longest part of an unknown field's name in an answer.
const SHOWN_NAME_BYTES: usize = 64;

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let at = self.names.iter().position(|name| *name == key);
        self.place.replace(match at {
            Some(at) => BodyPosition::Known(self.names[at]),
            None => {
                BodyPosition::Other(key[..key.floor_char_boundary(SHOWN_NAME_BYTES)].to_owned())
            }
        });
        Ok(at)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Self::Value, E> {
        Err(E::custom("a field name must be a string"))
    }
}

#[cfg(test)]
mod tests;
