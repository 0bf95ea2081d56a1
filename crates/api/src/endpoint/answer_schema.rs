//! The schemas of answers in a form that every client generator supports: flat objects, and null only where an answer
//! can contain it.

use utoipa::openapi::{
    RefOr, Schema,
    schema::{AllOf, Object, SchemaType, Type},
};

/// Makes one object of parts that serde flattens. An optional property is absent, never null.
pub fn answer_schema(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(object)) => RefOr::T(Schema::Object(without_null(object))),
        RefOr::T(Schema::AllOf(all)) => RefOr::T(Schema::Object(without_null(merged(all)))),
        other => other,
    }
}

/// Merges the parts of an object. The last part has the fields of the type itself.
fn merged(all: AllOf) -> Object {
    let description = all.description;
    let mut whole = Object::with_type(Type::Object);
    for part in all.items {
        let part = match part {
            RefOr::T(Schema::Object(object)) => object,
            RefOr::T(Schema::AllOf(inner)) => merged(inner),
            _ => continue,
        };
        whole.properties.extend(part.properties);
        whole.required.extend(part.required);
        whole.description = part.description.or(whole.description);
    }
    whole.description = description.or(whole.description);
    whole
}

fn without_null(mut object: Object) -> Object {
    for (name, property) in &mut object.properties {
        if object.required.contains(name) {
            continue;
        }
        match property {
            RefOr::T(Schema::Object(property)) => not_null(&mut property.schema_type),
            RefOr::T(Schema::Array(property)) => not_null(&mut property.schema_type),
            RefOr::T(Schema::OneOf(either)) => {
                let reference = either.items.iter_mut().find_map(|item| match item {
                    RefOr::Ref(reference) => Some(reference.clone()),
                    RefOr::T(_) => None,
                });
                if let Some(mut reference) = reference {
                    reference.description = either.description.take().unwrap_or_default();
                    *property = reference.into();
                }
            }
            _ => {}
        }
    }
    object
}

fn not_null(schema_type: &mut SchemaType) {
    if let SchemaType::Array(types) = schema_type {
        types.retain(|one| *one != Type::Null);
        if let [only] = &types[..] {
            *schema_type = SchemaType::Type(only.clone());
        }
    }
}
