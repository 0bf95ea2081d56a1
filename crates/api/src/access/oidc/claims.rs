//! The claims of a token, after its signature has been verified (RFC 7519, section 4).

use std::{collections::HashSet, fmt};

use holdfast_domain::json;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};

/// The tolerated difference between clocks, in seconds.
const LEEWAY: f64 = 30.0;

/// The claims with another meaning, which cannot name a customer.
const NO_CUSTOMERS: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "scope", "scp"];

/// Whether a claim can name the customer of a token. Otherwise no token would be valid.
pub fn can_name_customers(claim: &str) -> bool {
    !claim.trim().is_empty() && !NO_CUSTOMERS.contains(&claim)
}

/// The claims that are used.
#[derive(Debug, Default)]
pub struct Claims {
    issuer: Option<String>,
    audience: Option<OneOrMany>,
    subject: Option<String>,
    expires: Option<f64>,
    not_before: Option<f64>,
    scope: Option<String>,
    scp: Option<OneOrMany>,
    customer: Option<String>,
}

/// Issuers write lists in different ways.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many): (Option<&String>, &[String]) = match self {
            Self::One(one) => (Some(one), &[]),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many).map(String::as_str)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    /// The claim that names the customer.
    pub customer_claim: Option<&'a str>,
    /// The time, in seconds since 1970.
    pub now: f64,
}

