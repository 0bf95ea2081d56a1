//! What a client sends to order or to hold something.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use axum::http::HeaderMap;
use bytes::Bytes;
use holdfast_admission::{HoldStock, PlaceOrder};
use holdfast_domain::{
    CustomerRef, HoldId, Invalid, Line, Lines, Metadata, Money, ProductId, Quantity, json,
};
use holdfast_store::IdempotencyKey;
use serde_json::{Value, value::RawValue};

use crate::{
    access::Caller,
    body::{Fields, JsonText, value},
    idempotency,
    problem::{FieldError, Problem},
};

/// The bounds of orders and holds.
#[derive(Clone, Copy, Debug)]
pub struct OrderLimits {
    /// The most units of one product in an order or a hold.
    pub quantity: i32,
    /// The most lines of an order.
    pub lines: usize,
    /// The longest that a hold may be asked to last.
    pub hold: Duration,
}

/// How long a hold lasts if its request does not say.
const HOLD_DEFAULT: Duration = Duration::from_mins(15);

/// Reads an order: either `product_id` and `quantity`, perhaps with `hold_id`, or `items`, each
/// of which has the same fields.
///
/// The same product on two lines is one line with the sum of both.
///
/// # Errors
/// All wrong fields at once.
pub fn order(
    headers: &HeaderMap,
    body: &Bytes,
    limits: &OrderLimits,
    caller: &Caller,
) -> Result<PlaceOrder, Problem> {
    let text = JsonText::check(body)?;
    let names = [
        "product_id",
        "quantity",
        "hold_id",
        "expected_price",
        "items",
        "customer_ref",
        "metadata",
    ];
    let mut fields = Fields::read(&text, names)?;
    let lines = if fields.has("items") {
        for name in ["product_id", "quantity", "hold_id", "expected_price"] {
            if fields.has(name) {
                fields.wrong(name, "must not be given together with items");
            }
        }
        match fields.required("items", |raw| elements(raw, limits)) {
            Some(items) => items_of(&mut fields, &items, limits),
            None => Lines::new(),
        }
    } else {
        line(&mut fields, limits).into_iter().collect()
    };
    let customer_ref = customer(&mut fields, caller);
    let metadata = fields.nullable("metadata", metadata).flatten();
    let key = key(&mut fields, headers);
    fields.finish()?;
    // No id is below 1: answered without a place in a lane.
    if let Some(line) = lines.iter().find(|line| line.product_id.0 < 1) {
        return Err(Problem::unknown_product(line.product_id.0));
    }
    let key = key.map(|key| {
        let customer = customer_ref.as_ref().map(CustomerRef::as_str);
        let forms = metadata.as_ref().map(Forms::of);
        let mut sorted = lines.clone();
        sorted.sort_unstable_by_key(|line| (line.product_id, line.hold));
        let request = fingerprinted(&sorted, [customer, forms.as_ref().map(|it| &*it.canonical)]);
        let earlier = fingerprinted(&lines, [customer, forms.as_ref().map(|it| &*it.earlier)]);
        let key = IdempotencyKey::new(caller.key_space(), key, request.as_bytes());
        if earlier == request { key } else { key.or_earlier_form(earlier.as_bytes()) }
    });
    Ok(PlaceOrder { lines, customer_ref, metadata, trace_context: None, key })
}

