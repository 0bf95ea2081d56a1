//! The strict parser of a token in its compact form (RFC 7515, section 7.1).
//!
//! It does not use `serde_json::Value`, because the bytes are untrusted.

use std::{collections::HashSet, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_domain::json;
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};

/// The size limit of a token, in bytes.
const BYTES_MAX: usize = 8 * 1024;
/// The accepted types (RFC 7515, section 4.1.9; RFC 9068, section 2.1). A token of another type has another purpose
/// (RFC 8725, section 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token whose signature has not been verified.
#[derive(Debug)]
pub struct Token<'a> {
    /// The algorithm in the header, which must be that of the key.
    pub algorithm: Algorithm,
    /// The id of the key in the header.
    pub key_id: String,
    /// The signed bytes.
    pub message: &'a [u8],
    /// The signature, as base64url.
    pub signature: &'a str,
    claims: &'a str,
}

impl<'a> Token<'a> {
    /// Parses a token; `None` if it cannot be valid.
    pub fn read(text: &'a str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        // Five parts are an encrypted token (RFC 7516).
        if claims.contains('.') {
            return None;
        }
        let header: Header = json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        Some(Self {
            algorithm: header.algorithm.parse().ok()?,
            key_id: header.key_id?,
            message: message.as_bytes(),
            signature,
            claims,
        })
    }

    /// The claims as JSON. Use them only after the signature has been verified.
    pub fn claims(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.claims).ok()
    }
}

