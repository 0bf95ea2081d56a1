//! The fields of a JSON object, each still as text.

use std::{borrow::Cow, cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use holdfast_domain::Invalid;

use super::JsonText;
use crate::problem::{FieldError, Problem};

/// The `N` fields of a body that an endpoint knows. What is wrong with them is collected, so
/// that one answer can name it all.
///
/// ```
/// # use holdfast_api::body::{Fields, JsonText, value};
/// # fn example() -> Result<(), holdfast_api::problem::Problem> {
/// let text = JsonText::check(br#"{"quantity": 2, "unknown": [1]}"#)?;
/// let mut fields = Fields::read(&text, ["quantity", "note"])?;
/// let quantity = fields.required("quantity", value::integer);
/// let note = fields.optional("note", value::text);
/// fields.finish()?;
/// assert_eq!((quantity, note), (Some(2), None));
/// # Ok(()) }
/// # example().unwrap();
/// ```
#[derive(Debug)]
pub struct Fields<'b, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'b RawValue>; N],
    errors: Vec<FieldError>,
    not_json: bool,
}

impl<'b, const N: usize> Fields<'b, N> {
    /// Finds the fields called `names`. Others are passed over, however they look.
    ///
    /// # Errors
    /// Text that is not JSON: where it breaks tells the field.
    pub fn read(text: &'b JsonText<'_>, names: [&'static str; N]) -> Result<Self, Problem> {
        let place = RefCell::new(Place::Body);
        let mut deserializer = serde_json::Deserializer::from_str(text.text());
        let object = ObjectVisitor { names: &names, place: &place };
        let read = deserializer
            .deserialize_map(object)
            .and_then(|found| deserializer.end().map(|()| found));
        match read {
            Ok(Found { values, errors }) => {
                Ok(Self { names, values, errors, not_json: text.is_not_json() })
            }
            Err(error) => Err(Problem::validation(vec![FieldError::new(
                place.into_inner().name(),
                format!("is not valid JSON: {error}"),
            )])),
        }
    }

    /// A field that must be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'b RawValue) -> Result<T, Invalid>,
    ) -> Option<T> {
        let Some(raw) = self.take(name) else {
            self.wrong(name, "must be there");
            return None;
        };
        self.parse(name, raw, parse)
    }

    /// A field that may be left out, but not be null.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'b RawValue) -> Result<T, Invalid>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        self.parse(name, raw, parse)
    }

    /// A field that may be left out (`None`) or be null (`Some(None)`).
    pub fn nullable<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'b RawValue) -> Result<T, Invalid>,
    ) -> Option<Option<T>> {
        let raw = self.take(name)?;
        if raw.get() == "null" {
            return Some(None);
        }
        self.parse(name, raw, parse).map(Some)
    }

    /// Whether a field was given and has not been read yet.
    pub fn has(&self, name: &'static str) -> bool {
        let at = self.names.iter().position(|known| *known == name);
        at.is_some_and(|at| self.values[at].is_some())
    }

    /// Says that a field is wrong for a reason that only the endpoint knows.
    pub fn wrong(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.errors.push(FieldError::new(name, detail));
    }

    /// To be called when all fields have been read.
    ///
    /// # Errors
    /// Every field that was wrong.
    pub fn finish(mut self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            if !self.not_json {
                return Ok(());
            }
            self.wrong("body", "is not valid JSON: NaN and Infinity are no numbers there");
        }
        Err(Problem::validation(self.errors))
    }

    fn take(&mut self, name: &'static str) -> Option<&'b RawValue> {
        let at = self.names.iter().position(|known| *known == name);
        debug_assert!(at.is_some(), "{name} is not among the names given to `read`");
        self.values[at?].take()
    }

    fn parse<T>(
        &mut self,
        name: &'static str,
        raw: &'b RawValue,
        parse: impl FnOnce(&'b RawValue) -> Result<T, Invalid>,
    ) -> Option<T> {
        if raw.get() == "null" {
            self.wrong(name, "must not be null");
            return None;
        }
        parse(raw).map_err(|Invalid(reason)| self.wrong(name, reason)).ok()
    }
}

/// Where in the body the reader is.
enum Place {
    Body,
    Known(&'static str),
    Other(String),
}

impl Place {
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Body => "body".into(),
            Self::Known(name) => name.into(),
            Self::Other(name) => name.into(),
        }
    }
}

struct Found<'b, const N: usize> {
    values: [Option<&'b RawValue>; N],
    errors: Vec<FieldError>,
}

struct ObjectVisitor<'p, const N: usize> {
    names: &'p [&'static str; N],
    place: &'p RefCell<Place>,
}

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Found { values: [None; N], errors: Vec::new() };
        while let Some(key) = map.next_key_seed(KeySeed { names: self.names, place: self.place })? {
            match key {
                Some(at) => {
                    let value = map.next_value()?;
                    if found.values[at].replace(value).is_some() {
                        let name = self.names[at];
                        if found.errors.iter().all(|error| error.field != name) {
                            found.errors.push(FieldError::new(name, "must not be given twice"));
                        }
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.place.replace(Place::Body);
        }
        Ok(found)
    }
}

/// Reads a key: the position of a known field, or `None`.
struct KeySeed<'p, const N: usize> {
    names: &'p [&'static str; N],
    place: &'p RefCell<Place>,
}

/// The most of an unknown field's name that is shown back.
const SHOWN_NAME_BYTES: usize = 64;

impl<'de, const N: usize> DeserializeSeed<'de> for KeySeed<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl<const N: usize> Visitor<'_> for KeySeed<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let at = self.names.iter().position(|name| *name == key);
        self.place.replace(match at {
            Some(at) => Place::Known(self.names[at]),
            None => Place::Other(key[..key.floor_char_boundary(SHOWN_NAME_BYTES)].to_owned()),
        });
        Ok(at)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Self::Value, E> {
        Err(E::custom("a field's name must be a text"))
    }
}

#[cfg(test)]
mod tests;
