//! Request types. Each is parsed, validated and described in the OpenAPI document by one declaration.
//!
//! A request is a struct with `#[derive(Request)]` whose fields are [`Value`]s. One answer names every wrong field, and no
//! number passes through a float.
//!
//! | file | subject |
//! |---|---|
//! | `fields` | the fields of a body or query |
//! | `value` | types of fields |
//! | `domain_values` | the domain's types as types of fields |
//! | `words` | enumerations |
//! | `extract` | bodies and queries as arguments of handlers |
//! | `path` | parameters in the path |

mod domain_values;
mod extract;
mod fields;
mod path;
mod value;
mod words;

use utoipa::openapi::{
    Object, ObjectBuilder, Ref, RefOr, Schema,
    schema::{OneOfBuilder, SchemaType, Type},
};

pub use domain_values::date_time;
pub use domain_values::{FilterTime, NamedCustomer, PageLimit, Version, WholeNumber};
pub(crate) use extract::PREFER;
pub use extract::{JsonBody, KeyedBody, Query, read, read_element};
pub use fields::Fields;
pub use holdfast_request_derive::Request;
pub use path::{Id, InPath, PathArgument, PathText, wrong_id};
pub use value::{
    Input, Value, Wrong, array_between, integer, integer_between, text_between, whole_number,
};
pub(crate) use words::words;

use crate::{access::Caller, limits::OrderLimits};

/// The context in which a value is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'r> {
    /// The limits of orders and holds.
    pub limits: &'r OrderLimits,
    pub caller: &'r Caller,
    /// Whether an unknown field is an error, as requested with `Prefer: handling=strict`.
    pub strict: bool,
}

/// A body or a query string. Derive it.
pub trait Request: Sized {
    /// Its name in the document.
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    /// The names of its fields.
    const NAMES: &'static [&'static str];
    const FIELDS: &'static [FieldDescription];
    /// The forms of the body, if there is more than one.
    const FORMS: &'static [FormDescription];
    /// Examples of valid requests. If there are none, the example consists of the examples of the fields.
    const EXAMPLES: &'static [RequestExample];

    /// Reads the fields. `None` if a required field is wrong or absent; `fields` has the errors.
    fn read(fields: &mut Fields<'_>, reading: &Reading<'_>) -> Option<Self>;
}

/// A field in the document.
#[derive(Clone, Copy, Debug)]
pub struct FieldDescription {
    pub name: &'static str,
    pub description: &'static str,
    /// Whether it is required.
    pub required: bool,
    /// Whether it may be null.
    pub nullable: bool,
    /// The schema of its type.
    pub schema: fn() -> RefOr<Schema>,
    /// The named schemas that its schema refers to.
    pub components: fn(&mut Components),
    /// An example of a valid value.
    pub example: Option<fn() -> serde_json::Value>,
}

/// Named schemas.
pub type Components = Vec<(String, RefOr<Schema>)>;

/// One of several forms of a body.
#[derive(Clone, Copy, Debug)]
pub struct FormDescription {
    /// The name of its schema.
    pub name: &'static str,
    pub description: &'static str,
    /// The fields that are required in this form, besides those that are always required.
    pub needs: &'static [&'static str],
    /// The fields that it does not have. Null counts as absent. If no required field identifies the form, the schema allows
    /// only null for these fields.
    pub without: &'static [&'static str],
}

/// A valid body that succeeds with the demo data of `make run`.
#[derive(Clone, Copy, Debug)]
pub struct RequestExample {
    /// The title.
    pub summary: &'static str,
    /// The body.
    pub value: fn() -> serde_json::Value,
}

/// Examples of bodies with their titles.
pub fn examples<T: Request>() -> Vec<(&'static str, serde_json::Value)> {
    if T::EXAMPLES.is_empty() {
        let fields = T::FIELDS.iter();
        let shown = fields.filter_map(|field| Some((field.name.to_owned(), (field.example?)())));
        return vec![("All fields", serde_json::Value::Object(shown.collect()))];
    }
    T::EXAMPLES.iter().map(|example| (example.summary, (example.value)())).collect()
}

