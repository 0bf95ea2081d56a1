//! Exact parsing of numbers in the notation of JSON.

use rust_decimal::Decimal;

use crate::Invalid;

/// Reads `text` without a conversion to a float: digits, optionally with a leading minus and a fraction.
/// With `exponent`, also an exponent, as in JSON.
///
/// # Errors
/// A text that is not a decimal number in this notation, or that has more than 28 digits.
pub(crate) fn parse_decimal(text: &str, exponent: bool) -> Result<Decimal, Invalid> {
    // Decimal's own parser also accepts "1_000", "+1", ".5" and "1_0e0".
    let (mantissa, power) = match text.split_once(['e', 'E']) {
        Some((mantissa, power)) if exponent => (mantissa, Some(power)),
        Some(_) => return Err("must be a decimal number without an exponent".into()),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let power_is_number =
        power.is_none_or(|power| digits(power.strip_prefix(['+', '-']).unwrap_or(power)));
    if !digits(whole) || !digits(fraction) || !power_is_number {
        return Err("must be a decimal number".into());
    }
    let parsed = match power {
        Some(_) => Decimal::from_scientific(text),
        None => Decimal::from_str_exact(text),
    };
    parsed.map_err(|_| "must be a decimal number of at most 28 digits".into())
}

/// Reads a whole number. `7.0` and `70e-1` are whole numbers too: JSON has one kind of number.
///
/// # Errors
/// A text that is not a number, has a fraction, or is out of the range of `i64`.
pub fn parse_integer(text: &str) -> Result<i64, Invalid> {
    if let Ok(plain) = text.parse::<i64>()
        && !text.starts_with('+')
    {
        return Ok(plain);
    }
    let value = parse_decimal(text, true)?;
    if !value.fract().is_zero() {
        return Err("must be a whole number".into());
    }
    i64::try_from(value).map_err(|_| "is out of range".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_are_read_in_each_notation() {
        for (text, value) in
            [("7", 7), ("7.0", 7), ("70e-1", 7), ("-5", -5), ("1e3", 1000), ("1E+3", 1000)]
        {
            assert_eq!(parse_integer(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn only_whole_numbers_are_accepted() {
        for text in [
            "1.5",
            "",
            "NaN",
            "Infinity",
            "1e400",
            "9223372036854775808",
            "1_0",
            "0x1",
            "true",
            "+1",
            "1_0e0",
            "_1e0",
            "1e1_0",
            "1e",
            "e1",
            "1e+",
            "1.",
            ".5",
            "--1",
            "1e1e1",
            " 1",
            "1 ",
            "\u{661}",
            "-",
            ".",
            "1._0",
        ] {
            assert!(parse_integer(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn only_digits_and_a_fraction_are_a_decimal(text in "[-+]?[0-9_]{0,4}[.]?[0-9_e]{0,4}") {
            let good = text.trim_start_matches('-').split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
            });
            prop_assert_eq!(parse_decimal(&text, false).is_ok(), good, "{}", text);
        }
    }
}
