//! Money: minor units internally, decimals only in input and output.

use crate::{Invalid, decimal::parse_decimal};
use rust_decimal::Decimal;

/// The highest price in minor units: 99,999,999.99. Below 2^53, so that a JSON parser that uses
/// only floats still reads each price exactly.
pub const MAX_PRICE_MINOR: i64 = 9_999_999_999;

/// An amount in minor units (cents), from 0 to [`MAX_PRICE_MINOR`]. The shop has one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// An amount of `minor` units.
    ///
    /// # Errors
    /// A negative amount, or one above [`MAX_PRICE_MINOR`].
    pub fn from_minor(minor: i64) -> Result<Self, Invalid> {
        if (0..=MAX_PRICE_MINOR).contains(&minor) {
            Ok(Self(minor))
        } else {
            Err("must be between 0 and 99999999.99".into())
        }
    }

    /// Parses an amount in major units: digits with an optional fraction, such as `12` or `12.5`.
    ///
    /// # Errors
    /// The text is not a decimal number, has more than two decimals, or is out of range.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        parse_decimal(text, false).and_then(Self::of_major)
    }

    /// Parses an amount from a number in the notation of JSON, such as `1.25e1`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_number(text: &str) -> Result<Self, Invalid> {
        parse_decimal(text, true).and_then(Self::of_major)
    }

    fn of_major(major: Decimal) -> Result<Self, Invalid> {
        let major = major.normalize();
        if major.scale() > 2 {
            return Err("must have at most two decimals".into());
        }
        let minor = major
            .checked_mul(Decimal::ONE_HUNDRED)
            .and_then(|minor| i64::try_from(minor).ok())
            .unwrap_or(i64::MAX);
        Self::from_minor(minor)
    }

    /// The amount in minor units.
    pub fn minor(self) -> i64 {
        self.0
    }

    /// The amount in major units, only for the JSON number of an answer: over the whole range,
    /// the nearest float prints as the exact two decimals.
    #[allow(clippy::cast_precision_loss)] // MAX_PRICE_MINOR < 2^53
    pub fn to_major_f64(self) -> f64 {
        self.0 as f64 / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invalid_amounts_are_refused() {
        for text in [
            "-1",
            "-0.01",
            "1.234",
            "NaN",
            "Infinity",
            "1e400",
            "1e9",
            "",
            "12,5",
            "100000000",
            "1_0e0",
            "1_0",
            "+1",
        ] {
            assert!(Money::parse(text).is_err(), "{text}");
            assert!(Money::parse_number(text).is_err(), "{text}");
        }
        assert!(Money::parse("1.25e1").is_err());
    }

    #[test]
    fn notations_of_the_same_amount_agree() {
        for text in ["12.5", "12.50", "12.500"] {
            assert_eq!(Money::parse(text).map(Money::minor), Ok(1250), "{text}");
        }
        assert_eq!(Money::parse_number("1.25e1").map(Money::minor), Ok(1250));
    }

    proptest! {
        #[test]
        fn an_amount_printed_as_a_float_is_read_back_exactly(minor in 0..=MAX_PRICE_MINOR) {
            let money = Money::from_minor(minor).unwrap();
            let printed = format!("{}", money.to_major_f64());
            prop_assert_eq!(Money::parse(&printed).unwrap(), money);
        }
    }
}