impl Claims {
    /// Reads and checks the claims; `None` if they are not valid.
    pub fn read(text: &[u8], expected: Expected<'_>) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        if json::check(text).ok()?.reserved_key {
            return None;
        }
        let claims = ClaimsSeed { customer_claim: expected.customer_claim };
        let claims = claims.deserialize(&mut serde_json::Deserializer::from_str(text)).ok()?;
        let good = claims.issuer.as_deref() == Some(expected.issuer)
            && claims.audience.as_ref()?.iter().any(|audience| audience == expected.audience)
            && claims.subject.is_some()
            && expected.now < claims.expires? + LEEWAY
            && claims.not_before.is_none_or(|from| from <= expected.now + LEEWAY);
        good.then_some(claims)
    }

    /// The subject of the token.
    pub fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or_default()
    }

    /// The customer in the claim that the settings name.
    pub fn customer(&self) -> Option<&str> {
        self.customer.as_deref()
    }

    /// The words of `scope` (RFC 8693, section 4.2), or else of `scp`.
    pub fn scopes(&self) -> Vec<&str> {
        match (&self.scope, &self.scp) {
            (Some(words), _) => words.split(' ').collect(),
            (None, Some(words)) => words.iter().flat_map(|word| word.split(' ')).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// The time of expiry, in seconds since 1970.
    pub fn until(&self) -> f64 {
        self.expires.map_or(0.0, |expires| expires + LEEWAY)
    }
}

struct ClaimsSeed<'a> {
    customer_claim: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for ClaimsSeed<'_> {
    type Value = Claims;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Claims, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ClaimsSeed<'_> {
    type Value = Claims;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Claims::default();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "iss" => claims.issuer = Some(map.next_value()?),
                "aud" => claims.audience = Some(map.next_value()?),
                "sub" => claims.subject = Some(map.next_value()?),
                // Times are numbers that may have a fraction (RFC 7519, section 2).
                "exp" => claims.expires = Some(map.next_value()?),
                "nbf" => claims.not_before = Some(map.next_value()?),
                "iat" => {
                    map.next_value::<f64>()?;
                }
                "scope" => claims.scope = map.next_value()?,
                "scp" => claims.scp = map.next_value()?,
                other if Some(other) == self.customer_claim => {
                    claims.customer = Some(map.next_value()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            // Names must be unique (RFC 7519, section 4).
            if !seen.insert(name) {
                return Err(A::Error::custom("duplicate name"));
            }
        }
        if self.customer_claim == Some("sub") {
            claims.customer.clone_from(&claims.subject);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 1_800_000_000.0;

    fn good(json: &str, customer_claim: Option<&str>) -> bool {
        let expected = Expected { issuer: "https://i", audience: "shop", customer_claim, now: NOW };
        Claims::read(json.as_bytes(), expected).is_some()
    }

    /// One line for each rule: the additional claims, whether the token is accepted, and the source.
    #[test]
    fn claims_are_checked_according_to_the_standards() {
        let all = r#""iss":"https://i","aud":"shop","sub":"ada","exp":1800000060"#;
        for (claims, taken, reference) in [
            (all.to_owned(), true, "RFC 7519, 4.1"),
            (all.replace(r#""shop""#, r#"["other","shop"]"#), true, "RFC 7519, 4.1.3"),
            (all.replace(r#""shop""#, r#"["other"]"#), false, "RFC 7519, 4.1.3"),
            (all.replace(r#""shop""#, "[]"), false, "RFC 7519, 4.1.3"),
            (all.replace(r#""shop""#, r#"["shop",7]"#), false, "RFC 7519, 4.1.3"),
            (all.replace(r#""shop""#, r#"{"shop":1}"#), false, "RFC 7519, 4.1.3"),
            (all.replace(r#""shop""#, r#""shop2""#), false, "RFC 7519, 4.1.3"),
            (all.replace(r#""aud":"shop","#, ""), false, "RFC 7519, 4.1.3"),
            (all.replace("https://i", "https://i/"), false, "RFC 7519, 4.1.1: compared exactly"),
            (all.replace(r#""https://i""#, r#"["https://i"]"#), false, "RFC 7519, 4.1.1"),
            (all.replace(r#""iss":"https://i","#, ""), false, "RFC 7519, 4.1.1"),
            (all.replace(r#""sub":"ada","#, ""), false, "RFC 9068, 2.2"),
            (all.replace(r#""ada""#, "7"), false, "RFC 7519, 4.1.2"),
            (all.replace("1800000060", "1800000060.5"), true, "RFC 7519, 2: NumericDate"),
            (all.replace("1800000060", "1.80000006e9"), true, "RFC 7519, 2: NumericDate"),
            (all.replace("1800000060", "18446744073709551616"), true, "RFC 7519, 2: any number"),
            (all.replace("1800000060", "1e300"), true, "RFC 7519, 2: any number"),
            (all.replace("1800000060", "1e999"), false, "RFC 8259, 6: out of range"),
            (all.replace("1800000060", "1799999980"), true, "RFC 7519, 4.1.4: some leeway"),
            (all.replace("1800000060", "1799999970"), false, "RFC 7519, 4.1.4"),
            (all.replace("1800000060", "0"), false, "RFC 7519, 4.1.4"),
            (all.replace("1800000060", "-1"), false, "RFC 7519, 4.1.4"),
            (all.replace("1800000060", r#""1800000060""#), false, "RFC 7519, 4.1.4"),
            (all.replace("1800000060", "null"), false, "RFC 7519, 4.1.4"),
            (all.replace(r#","exp":1800000060"#, ""), false, "RFC 9068, 2.2"),
            (format!(r#"{all},"nbf":1800000030"#), true, "RFC 7519, 4.1.5: some leeway"),
            (format!(r#"{all},"nbf":1800000030.5"#), false, "RFC 7519, 4.1.5"),
            (format!(r#"{all},"nbf":1e300"#), false, "RFC 7519, 4.1.5"),
            (format!(r#"{all},"nbf":-1e300"#), true, "RFC 7519, 4.1.5"),
            (format!(r#"{all},"nbf":"soon""#), false, "RFC 7519, 4.1.5"),
            (format!(r#"{all},"iat":1800000000.25"#), true, "RFC 7519, 4.1.6"),
            (format!(r#"{all},"iat":"now""#), false, "RFC 7519, 4.1.6"),
            (format!(r#"{all},"sub":"bob""#), false, "RFC 7519, 4"),
            (format!(r#"{all},"\u0073ub":"bob""#), false, "RFC 7519, 4"),
            (format!(r#"{all},"x":{{"y":[1,2]}}"#), true, "RFC 7519, 4"),
        ] {
            assert_eq!(good(&format!("{{{claims}}}"), None), taken, "{claims}: {reference}");
        }
        for json in ["", "[]", "null", &format!("{{{all}}} x")] {
            assert!(!good(json, None), "{json}: RFC 7519, 7.2");
        }
    }

    #[test]
    fn a_claim_with_another_meaning_cannot_name_customers() {
        for claim in ["iss", "aud", "exp", "nbf", "iat", "scope", "scp", "", " "] {
            assert!(!can_name_customers(claim), "{claim:?}");
        }
        for claim in ["sub", "customer", "https://shop.test/customer"] {
            assert!(can_name_customers(claim), "{claim}");
        }
    }

    #[test]
    fn the_customer_is_a_string_in_any_position() {
        let read = |claims: &str, claim| {
            let json = format!(
                r#"{{"iss":"https://i","aud":"shop","sub":"ada","exp":1800000060,{claims}"x":1}}"#
            );
            let expected =
                Expected { issuer: "https://i", audience: "shop", customer_claim: claim, now: NOW };
            Claims::read(json.as_bytes(), expected)?.customer().map(ToOwned::to_owned)
        };
        assert_eq!(read("", Some("sub")).as_deref(), Some("ada"));
        assert_eq!(read(r#""customer":"bob","#, Some("customer")).as_deref(), Some("bob"));
        assert_eq!(read("", Some("customer")), None);
        assert_eq!(read(r#""customer":7,"#, Some("customer")), None);
        assert_eq!(read(r#""customer":"bob","#, None), None);
    }
}
