//! The text of a JSON body, before its fields are read.

use std::borrow::Cow;

use crate::problem::Problem;

/// The deepest nesting of arrays and objects, including the body itself.
pub const MAX_DEPTH: usize = holdfast_domain::json::JSON_DEPTH_MAX;

/// A body in UTF-8 that begins as an object and is not nested too deeply. It may still be invalid JSON.
#[derive(Debug)]
pub struct JsonText<'b> {
    text: Cow<'b, str>,
    not_json: bool,
}

impl<'b> JsonText<'b> {
    /// Checks a body in one pass.
    ///
    /// # Errors
    /// The body is empty, not UTF-8, not an object, or nested too deeply.
    pub fn check(body: &'b [u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(body)
            .map_err(|_| Problem::body("must be JSON, encoded as UTF-8"))?;
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => {}
            // A byte order mark.
            Some(_) if text.starts_with('\u{FEFF}') => {
                return Err(Problem::body("must not begin with a byte order mark (U+FEFF)"));
            }
            Some(_) => return Err(Problem::body("must be a JSON object")),
            None => return Err(Problem::body("must not be empty")),
        }
        let seen = scan(body);
        if seen.depth > MAX_DEPTH {
            return Err(Problem::body(format!(
                "must not be nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let text = if seen.not_json_number { repair(text).into() } else { text.into() };
        Ok(Self { text, not_json: seen.not_json_number })
    }

    /// The text. `NaN` and `Infinity`, which JSON modules such as Python's write, are replaced by an empty object. No field
    /// of ours accepts an object there, so the error names the field, and the other fields are still checked.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `NaN` or `Infinity` was replaced. The body is not valid JSON then, even if no known field contains it.
    pub fn is_not_json(&self) -> bool {
        self.not_json
    }
}

struct ScanResult {
    depth: usize,
    not_json_number: bool,
}

/// One pass without recursion, so that deep nesting cannot overflow the stack.
fn scan(body: &[u8]) -> ScanResult {
    let mut depth = 0_usize;
    let mut seen = ScanResult { depth: 0, not_json_number: false };
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                seen.depth = seen.depth.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            // Outside of strings, the only capital letter of JSON is the E of an exponent.
            b'N' | b'I' => seen.not_json_number = true,
            _ => {}
        }
    }
    seen
}

/// Moves past the closing quote of a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, here) = rest.split_at(at);
        repaired.push_str(before);
        let length = if here.starts_with('"') {
            let mut bytes = here.as_bytes()[1..].iter();
            skip_string(&mut bytes);
            let length = here.len() - bytes.as_slice().len();
            repaired.push_str(&here[..length]);
            length
        } else if let Some(word) =
            ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| here.starts_with(word))
        {
            repaired.push_str("{}");
            word.len()
        } else {
            repaired.push_str(&here[..1]);
            1
        };
        rest = &here[length..];
    }
    repaired.push_str(rest);
    repaired
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_counts_only_brackets_outside_of_strings() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(JsonText::check(nested(63).as_bytes()).is_ok());
        assert!(JsonText::check(nested(64).as_bytes()).is_err());
        assert!(JsonText::check(nested(10_000).as_bytes()).is_err());
        let quoted = format!("{{\"a\":\"{}\\\"{}\"}}", "[".repeat(100), "{".repeat(100));
        assert!(JsonText::check(quoted.as_bytes()).is_ok());
        let wide = format!("{{\"a\":[{}]}}", vec!["[]"; 1000].join(","));
        assert!(JsonText::check(wide.as_bytes()).is_ok());
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in ["", "  ", "[]", "null", "7", "\"x\"", "hello", "\u{feff}{}"] {
            assert!(JsonText::check(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(JsonText::check(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn nan_and_infinity_are_replaced_outside_of_strings() {
        let body = r#"{"a":NaN,"b":[-Infinity,-1,Infinity],"NaN":"Infinity \" NaN","c":-2}"#;
        let text = JsonText::check(body.as_bytes()).unwrap();
        assert!(text.is_not_json());
        assert_eq!(text.text(), r#"{"a":{},"b":[{},-1,{}],"NaN":"Infinity \" NaN","c":-2}"#);
    }

    proptest! {
        #[test]
        fn valid_json_is_not_changed(name in ".{0,40}", number in any::<f64>()) {
            let body = serde_json::json!({ "name": name, "n": [number] }).to_string();
            let text = JsonText::check(body.as_bytes()).unwrap();
            prop_assert!(!text.is_not_json());
            prop_assert_eq!(text.text(), &body);
        }

        #[test]
        fn any_bytes_are_checked_without_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = JsonText::check(&body);
        }

        #[test]
        fn any_text_like_json_is_repaired_without_panic(body in r#"\{["NI\\naityf{}\[\]:, 0-9é-]{0,40}"#) {
            let _ = JsonText::check(body.as_bytes());
        }
    }
}
