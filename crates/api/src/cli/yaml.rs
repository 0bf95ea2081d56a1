//! Converts JSON of the API to YAML.

use holdfast_domain::json::JsonMembers;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::of_endpoint;

/// A JSON value that is serialized in another format. It is parsed level by level, because a type for any JSON must not
/// parse data from clients: see `holdfast_domain::json`.
pub(super) struct Json<'a>(pub(super) &'a RawValue);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.get().trim_start();
        match text.as_bytes().first() {
            Some(b'{') => {
                let JsonMembers(members) = read(text)?;
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(&name, &Json(value))?;
                }
                map.end()
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = read(text)?;
                serializer.collect_seq(elements.into_iter().map(Json))
            }
            Some(b'"') => serializer.serialize_str(&read::<String, _>(text)?),
            Some(b't' | b'f') => serializer.serialize_bool(read(text)?),
            Some(b'n') => serializer.serialize_unit(),
            _ => match text.parse::<i128>() {
                Ok(whole) => serializer.serialize_i128(whole),
                Err(_) => serializer.serialize_f64(read(text)?),
            },
        }
    }
}

fn read<'t, T: Deserialize<'t>, E: serde::ser::Error>(text: &'t str) -> Result<T, E> {
    of_endpoint(text).map_err(E::custom)
}

/// A YAML list with one element.
///
/// # Errors
/// The text is not JSON.
pub(super) fn element(json: &RawValue) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&[Json(json)])?)
}

/// A YAML document.
///
/// # Errors
/// The text is not JSON.
pub(super) fn document(json: &RawValue) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&Json(json))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_yaml() {
        let json = r#"{"id":7,"price":12.5,"failure":null,"text":"a: \u001b[31m","ok":true,"items":[{"n":9007199254740993}],"$serde_json::private::RawValue":"[[1]]"}"#;
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let yaml = document(&raw).unwrap();
        let back: serde_json::Map<String, serde_json::Value> =
            serde_saphyr::from_str(&yaml.replace("$serde_json::private::", "")).unwrap();
        assert_eq!(back["id"], 7);
        assert_eq!(back["price"], 12.5);
        assert_eq!(back["text"], "a: \u{1b}[31m");
        assert_eq!(back["items"][0]["n"], 9_007_199_254_740_993_i64);
        assert_eq!(back["RawValue"], "[[1]]", "{yaml}");
        assert!(!yaml.contains('\u{1b}'), "{yaml:?}");
        let element = element(&raw).unwrap();
        assert!(element.starts_with("- id: 7\n"), "{element}");
    }
}
