//! The canonical form of a JSON text.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{JsonError, check};

/// Writes a JSON text in a canonical form: two texts have the same form if and only if they have the same meaning.
/// Whitespace, escapes, the order of members and the notation of numbers do not matter. Numbers are compared as
/// decimals of any length, without writing them out. All members with the same name are kept, in their order.
///
/// # Errors
/// [`check`] refuses the text.
pub fn exact_form(text: &str) -> Result<String, JsonError> {
    check(text)?;
    let mut form = String::with_capacity(text.len());
    write(text.trim_matches([' ', '\n', '\r', '\t']), &mut form)?;
    Ok(form)
}

/// Recurses as deep as [`check`] allows.
fn write(value: &str, form: &mut String) -> Result<(), JsonError> {
    match value.as_bytes().first() {
        Some(b'{') => {
            let JsonMembers(mut members) = parse(value)?;
            // The sort is stable: members with the same name stay in their order.
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            form.push('{');
            for (name, value) in members {
                form.push_str(&serde_json::to_string(&*name)?);
                form.push(':');
                write(value.get(), form)?;
                form.push(',');
            }
            form.push('}');
        }
        Some(b'[') => {
            form.push('[');
            for value in parse::<Vec<&RawValue>>(value)? {
                write(value.get(), form)?;
                form.push(',');
            }
            form.push(']');
        }
        Some(b'"') => form.push_str(&serde_json::to_string(&parse::<Cow<'_, str>>(value)?)?),
        Some(b'-' | b'0'..=b'9') => write_number(value, form),
        _ => form.push_str(value),
    }
    Ok(())
}

/// Writes a number as its digits without leading and trailing zeros, and the power of ten by which they are multiplied.
fn write_number(number: &str, form: &mut String) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let digits = [whole, fraction].concat();
    let short = digits.trim_end_matches('0');
    let cut = digits.len() - short.len();
    let short = short.trim_start_matches('0');
    if short.is_empty() {
        // With either sign.
        return form.push('0');
    }
    let power = exponent.parse::<i128>().ok().and_then(|exponent| {
        exponent
            .checked_add(i128::try_from(cut).ok()?)?
            .checked_sub(i128::try_from(fraction.len()).ok()?)
    });
    match power {
        Some(power) => form.extend([sign, short, "e", &power.to_string()]),
        // It is too large for a calculation, so it stays as it is.
        None => form.push_str(number),
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, JsonError> {
    #[allow(clippy::disallowed_methods)] // the text has been checked
    Ok(serde_json::from_str(text)?)
}

/// The members of an object, in their order and with duplicates. The values are not parsed.
#[derive(Clone, Debug)]
pub struct JsonMembers<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = JsonMembers<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(JsonMembers(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests;
