//! Field types of the domain, and others that several requests have.

use std::str::FromStr;

use holdfast_domain::{
    CustomerRef, HoldId, Invalid, KeyName, MAX_CUSTOMER_REF_CHARS, MAX_DESCRIPTION_CHARS,
    MAX_KEY_NAME_CHARS, MAX_NAME_CHARS, MAX_OPERATOR_CHARS, MAX_OPERATOR_NOTE_CHARS,
    MAX_PRICE_MINOR, MAX_STOCK, MAX_STOCK_NOTE_CHARS, Metadata, Money, OperatorName, OperatorNote,
    ProductDescription, ProductId, ProductName, Quantity, Stock, StockNote,
};
use jiff::Timestamp;
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type};

use crate::access::Caller;

use super::{
    Input, Reading, Value, Wrong,
    value::{integer, integer_between, text_between, whole_number},
};

/// Texts with bounds of the domain.
macro_rules! texts {
    ($($text:ident: $least:expr, $most:expr;)+) => {$(
        impl Value for $text {
            fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
                Ok(input.text().and_then(Self::new)?)
            }

            fn schema() -> RefOr<Schema> {
                text_between($least, $most)
            }
        }
    )+};
}

texts! {
    ProductName: 1, MAX_NAME_CHARS;
    ProductDescription: 0, MAX_DESCRIPTION_CHARS;
    StockNote: 1, MAX_STOCK_NOTE_CHARS;
    CustomerRef: 1, MAX_CUSTOMER_REF_CHARS;
    KeyName: 1, MAX_KEY_NAME_CHARS;
    OperatorName: 1, MAX_OPERATOR_CHARS;
    OperatorNote: 1, MAX_OPERATOR_NOTE_CHARS;
}

/// Ids. Any number is accepted; an unknown id is answered with 404.
macro_rules! ids {
    ($($id:ident)+) => {$(
        impl Value for $id {
            fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
                Ok(Self(input.integer()?))
            }

            fn schema() -> RefOr<Schema> {
                integer().into()
            }
        }
    )+};
}

ids! { ProductId HoldId }

/// A number, or a string with a decimal number, which many clients send to avoid floats.
impl Value for Money {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        if let Some(number) = input.number() {
            return Ok(Self::parse_number(number)?);
        }
        let text =
            input.text().map_err(|_| Invalid::from("must be a number or a decimal string"))?;
        Ok(Self::parse(&text)?)
    }

    #[allow(clippy::cast_precision_loss)] // ten digits
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Double)))
            .minimum(Some(0))
            .maximum(Some(MAX_PRICE_MINOR as f64 / 100.0))
            .into()
    }
}

impl Value for Stock {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(input.integer().and_then(Self::new)?)
    }

    fn schema() -> RefOr<Schema> {
        integer_between(0, MAX_STOCK)
    }
}

/// The highest quantity is a setting of the server.
impl Value for Quantity {
    fn read(input: Input<'_>, reading: &Reading<'_>) -> Result<Self, Wrong> {
        let most = reading.limits.quantity;
        Ok(whole_number(input, 1, most.into()).and_then(|units| Self::new(units, most))?)
    }

    fn schema() -> RefOr<Schema> {
        integer().minimum(Some(1)).into()
    }
}

/// A JSON object that is stored as it was received.
impl Value for Metadata {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self::new(input.written().to_owned())?)
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Object).into()
    }
}

/// The customer of an order or a hold. A caller that acts for one customer cannot name another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCustomer(pub CustomerRef);

impl NamedCustomer {
    /// The customer of a request: the named one, or else the one that the caller acts for.
    pub fn or_own(named: Option<Self>, caller: &Caller) -> Option<CustomerRef> {
        named.map(|Self(named)| named).or_else(|| caller.customer().cloned())
    }
}

