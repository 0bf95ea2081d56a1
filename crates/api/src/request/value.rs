//! The types of fields, with their schemas.

use std::fmt;

use holdfast_domain::{Invalid, parse_integer};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::openapi::{
    KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat,
    schema::{ArrayBuilder, Type},
};

use super::{Components, Reading};
use crate::problem::FieldError;

/// A type of fields.
pub trait Value: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// The value is wrong.
    fn read(input: Input<'_>, reading: &Reading<'_>) -> Result<Self, Wrong>;

    fn schema() -> RefOr<Schema>;

    /// Adds the named schemas that the schema refers to.
    fn components(_: &mut Components) {}
}

/// Why a value was refused.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// The value itself.
    Value(Invalid),
    /// Fields within the value. Their names are appended to that of the value.
    Within(Vec<FieldError>),
}

impl From<Invalid> for Wrong {
    fn from(invalid: Invalid) -> Self {
        Self::Value(invalid)
    }
}

impl From<&'static str> for Wrong {
    fn from(reason: &'static str) -> Self {
        Self::Value(reason.into())
    }
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Value(reason.into())
    }
}

/// The text of a value with its origin.
#[derive(Clone, Copy, Debug)]
pub enum Input<'b> {
    /// A value in a body, which is valid JSON.
    Json(&'b RawValue),
    /// A parameter of a query string.
    Text(&'b str),
}

impl<'b> Input<'b> {
    /// Whether the value is null. Values in a URL are never null.
    pub fn is_null(self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }

    /// A whole number. In a body, a string such as `"1"` is not a number.
    ///
    /// # Errors
    /// The value is not a number, has a fraction or does not fit 64 bits.
    pub fn integer(self) -> Result<i64, Invalid> {
        match self {
            Self::Json(_) => self
                .number()
                .ok_or_else(|| Invalid::from("must be a whole number"))
                .and_then(parse_integer),
            // `parse` would accept "+1".
            Self::Text(text) => text
                .parse()
                .ok()
                .filter(|_| !text.starts_with('+'))
                .ok_or_else(|| "must be a whole number of 64 bits".into()),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// The value is not a string, or contains half of a surrogate pair.
    pub fn text(self) -> Result<String, Invalid> {
        match self {
            Self::Text(text) => Ok(text.to_owned()),
            Self::Json(raw) if raw.get().starts_with('"') => {
                // A string contains no other JSON, so this does not recurse.
                #[allow(clippy::disallowed_methods)]
                serde_json::from_str(raw.get()).map_err(|_| "must be valid Unicode".into())
            }
            Self::Json(_) => Err("must be a string".into()),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub fn boolean(self) -> Result<bool, Invalid> {
        match self.written() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }

    /// The elements of an array; `None` if the value is not an array. `None` also if there are more than `max`.
    pub fn elements(self, max: usize) -> Option<Vec<Input<'b>>> {
        let Self::Json(raw) = self else { return None };
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        deserializer.deserialize_seq(Elements { max }).ok().flatten()
    }

    /// The text of a JSON number.
    pub fn number(self) -> Option<&'b str> {
        let Self::Json(raw) = self else { return None };
        let text = raw.get();
        // The JSON is valid, so the first character determines the type.
        text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(text)
    }

    /// Whether the value is a whole number of any size, without a fraction or an exponent.
    fn has_only_digits(self) -> bool {
        let digits = self.written().strip_prefix('-').unwrap_or(self.written());
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The raw text.
    pub fn written(self) -> &'b str {
        match self {
            Self::Json(raw) => raw.get(),
            Self::Text(text) => text,
        }
    }
}

struct Elements {
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<Input<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if elements.len() == self.max {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            elements.push(Input::Json(element));
        }
        Ok(Some(elements))
    }
}

/// A whole number from `first` to `last`.
///
/// # Errors
/// The value is not a whole number in this range.
pub fn whole_number(input: Input<'_>, first: i64, last: i64) -> Result<i64, Invalid> {
    let number = match input.integer() {
        // A number that does not fit 64 bits is out of range.
        Err(_) if input.has_only_digits() => {
            if input.written().starts_with('-') {
                i64::MIN
            } else {
                i64::MAX
            }
        }
        number => number?,
    };
    if (first..=last).contains(&number) {
        Ok(number)
    } else {
        Err(format!("must be between {first} and {last}").into())
    }
}

impl Value for bool {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(input.boolean()?)
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Boolean).into()
    }
}

impl Value for i64 {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(input.integer()?)
    }

    fn schema() -> RefOr<Schema> {
        integer().into()
    }
}

/// The schema of a whole number.
pub fn integer() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

/// The schema of a whole number in a range.
pub fn integer_between(first: i64, last: i64) -> RefOr<Schema> {
    integer().minimum(Some(first)).maximum(Some(last)).into()
}

/// The schema of a string with a number of characters.
pub fn text_between(least: usize, most: usize) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(most));
    if least > 0 { text.min_length(Some(least)).into() } else { text.into() }
}

/// The schema of an array with a number of elements.
pub fn array_between(items: RefOr<Schema>, least: usize, most: usize) -> RefOr<Schema> {
    ArrayBuilder::new().items(items).min_items(Some(least)).max_items(Some(most)).into()
}
