//! What makes two orders the same request, for their `Idempotency-Key`.

use std::{borrow::Cow, fmt::Write as _};

use holdfast_domain::{Lines, Metadata, json};
use holdfast_store::IdempotencyKey;
use serde_json::Value;

use crate::idempotency::{add_price, add_texts};

/// The key with the request that it belongs to.
pub fn key(
    key: &str,
    space: &str,
    lines: &Lines,
    customer: Option<&str>,
    metadata: Option<&Metadata>,
) -> IdempotencyKey {
    let forms = metadata.map(Forms::of);
    let mut sorted = lines.clone();
    sorted.sort_unstable_by_key(|line| (line.product_id, line.hold));
    let request = written(&sorted, [customer, forms.as_ref().map(|it| &*it.canonical)]);
    let earlier = written(lines, [customer, forms.as_ref().map(|it| &*it.earlier)]);
    let key = IdempotencyKey::new(space, key, request.as_bytes());
    if earlier == request { key } else { key.or_earlier_form(earlier.as_bytes()) }
}

fn written(lines: &Lines, texts: [Option<&str>; 2]) -> String {
    let mut request = String::from("order");
    for line in lines {
        let hold = line.hold.map_or(0, |hold| hold.0);
        // Writing to a String cannot fail.
        let _ = write!(request, ";{},{},{hold}", line.product_id, line.quantity.units());
        add_price(&mut request, line.expected_price);
    }
    add_texts(&mut request, texts);
    request
}

/// Metadata in one form, however it was written: a retry may be written differently.
struct Forms<'m> {
    /// What is compared.
    canonical: Cow<'m, str>,
    /// The form in which the release before wrote keys down, which told `1` and `1.0` apart.
    earlier: Cow<'m, str>,
}

impl<'m> Forms<'m> {
    fn of(metadata: &'m Metadata) -> Self {
        match json::from_str::<Value>(metadata.as_str()) {
            Ok(mut value) => {
                let earlier = value.to_string().into();
                one_form_of_numbers(&mut value);
                Self { canonical: value.to_string().into(), earlier }
            }
            // With a key that means something to the parser, it is compared as it stands.
            Err(_) => {
                Self { canonical: metadata.as_str().into(), earlier: metadata.as_str().into() }
            }
        }
    }
}

/// Writes whole numbers without a fraction. Goes as deep as metadata may be.
fn one_form_of_numbers(value: &mut Value) {
    // From here on a double does not hold every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0)
                && number.is_f64()
                && whole.abs() < EXACT
            {
                #[allow(clippy::cast_possible_truncation)] // whole, and within the range
                let whole = whole as i64;
                *number = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(one_form_of_numbers),
        Value::Object(fields) => fields.values_mut().for_each(one_form_of_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
