//! What a client sends, as types: each is read, checked and described in the OpenAPI document by one declaration.
//!
//! A request is a struct with `#[derive(Request)]` whose fields are [`Value`]s. One answer names every wrong field, and no
//! number passes through a float.
//!
//! | file | subject |
//! |---|---|
//! | `fields` | the fields of a body or query, found and read one by one |
//! | `value` | types of fields |
//! | `domain_values` | the domain's types as types of fields |
//! | `words` | enumerations |
//! | `extract` | bodies and queries as arguments of handlers |
//! | `path` | what stands in the path |

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

/// What a value may depend on besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'r> {
    /// The bounds of orders and holds.
    pub limits: &'r OrderLimits,
    /// Who sends the request.
    pub caller: &'r Caller,
    /// Whether an unknown field is wrong: the client asks for that with `Prefer: handling=strict`.
    pub strict: bool,
}

/// A body or a query string. To be derived.
pub trait Request: Sized {
    /// Its name in the document.
    const NAME: &'static str;
    /// What it is.
    const DESCRIPTION: &'static str;
    /// The names of its fields.
    const NAMES: &'static [&'static str];
    /// Its fields.
    const FIELDS: &'static [FieldDescription];
    /// The forms that it can have, if there is more than one.
    const FORMS: &'static [FormDescription];
    /// Requests that are accepted. If there are none, the examples of the fields make one.
    const EXAMPLES: &'static [RequestExample];

    /// Reads the fields. `None` without a value for one that is required; `fields` knows what is wrong then.
    fn read(fields: &mut Fields<'_>, reading: &Reading<'_>) -> Option<Self>;
}

/// A field in the document.
#[derive(Clone, Copy, Debug)]
pub struct FieldDescription {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it may be null.
    pub nullable: bool,
    /// The schema of its type.
    pub schema: fn() -> RefOr<Schema>,
    /// The named schemas that its type refers to.
    pub components: fn(&mut Components),
    /// A value that is accepted.
    pub example: Option<fn() -> serde_json::Value>,
}

/// Named schemas.
pub type Components = Vec<(String, RefOr<Schema>)>;

/// One of several forms of a body.
#[derive(Clone, Copy, Debug)]
pub struct FormDescription {
    /// The name of its schema.
    pub name: &'static str,
    /// What it is.
    pub description: &'static str,
    /// The fields that must be there in this form, besides those that always must.
    pub needs: &'static [&'static str],
    /// The fields that it does not have. Null is as good as nothing, and is the only value there where no needed field
    /// tells the form from others.
    pub without: &'static [&'static str],
}

/// A body that is accepted, as it stands, by what `make run` begins with.
#[derive(Clone, Copy, Debug)]
pub struct RequestExample {
    /// What it shows.
    pub summary: &'static str,
    /// The body.
    pub value: fn() -> serde_json::Value,
}

/// Bodies that are accepted, each with what it shows.
pub fn examples<T: Request>() -> Vec<(&'static str, serde_json::Value)> {
    if T::EXAMPLES.is_empty() {
        let fields = T::FIELDS.iter();
        let shown = fields.filter_map(|field| Some((field.name.to_owned(), (field.example?)())));
        return vec![("All fields", serde_json::Value::Object(shown.collect()))];
    }
    T::EXAMPLES.iter().map(|example| (example.summary, (example.value)())).collect()
}

/// Adds the schema of a body, and those that it refers to.
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
        type Fields<'f> = Vec<&'f FieldDescription>;
        let (others, fields): (Fields<'_>, Fields<'_>) =
            fields.iter().partition(|field| self.without.contains(&field.name));
        let others = others.into_iter().filter(|_| self.needs.is_empty());
        let others = others.map(|field| FieldDescription {
            description: "Not in this form",
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
    /// The field's schema with its description and example.
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

    /// Reads a body that nobody in particular sends.
    pub fn read<T: Request>(body: &str) -> Result<T, Problem> {
        let caller = Caller::anybody();
        super::read(
            body.as_bytes(),
            &Reading { limits: &LIMITS, caller: &caller, strict: false },
            None,
        )
    }

    /// The wrong fields of a body, in the order in which they were found.
    pub fn wrong<T: Request + std::fmt::Debug>(body: &str) -> Vec<String> {
        read::<T>(body).unwrap_err().fields().map(ToOwned::to_owned).collect()
    }
}
