//! Generates the Postman collection from the OpenAPI documents.
//!
//! `postman/steps.json` has the order of the requests and the data that the documents do not contain: which id is used
//! in which request, and what an answer must contain. The address, method, body and success status come from the
//! documents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

const STEPS: &str = include_str!("postman/steps.json");
/// Always the same, so that an import replaces the previous version.
const ID: &str = "8d1b2d1e-6a0f-4a39-9d51-0c5a4d1f7b11";
const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";
const ABOUT: &str = "The requests of Holdfast's API, with tests, in an order in which they succeed. Run the whole collection, or \
    send the requests in order.\n\n\
    `baseUrl` and `adminUrl` are the addresses of `make run`. Set `apiKey` if the server requires one (`holdfast-api keys \
    create --name postman --scopes admin`). The requests set the other variables.\n\n\
    Generated from the OpenAPI documents: WRITE_DOCS=1 cargo test --workspace --test it -- postman::";

/// An operation of a document.
struct Operation<'d> {
    method: &'d str,
    path: &'d str,
    about: &'d Value,
}

/// The collection for the documents of the public port and of the admin port.
///
/// # Errors
/// The steps name an operation, an example or a place in a body that does not exist, or an operation has no step.
pub fn collection(public: &Value, admin: &Value) -> Result<Value, String> {
    let folders: Value = serde_json::from_str(STEPS).map_err(|error| error.to_string())?;
    let operations: Vec<_> = [public, admin].into_iter().flat_map(operations).collect();
    let mut left: BTreeSet<_> = operations.iter().map(|(id, _)| *id).collect();
    let mut variables = BTreeSet::new();
    let mut items = Vec::new();
    for folder in list(&folders) {
        let mut requests = Vec::new();
        for step in list(&folder["steps"]) {
            let id = text(&step["operation"]);
            let (_, operation) = operations
                .iter()
                .find(|(known, _)| *known == id)
                .ok_or_else(|| format!("no document has the operation {id}"))?;
            left.remove(id);
            for (name, _) in pairs(&step["set"]) {
                variables.insert(name);
            }
            let address = step["address"].as_str().unwrap_or_else(|| text(&folder["address"]));
            requests.push(request(step, operation, address).map_err(|why| format!("{id}: {why}"))?);
        }
        items.push(json!({
            "name": folder["folder"], "description": folder["about"], "item": requests,
        }));
    }
    if !left.is_empty() {
        return Err(format!("no step of postman/steps.json has {left:?}"));
    }
    let given = [
        ("baseUrl", "http://localhost:8000"),
        ("adminUrl", "http://localhost:9463"),
        ("apiKey", ""),
        ("saleName", "postman"),
        ("orderKey", ""),
    ];
    let variable = given.into_iter().chain(variables.into_iter().map(|name| (name, "")));
    let variable: Vec<_> =
        variable.map(|(key, value)| json!({ "key": key, "value": value })).collect();
    Ok(json!({
        "info": { "_postman_id": ID, "name": "Holdfast", "description": ABOUT, "schema": SCHEMA },
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{apiKey}}", "type": "string" }] },
        "variable": variable,
        "item": items,
    }))
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, Operation<'_>)> {
    pairs(&document["paths"]).flat_map(|(path, item)| {
        pairs(item).map(move |(method, about)| {
            (text(&about["operationId"]), Operation { method, path, about })
        })
    })
}

fn request(step: &Value, operation: &Operation<'_>, address: &str) -> Result<Value, String> {
    let variable = step["variable"].as_str().unwrap_or("productId");
    let example = operation.about["parameters"]
        .as_array()
        .and_then(|all| all.iter().find(|it| it["in"] == "path").map(|it| &it["example"]));
    // An id that no step has set keeps the value of the document's example.
    let place = match example.and_then(Value::as_str) {
        Some(name) if step["variable"].is_null() => name.to_owned(),
        _ => format!("{{{{{variable}}}}}"),
    };
    let path: Vec<_> = operation
        .path
        .split('/')
        .skip(1)
        .map(|part| if part.starts_with('{') { place.clone() } else { part.to_owned() })
        .collect();
    let query: Vec<_> =
        pairs(&step["query"]).map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let asked: Vec<_> =
        pairs(&step["query"]).map(|(key, value)| format!("{key}={}", text(value))).collect();
    let mark = if asked.is_empty() { "" } else { "?" };
    let raw = format!("{{{{{address}}}}}/{}{mark}{}", path.join("/"), asked.join("&"));
    let mut headers: Vec<_> =
        pairs(&step["headers"]).map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let mut request = json!({
        "method": operation.method.to_uppercase(),
        "url": { "raw": raw, "host": [format!("{{{{{address}}}}}")], "path": path, "query": query },
        "description": step["about"].as_str().unwrap_or_else(|| text(&operation.about["description"])),
    });
    if let Some(body) = body(step, operation)? {
        headers.push(json!({ "key": "Content-Type", "value": "application/json" }));
        request["body"] =
            json!({ "mode": "raw", "raw": body, "options": { "raw": { "language": "json" } } });
    }
    request["header"] = headers.into();
    let name = step["name"].as_str().unwrap_or_else(|| text(&operation.about["summary"]));
    Ok(json!({ "name": name, "request": request, "event": events(step, operation)? }))
}