impl Value for NamedCustomer {
    fn read(input: Input<'_>, reading: &Reading<'_>) -> Result<Self, Wrong> {
        let named = CustomerRef::read(input, reading)?;
        if reading.caller.customer().is_some_and(|own| *own != named) {
            return Err("must be the customer of the key or token, or absent".into());
        }
        Ok(Self(named))
    }

    fn schema() -> RefOr<Schema> {
        CustomerRef::schema()
    }
}

/// A whole number from `FIRST` to `LAST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeNumber<const FIRST: i64, const LAST: i64>(pub i64);

impl<const FIRST: i64, const LAST: i64> Value for WholeNumber<FIRST, LAST> {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self(whole_number(input, FIRST, LAST)?))
    }

    fn schema() -> RefOr<Schema> {
        integer_between(FIRST, LAST)
    }
}

/// A version of a product. Any number is accepted; a version other than the product's is a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub i64);

impl Value for Version {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(Self(input.integer()?))
    }

    fn schema() -> RefOr<Schema> {
        integer().minimum(Some(1)).into()
    }
}

/// The most entries on a page of a list.
pub type PageLimit = WholeNumber<1, 1000>;

impl PageLimit {
    pub const DEFAULT: Self = Self(100);
}

/// A time that the database supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterTime(pub Timestamp);

impl FromStr for FilterTime {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().ok().filter(|time| *time >= Timestamp::UNIX_EPOCH).map(Self).ok_or_else(|| {
            "must be a time since 1970 with its offset, such as 2026-01-31T12:00:00Z".into()
        })
    }
}

impl Value for FilterTime {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        Ok(input.text().and_then(|text| text.parse())?)
    }

    fn schema() -> RefOr<Schema> {
        date_time()
    }
}

pub fn date_time() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::value::RawValue;

    use super::*;
    use crate::request::tests::LIMITS;

    /// Reads a value of a body.
    fn json<T: Value>(text: &str) -> Result<T, Wrong> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        T::read(
            Input::Json(&raw),
            &Reading { limits: &LIMITS, caller: &Caller::anybody(), strict: false },
        )
    }

    #[test]
    fn a_price_is_a_number_or_a_decimal_text() {
        for text in ["12.5", "\"12.5\"", "1.25e1", "\"12.50\""] {
            assert_eq!(json::<Money>(text).unwrap().minor(), 1250, "{text}");
        }
        for text in
            ["true", "[1]", "{}", "\"\"", "\"x\"", "1e400", "-1", "\"-1\"", "1.234", "\" 1\""]
        {
            assert!(json::<Money>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_quantity_is_a_whole_number_in_its_range() {
        for text in ["1", "1000", "7.0"] {
            assert!(json::<Quantity>(text).is_ok(), "{text}");
        }
        for text in ["0", "-5", "1.5", "\"1\"", "9223372036854775808", "1e400", "true", "1001"] {
            assert!(json::<Quantity>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_must_be_unicode() {
        assert_eq!(json::<ProductName>("\"a\\u0041\"").unwrap().as_str(), "aA");
        assert!(json::<ProductName>("\"\\ud800\"").is_err());
        assert!(json::<ProductName>("\"a\\u0000b\"").is_err());
    }

    #[test]
    fn times_are_within_the_range_of_the_database() {
        for good in ["1970-01-01T00:00:00Z", "2026-01-31T12:00:00.5+01:00"] {
            assert!(good.parse::<FilterTime>().is_ok(), "{good}");
        }
        for bad in ["", "now", "1969-12-31T23:59:59Z", "2026-01-31", "-004800-01-01T00:00:00Z"] {
            assert!(bad.parse::<FilterTime>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_whole_number_is_read_exactly(number in any::<i64>()) {
            prop_assert_eq!(json::<i64>(&number.to_string()).ok(), Some(number));
        }

        #[test]
        fn any_number_is_read_without_panic(text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,12})?") {
            let _ = (json::<i64>(&text), json::<Money>(&text), json::<Quantity>(&text));
        }
    }
}
