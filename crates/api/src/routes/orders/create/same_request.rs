//! Decides whether two orders are the same request, for their `Idempotency-Key`.

use std::fmt::Write as _;

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
    let written = |lines, form: fn(&Forms) -> MetadataForm<'_>| {
        written(lines, customer, forms.as_ref().map(form))
    };
    let request = written(&sorted, |forms| MetadataForm::Exact(&forms.exact));
    let rounded = written(&sorted, |forms| MetadataForm::Rounded(&forms.rounded));
    let earliest = written(lines, |forms| MetadataForm::Rounded(&forms.earliest));
    let key = IdempotencyKey::new(space, key, request.as_bytes());
    if earliest == request {
        // Most orders have no metadata.
        return key;
    }
    key.or_earlier_forms([&rounded, &earliest].map(String::as_bytes))
}

/// Metadata in one of its forms.
#[derive(Clone, Copy)]
enum MetadataForm<'f> {
    Exact(&'f str),
    Rounded(&'f str),
}

fn written(lines: &Lines, customer: Option<&str>, metadata: Option<MetadataForm<'_>>) -> String {
    let mut request = String::from("order");
    for line in lines {
        let hold = line.hold.map_or(0, |hold| hold.0);
        // Writing to a String cannot fail.
        let _ = write!(request, ";{},{},{hold}", line.product_id, line.quantity.units());
        add_price(&mut request, line.expected_price);
    }
    match metadata {
        None => add_texts(&mut request, [customer, None]),
        Some(MetadataForm::Rounded(form)) => add_texts(&mut request, [customer, Some(form)]),
        Some(MetadataForm::Exact(form)) => {
            add_texts(&mut request, [customer]);
            // No earlier release wrote such a request: a number that it rounded must not count as equal to an exact one.
            let _ = write!(request, "|={}:{form}", form.len());
        }
    }
    request
}

/// Metadata in a canonical form, because a retry may be written differently.
struct Forms {
    /// The form that is compared.
    exact: String,
    /// The form of an earlier release, which compared numbers as doubles.
    rounded: String,
    /// The form of an even earlier release, which treated `1` and `1.0` as different.
    earliest: String,
}

impl Forms {
    fn of(metadata: &Metadata) -> Self {
        let text = metadata.as_str();
        // Metadata was checked when it was received.
        let exact = json::exact_form(text).unwrap_or_else(|_| text.to_owned());
        match json::from_str::<Value>(text) {
            Ok(mut value) => {
                let earliest = value.to_string();
                one_form_of_numbers(&mut value);
                Self { exact, rounded: value.to_string(), earliest }
            }
            // Those releases compared the raw metadata if it had a key that is special to the parser.
            Err(_) => Self { exact, rounded: text.to_owned(), earliest: text.to_owned() },
        }
    }
}

/// Writes whole numbers without a fraction. Recursion is limited by the depth that metadata may have.
fn one_form_of_numbers(value: &mut Value) {
    // Beyond this, a double cannot represent every whole number.
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