/// The body of the document's example, with the changes of the step.
fn body(step: &Value, operation: &Operation<'_>) -> Result<Option<String>, String> {
    let examples = &operation.about["requestBody"]["content"]["application/json"]["examples"];
    let mut all = pairs(examples);
    let example = match step["example"].as_str() {
        Some(wanted) => all.find(|(name, _)| *name == wanted),
        None => all.next(),
    };
    let Some((_, example)) = example else {
        return if operation.about["requestBody"].is_null() && step["body"].is_null() {
            Ok(None)
        } else {
            Err("the document has no such example".to_owned())
        };
    };
    let mut body = example["value"].clone();
    for (place, value) in pairs(&step["body"]) {
        let found = body.pointer_mut(place).ok_or_else(|| format!("the example has no {place}"))?;
        *found = value.clone();
    }
    let text = serde_json::to_string_pretty(&body).map_err(|error| error.to_string())?;
    Ok(Some(with_numbers(&text)))
}

/// Ids are numbers, so their variables have no quotes.
fn with_numbers(text: &str) -> String {
    let mut parts = text.split("\"{{");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}\"") {
            Some((name, rest)) if name.ends_with("Id") => {
                whole.extend(["{{", name, "}}", rest]);
            }
            _ => whole.extend(["\"{{", part]),
        }
    }
    whole
}

/// The scripts that Postman runs before and after the request.
fn events(step: &Value, operation: &Operation<'_>) -> Result<Vec<Value>, String> {
    let mut before: Vec<String> = list(&step["before"]).map(|line| text(line).to_owned()).collect();
    if let Some(needed) = step["needs"].as_str() {
        before.push(format!(
            "if (!pm.collectionVariables.get('{needed}')) pm.execution.skipRequest();"
        ));
    }
    let statuses: Vec<u64> = if step["status"].is_null() {
        let success = pairs(&operation.about["responses"]).find_map(|(status, _)| {
            status.parse().ok().filter(|status| (200..300).contains(status))
        });
        vec![success.ok_or("the document has no answer of success")?]
    } else {
        list(&step["status"]).filter_map(Value::as_u64).collect()
    };
    let named: Vec<_> = statuses.iter().map(u64::to_string).collect();
    let mut after = vec![format!(
        "pm.test('the status is {}', () => pm.expect(pm.response.code).to.be.oneOf([{}]));",
        named.join(" or "),
        named.join(", ")
    )];
    let checks = pairs(&step["check"]).map(|(name, check)| {
        format!("pm.test('{name}', () => pm.expect({}).to.be.true);", text(check))
    });
    let sets = pairs(&step["set"])
        .map(|(name, value)| format!("pm.collectionVariables.set('{name}', {});", text(value)));
    let more: Vec<_> = checks.chain(sets).collect();
    if more.iter().any(|line| line.contains("json")) {
        after.push("const json = pm.response.json();".to_owned());
    }
    after.extend(more);
    let event = |listen, lines: Vec<String>| {
        (!lines.is_empty()).then(
            || json!({ "listen": listen, "script": { "type": "text/javascript", "exec": lines } }),
        )
    };
    Ok([event("prerequest", before), event("test", after)].into_iter().flatten().collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_ids_have_no_quotes() {
        let text = r#"{"ids": ["{{aId}}", "{{bId}}"], "log": "{{level}}"}"#;
        let whole = r#"{"ids": [{{aId}}, {{bId}}], "log": "{{level}}"}"#;
        assert_eq!(with_numbers(text), whole);
    }
}