/// What makes two orders the same request.
fn fingerprinted(lines: &Lines, texts: [Option<&str>; 2]) -> String {
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

fn add_price(request: &mut String, price: Option<Money>) {
    if let Some(price) = price {
        // Writing to a String cannot fail.
        let _ = write!(request, ",{}", price.minor());
    }
}

/// Reads a hold: `product_id`, `quantity`, and perhaps `seconds`, `customer_ref` and `expected_price`.
///
/// # Errors
/// All wrong fields at once.
pub fn hold(
    headers: &HeaderMap,
    body: &Bytes,
    limits: &OrderLimits,
    caller: &Caller,
) -> Result<HoldStock, Problem> {
    let text = JsonText::check(body)?;
    let names = ["product_id", "quantity", "seconds", "customer_ref", "expected_price"];
    let mut fields = Fields::read(&text, names)?;
    let product_id = fields.required("product_id", value::integer).map(ProductId);
    let quantity = fields.required("quantity", value::quantity(limits.quantity));
    let lasts = fields.nullable("seconds", |raw| seconds(raw, limits.hold)).flatten();
    let expected_price = fields.nullable("expected_price", value::price).flatten();
    let customer_ref = customer(&mut fields, caller);
    let key = key(&mut fields, headers);
    fields.finish()?;
    let (Some(product_id), Some(quantity)) = (product_id, quantity) else {
        // `finish` has named what is missing.
        return Err(Problem::body("must have product_id and quantity"));
    };
    if product_id.0 < 1 {
        return Err(Problem::unknown_product(product_id.0));
    }
    let lasts = lasts.unwrap_or(HOLD_DEFAULT.min(limits.hold));
    let key = key.map(|key| {
        let mut request = format!("hold;{product_id},{},{}", quantity.units(), lasts.as_secs());
        add_price(&mut request, expected_price);
        add_texts(&mut request, [customer_ref.as_ref().map(CustomerRef::as_str)]);
        IdempotencyKey::new(caller.key_space(), key, request.as_bytes())
    });
    Ok(HoldStock { product_id, quantity, expected_price, lasts, customer_ref, key })
}

fn line<const N: usize>(fields: &mut Fields<'_, N>, limits: &OrderLimits) -> Option<Line> {
    let product_id = fields.required("product_id", value::integer);
    let quantity = fields.required("quantity", value::quantity(limits.quantity));
    let hold = fields.nullable("hold_id", value::integer).flatten().map(HoldId);
    let expected_price = fields.nullable("expected_price", value::price).flatten();
    Some(Line { product_id: ProductId(product_id?), quantity: quantity?, hold, expected_price })
}

fn items_of<const N: usize>(
    fields: &mut Fields<'_, N>,
    items: &[&RawValue],
    limits: &OrderLimits,
) -> Lines {
    let mut lines = Lines::new();
    for (at, item) in items.iter().enumerate() {
        match read_item(item, limits) {
            Ok(line) => {
                if let Err(detail) = add(&mut lines, line, limits) {
                    fields.wrong(format!("items[{at}]"), detail);
                }
            }
            Err(errors) => {
                for error in errors {
                    let name = match &*error.field {
                        "body" => format!("items[{at}]"),
                        field => format!("items[{at}].{field}"),
                    };
                    fields.wrong(name, error.detail);
                }
            }
        }
    }
    lines
}

fn read_item(item: &RawValue, limits: &OrderLimits) -> Result<Line, Vec<FieldError>> {
    let errors = |problem: Problem| problem.into_errors();
    let text = JsonText::check(item.get().as_bytes()).map_err(errors)?;
    let mut fields = Fields::read(&text, ["product_id", "quantity", "hold_id", "expected_price"])
        .map_err(errors)?;
    let line = line(&mut fields, limits);
    fields.finish().map_err(errors)?;
    // `finish` has named what is missing.
    line.ok_or_else(Vec::new)
}

/// Adds a line to an order, or its units to the line that has the same product.
fn add(lines: &mut Lines, line: Line, limits: &OrderLimits) -> Result<(), String> {
    if line.hold.is_some() {
        if lines.iter().any(|other| other.hold == line.hold) {
            return Err("must not name a hold that another line names".to_owned());
        }
        lines.push(line);
        return Ok(());
    }
    let same =
        lines.iter_mut().find(|other| other.hold.is_none() && other.product_id == line.product_id);
    match same {
        None => lines.push(line),
        Some(same) => {
            same.expected_price = match (same.expected_price, line.expected_price) {
                (Some(one), Some(other)) if one != other => {
                    return Err(format!(
                        "expects another price of the product {} than another element",
                        line.product_id
                    ));
                }
                (one, other) => one.or(other),
            };
            let sum = i64::from(same.quantity.units()) + i64::from(line.quantity.units());
            same.quantity = Quantity::new(sum, limits.quantity).map_err(|_| {
                format!("brings product {} above {} units", line.product_id, limits.quantity)
            })?;
        }
    }
    Ok(())
}

fn elements<'b>(raw: &'b RawValue, limits: &OrderLimits) -> Result<Vec<&'b RawValue>, Invalid> {
    if !raw.get().starts_with('[') {
        return Err("must be an array of objects".into());
    }
    value::elements(raw, limits.lines)
        .filter(|items| !items.is_empty())
        .ok_or_else(|| format!("must have 1 to {} elements", limits.lines).into())
}

/// For whom it is: of a caller who acts for one customer, for that one.
fn customer<const N: usize>(fields: &mut Fields<'_, N>, caller: &Caller) -> Option<CustomerRef> {
    let named = fields.nullable("customer_ref", customer_ref).flatten();
    match (named, caller.customer()) {
        (Some(named), Some(own)) if named != *own => {
            fields.wrong("customer_ref", "must be that of the key or token, or left out");
            None
        }
        (None, Some(own)) => Some(own.clone()),
        (named, _) => named,
    }
}

fn customer_ref(raw: &RawValue) -> Result<CustomerRef, Invalid> {
    value::text(raw).and_then(CustomerRef::new)
}

fn metadata(raw: &RawValue) -> Result<Metadata, Invalid> {
    Metadata::new(raw.get().to_owned())
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

fn seconds(raw: &RawValue, max: Duration) -> Result<Duration, Invalid> {
    let out_of_range = || Invalid::from(format!("must be between 1 and {}", max.as_secs()));
    let seconds = match value::integer(raw) {
        Err(Invalid(reason)) if reason.contains("out of range") => return Err(out_of_range()),
        read => read?,
    };
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=max.as_secs()).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(out_of_range)
}

fn key<'h, const N: usize>(fields: &mut Fields<'_, N>, headers: &'h HeaderMap) -> Option<&'h str> {
    idempotency::key(headers).unwrap_or_else(|FieldError { field, detail }| {
        fields.wrong(field, detail);
        None
    })
}

/// Adds texts to what makes two requests the same. The length keeps them apart.
fn add_texts<const N: usize>(request: &mut String, texts: [Option<&str>; N]) {
    for text in texts {
        // Writing to a String cannot fail.
        let _ = match text {
            Some(text) => write!(request, "|{}:{text}", text.len()),
            None => write!(request, "|"),
        };
    }
}

#[cfg(test)]
mod tests;
