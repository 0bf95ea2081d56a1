//! Exact reading of numbers in the notation of JSON.

use rust_decimal::Decimal;

use crate::Invalid;

/// Reads `text` (JSON number notation, an exponent included) without ever passing through a float.
///
/// # Errors
/// Text that is no finite decimal number, or one with more digits than 28.
pub(crate) fn parse_decimal(text: &str) -> Result<Decimal, Invalid> {
    // A float's notation such as `1e400` or `NaN` must be refused, not rounded.
    let parsed = if text.contains(['e', 'E']) {
        Decimal::from_scientific(text)
    } else {
        Decimal::from_str_exact(text)
    };
    // Decimal reads "1_000" and "+1", which JSON does not know.
    if text.contains(['_', '+']) && !text.contains(['e', 'E']) {
        return Err("must be a decimal number".into());
    }
    parsed.map_err(|_| "must be a decimal number of at most 28 digits".into())
}

/// Reads a whole number: `7`, and `7.0` or `70e-1` as well, since JSON has one kind of number.
///
/// # Errors
/// Text that is not a number, has a fraction, or lies outside `i64`.
pub fn parse_integer(text: &str) -> Result<i64, Invalid> {
    if let Ok(plain) = text.parse::<i64>() {
        return Ok(plain);
    }
    let value = parse_decimal(text)?;
    if !value.fract().is_zero() {
        return Err("must be a whole number".into());
    }
    i64::try_from(value).map_err(|_| "is out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_in_each_notation() {
        for (text, value) in [("7", 7), ("7.0", 7), ("70e-1", 7), ("-5", -5), ("1e3", 1000)] {
            assert_eq!(parse_integer(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        for text in
            ["1.5", "", "NaN", "Infinity", "1e400", "9223372036854775808", "1_0", "0x1", "true"]
        {
            assert!(parse_integer(text).is_err(), "{text}");
        }
    }
}