struct Header {
    algorithm: String,
    key_id: Option<String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut seen = HashSet::new();
        let (mut algorithm, mut key_id) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "alg" => algorithm = Some(map.next_value()?),
                "kid" => key_id = Some(map.next_value()?),
                "typ" => {
                    let given = map.next_value::<String>()?.to_ascii_lowercase();
                    let short = given.strip_prefix("application/").unwrap_or(&given);
                    if !TYPES.contains(&short) {
                        return Err(A::Error::custom("unexpected type of token"));
                    }
                }
                // Unsupported: critical extensions (RFC 7515, section 4.1.11), unencoded payloads (RFC 7797, section 7),
                // encryption and compression (RFC 7516).
                "crit" | "b64" | "enc" | "zip" => {
                    return Err(A::Error::custom("unsupported extension"));
                }
                // Keys within the token are never used (RFC 8725, section 3.10).
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            // Names must be unique (RFC 7515, section 4).
            if !seen.insert(name) {
                return Err(A::Error::custom("duplicate name"));
            }
        }
        let algorithm = algorithm.ok_or_else(|| A::Error::missing_field("alg"))?;
        Ok(Header { algorithm, key_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"))
    }

    /// One line for each rule: the header, whether the token is accepted, and the source.
    #[test]
    fn a_header_is_parsed_according_to_the_standards() {
        for (header, good, reference) in [
            (r#"{"alg":"ES256","kid":"a"}"#, true, "RFC 7515, 4.1"),
            (r#"{"alg":"ES256","kid":"a","typ":"JWT"}"#, true, "RFC 7519, 5.1"),
            (r#"{"alg":"ES256","kid":"a","typ":"at+jwt"}"#, true, "RFC 9068, 2.1"),
            (r#"{"alg":"ES256","kid":"a","typ":"application/at+JWT"}"#, true, "RFC 7515, 4.1.9"),
            (r#"{"alg":"ES256","kid":"a","new":{"x":[1]}}"#, true, "RFC 7515, 4"),
            (r#"{"alg":"ES256","kid":"a","jwk":{"kty":"oct"}}"#, true, "RFC 8725, 3.10"),
            (r#"{"alg":"ES256","kid":"a","typ":"logout+jwt"}"#, false, "RFC 8725, 3.11"),
            (r#"{"alg":"ES256","kid":"a","typ":7}"#, false, "RFC 7515, 4.1.9"),
            (r#"{"alg":"ES256","kid":"a","crit":["exp"],"exp":1}"#, false, "RFC 7515, 4.1.11"),
            (r#"{"alg":"ES256","kid":"a","crit":[]}"#, false, "RFC 7515, 4.1.11"),
            (r#"{"alg":"ES256","kid":"a","crit":null}"#, false, "RFC 7515, 4.1.11"),
            (r#"{"alg":"ES256","kid":"a","b64":false,"crit":["b64"]}"#, false, "RFC 7797, 7"),
            (r#"{"alg":"ES256","kid":"a","b64":false}"#, false, "RFC 7797, 6"),
            (r#"{"alg":"ES256","kid":"a","enc":"A128GCM"}"#, false, "RFC 7516, 9"),
            (r#"{"alg":"ES256","kid":"a","zip":"DEF"}"#, false, "RFC 8725, 3.6"),
            (r#"{"alg":"none","kid":"a"}"#, false, "RFC 8725, 3.2"),
            (r#"{"alg":"None","kid":"a"}"#, false, "RFC 7515, 4.1.1"),
            (r#"{"alg":"es256","kid":"a"}"#, false, "RFC 7515, 4.1.1"),
            (r#"{"alg":["ES256"],"kid":"a"}"#, false, "RFC 7515, 4.1.1"),
            (r#"{"kid":"a"}"#, false, "RFC 7515, 4.1.1"),
            (r#"{"alg":"ES256"}"#, false, "RFC 7517, 4.5: the key is not guessed"),
            (r#"{"alg":"ES256","kid":7}"#, false, "RFC 7515, 4.1.4"),
            (r#"{"alg":"ES256","alg":"RS256","kid":"a"}"#, false, "RFC 7515, 4"),
            (r#"{"alg":"ES256","kid":"a","kid":"b"}"#, false, "RFC 7515, 4"),
            (r#"{"alg":"ES256","kid":"a","x":1,"x":1}"#, false, "RFC 7515, 4"),
            (r#"{"alg":"ES256","kid":"a","\u0061lg":"RS256"}"#, false, "RFC 7515, 5.3"),
            (r#"{"alg":"ES256","kid":"a"} x"#, false, "RFC 7515, 4"),
            (r#"["ES256"]"#, false, "RFC 7515, 4"),
        ] {
            assert_eq!(Token::read(&token(header)).is_some(), good, "{header}: {reference}");
        }
    }

    #[test]
    fn the_compact_form_is_parsed_according_to_the_standards() {
        let good = token(r#"{"alg":"ES256","kid":"a"}"#);
        let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
        assert!(Token::read(&good).is_some());
        let huge = format!("{header}.{}.{signature}", "A".repeat(8192));
        for (text, reference) in [
            (format!("{header}.{claims}"), "RFC 7515, 7.1"),
            (format!("{good}.x"), "RFC 7515, 7.1"),
            (format!("{header}.k.iv.text.tag"), "RFC 7516, 7.1"),
            (format!("{header}=.{claims}.{signature}"), "RFC 7515, 2: no padding"),
            (format!("{header} .{claims}.{signature}"), "RFC 7515, 2: no white space"),
            (format!("+{header}.{claims}.{signature}"), "RFC 7515, 2: base64url"),
            (String::new(), "RFC 7515, 7.1"),
            ("..".to_owned(), "RFC 7515, 7.1"),
            (huge, "longer than the limit"),
        ] {
            assert!(Token::read(&text).is_none(), "{text}: {reference}");
        }
    }

    #[test]
    fn a_deep_header_or_json_in_a_string_does_no_harm() {
        let deep =
            format!(r#"{{"alg":"ES256","kid":"a","x":{}{}}}"#, "[".repeat(2500), "]".repeat(2500));
        assert!(Token::read(&token(&deep)).is_none());
        let inner = "[".repeat(5000);
        let hidden = format!(
            r#"{{"alg":"ES256","kid":"a","x":{{"$serde_json::private::RawValue":"{inner}"}}}}"#
        );
        assert!(Token::read(&token(&hidden)).is_none());
    }
}