/// Adds the schema of a body and the schemas that it refers to.
pub fn add_components<T: Request>(components: &mut Components) {
    if T::FORMS.is_empty() {
        components.push((T::NAME.to_owned(), object(T::DESCRIPTION, T::FIELDS.iter().copied())));
    } else {
        let forms = OneOfBuilder::new().description(Some(T::DESCRIPTION));
        let forms = T::FORMS.iter().fold(forms, |forms, form| {
            components.push((form.name.to_owned(), form.schema(T::FIELDS)));
            forms.item(Ref::from_schema_name(form.name))
        });
        components.push((T::NAME.to_owned(), forms.into()));
    }
    for field in T::FIELDS {
        (field.components)(components);
    }
}

fn object(
    description: &'static str,
    fields: impl Iterator<Item = FieldDescription>,
) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
    let object = fields.fold(object, |object, field| {
        let object = object.property(field.name, field.full_schema());
        if field.required { object.required(field.name) } else { object }
    });
    object.into()
}

impl FormDescription {
    fn schema(&self, fields: &[FieldDescription]) -> RefOr<Schema> {
        type FieldList<'f> = Vec<&'f FieldDescription>;
        let (others, fields): (FieldList<'_>, FieldList<'_>) =
            fields.iter().partition(|field| self.without.contains(&field.name));
        let others = others.into_iter().filter(|_| self.needs.is_empty());
        let others = others.map(|field| FieldDescription {
            description: "Not used in this form",
            schema: null,
            example: None,
            ..*field
        });
        let fields = fields.into_iter().map(|field| {
            let needed = self.needs.contains(&field.name);
            FieldDescription {
                required: field.required || needed,
                nullable: field.nullable && !needed,
                ..*field
            }
        });
        object(self.description, fields.chain(others))
    }
}

fn null() -> RefOr<Schema> {
    Object::with_type(Type::Null).into()
}

impl FieldDescription {
    /// The schema of the field with its description and example.
    fn full_schema(&self) -> RefOr<Schema> {
        let example = self.example.map(|example| example());
        let mut schema = (self.schema)();
        match &mut schema {
            RefOr::T(Schema::Object(object)) => {
                object.description = Some(self.description.to_owned());
                object.example = example;
                or_null(&mut object.schema_type, self.nullable);
                if let Some(values) = object.enum_values.as_mut().filter(|_| self.nullable) {
                    values.push(serde_json::Value::Null);
                }
            }
            RefOr::T(Schema::Array(array)) => {
                array.description = Some(self.description.to_owned());
                array.example = example;
                or_null(&mut array.schema_type, self.nullable);
            }
            RefOr::Ref(reference) => self.description.clone_into(&mut reference.description),
            RefOr::T(_) => {}
        }
        schema
    }
}

fn or_null(schema_type: &mut SchemaType, nullable: bool) {
    if let SchemaType::Type(only) = schema_type
        && nullable
        && *only != Type::Null
    {
        *schema_type = SchemaType::Array(vec![only.clone(), Type::Null]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::problem::Problem;

    pub const LIMITS: OrderLimits =
        OrderLimits { quantity: 1000, lines: 3, hold: Duration::from_hours(1) };

    /// Reads a body of an anonymous caller.
    pub fn read<T: Request>(body: &str) -> Result<T, Problem> {
        let caller = Caller::anybody();
        super::read(
            body.as_bytes(),
            &Reading { limits: &LIMITS, caller: &caller, strict: false },
            None,
        )
    }

    /// The wrong fields of a body, in the order of the errors.
    pub fn wrong<T: Request + std::fmt::Debug>(body: &str) -> Vec<String> {
        read::<T>(body).unwrap_err().fields().map(ToOwned::to_owned).collect()
    }
}
