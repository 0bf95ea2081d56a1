//! JSON values, from their text to the types of the domain.

use std::fmt;

use holdfast_domain::{Description, Invalid, Money, ProductName, Quantity, Stock, parse_integer};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A whole number. A text such as `"1"` is none.
///
/// # Errors
/// What is no number, has a fraction or does not fit 64 bits.
pub fn integer(raw: &RawValue) -> Result<i64, Invalid> {
    number(raw).ok_or(Invalid("must be a whole number".into())).and_then(parse_integer)
}

/// A text.
///
/// # Errors
/// What is no text, or one with half of a surrogate pair.
pub fn text(raw: &RawValue) -> Result<String, Invalid> {
    if !raw.get().starts_with('"') {
        return Err("must be a text".into());
    }
    // A text holds no other JSON, so nothing recurses.
    #[allow(clippy::disallowed_methods)]
    serde_json::from_str(raw.get()).map_err(|_| "must be valid Unicode".into())
}

/// True or false.
///
/// # Errors
/// What is neither.
pub fn boolean(raw: &RawValue) -> Result<bool, Invalid> {
    match raw.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// The elements of an array of at most `max`; `None` for what is none. More than `max` are counted, but
/// not kept.
pub fn elements(raw: &RawValue, max: usize) -> Option<Vec<&RawValue>> {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_seq(Elements { max }).ok().flatten()
}

struct Elements {
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

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
            elements.push(element);
        }
        Ok(Some(elements))
    }
}

/// A price: a number, or a text with a decimal number, which many clients send to avoid floats.
///
/// # Errors
/// What is neither, has more than two decimals, or is out of range.
pub fn price(raw: &RawValue) -> Result<Money, Invalid> {
    if let Some(number) = number(raw) {
        return Money::parse_number(number);
    }
    if raw.get().starts_with('"') {
        return Money::parse(&text(raw)?);
    }
    Err("must be a number or a decimal text".into())
}

/// A quantity from 1 to `max`.
///
/// # Errors
/// What is no whole number within that range.
pub fn quantity(max: i32) -> impl Fn(&RawValue) -> Result<Quantity, Invalid> {
    move |raw| {
        // A number that does not even fit 64 bits is out of range in the same way.
        let out_of_range = || Quantity::new(0, max).err().unwrap_or("is out of range".into());
        match integer(raw) {
            Ok(units) => Quantity::new(units, max),
            Err(Invalid(reason)) if reason.contains("out of range") => Err(out_of_range()),
            Err(invalid) => Err(invalid),
        }
    }
}

/// A stock.
///
/// # Errors
/// What is no whole number within the shop's range.
pub fn stock(raw: &RawValue) -> Result<Stock, Invalid> {
    integer(raw).and_then(Stock::new)
}

/// A product's name.
///
/// # Errors
/// What is no text, is empty, too long or holds a NUL.
pub fn name(raw: &RawValue) -> Result<ProductName, Invalid> {
    text(raw).and_then(ProductName::new)
}

/// A product's description.
///
/// # Errors
/// What is no text, is too long or holds a NUL.
pub fn description(raw: &RawValue) -> Result<Description, Invalid> {
    text(raw).and_then(Description::new)
}

/// The text of a JSON number. The JSON grammar has been checked already, so the first character
/// tells.
fn number(raw: &RawValue) -> Option<&str> {
    let text = raw.get();
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_price_is_a_number_or_a_decimal_text() {
        for text in ["12.5", "\"12.5\"", "1.25e1", "\"12.50\""] {
            assert_eq!(price(&raw(text)).map(Money::minor), Ok(1250), "{text}");
        }
        for text in
            ["true", "[1]", "{}", "\"\"", "\"x\"", "1e400", "-1", "\"-1\"", "1.234", "\" 1\""]
        {
            assert!(price(&raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_quantity_is_a_whole_number_in_its_range() {
        let quantity = quantity(1000);
        for text in ["1", "1000", "7.0"] {
            assert!(quantity(&raw(text)).is_ok(), "{text}");
        }
        for text in ["0", "-5", "1.5", "\"1\"", "9223372036854775808", "1e400", "true", "1001"] {
            assert!(quantity(&raw(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_must_be_unicode() {
        assert_eq!(text(&raw("\"a\\u0041\"")).unwrap(), "aA");
        assert!(text(&raw("\"\\ud800\"")).is_err());
        assert!(name(&raw("\"a\\u0000b\"")).is_err());
    }

    proptest! {
        #[test]
        fn every_whole_number_is_read_exactly(number in any::<i64>()) {
            prop_assert_eq!(integer(&raw(&number.to_string())), Ok(number));
        }

        #[test]
        fn any_number_is_read_without_panic(text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,12})?") {
            let raw = raw(&text);
            let _ = (integer(&raw), price(&raw));
        }
    }
}
