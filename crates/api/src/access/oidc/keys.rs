//! The keys of an issuer: which of them are used, for which algorithm and for how long.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_domain::json::{self, JsonError};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

/// The most keys of one document.
const KEYS_MAX: usize = 64;
/// The shortest RSA key that is accepted, in bits (RFC 7518, section 3.3).
const RSA_BITS_MIN: usize = 2048;
/// How long the last keys stay valid while no new ones can be fetched: the issuer is not available, or its document is
/// broken or has no usable key.
pub const KEPT_FOR: Duration = Duration::from_hours(24);

pub struct IssuerKey {
    pub key: DecodingKey,
    /// The only algorithm of the key (RFC 8725, section 3.1).
    pub algorithm: Algorithm,
    /// The published form, to distinguish keys with the same id.
    jwk: Jwk,
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IssuerKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Keys by their ids. Several keys may have the same id (RFC 7517, section 4.5).
#[derive(Debug, Default)]
pub struct KeySet(HashMap<String, Vec<Arc<IssuerKey>>>);

#[derive(Deserialize)]
struct KeySetDocument<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// The keys of a document for these algorithms. Unknown kinds of keys are ignored (RFC 7517, section 5).
    ///
    /// # Errors
    /// The document is not a JWK set.
    pub fn read(text: &[u8], allowed: &[Algorithm]) -> Result<Self, JsonError> {
        let document: KeySetDocument<'_> = json::from_slice(text)?;
        let mut set = Self::default();
        for raw in document.keys.into_iter().take(KEYS_MAX) {
            let Ok(jwk) = json::from_str::<Jwk>(raw.get()) else { continue };
            let Some(id) = jwk.common.key_id.clone() else { continue };
            let Some(algorithm) = only_algorithm(&jwk, allowed) else { continue };
            let Ok(key) = DecodingKey::from_jwk(&jwk) else { continue };
            set.0.entry(id).or_default().push(Arc::new(IssuerKey { key, algorithm, jwk }));
        }
        Ok(set)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub fn named(&self, id: &str) -> &[Arc<IssuerKey>] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    fn has(&self, id: &str, key: &IssuerKey) -> bool {
        self.named(id).iter().any(|other| other.jwk == key.jwk)
    }

    /// Whether the set contains all keys of `other`.
    fn has_all(&self, other: &Self) -> bool {
        other.0.iter().all(|(id, keys)| keys.iter().all(|key| self.has(id, key)))
    }

    /// Keeps the instances of `older` for keys that have not changed, so that they are still the same.
    fn inherit(&mut self, older: &Self) {
        for (id, keys) in &mut self.0 {
            for key in keys {
                if let Some(same) = older.named(id).iter().find(|other| other.jwk == key.jwk) {
                    *key = Arc::clone(same);
                }
            }
        }
    }
}

/// The algorithm of a key; `None` if it is not for signatures, is too weak, or is for other algorithms.
fn only_algorithm(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Algorithm> {
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    if common.key_operations.as_ref().is_some_and(|given| !given.contains(&KeyOperations::Verify)) {
        return None;
    }
    let named = match common.key_algorithm {
        None => None,
        Some(named) => Some(Algorithm::try_from(named).ok()?),
    };
    let of_kind: Vec<Algorithm> = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if bits(&rsa.n)? >= RSA_BITS_MIN => {
            // A key without an algorithm is for the first one of the settings.
            allowed.iter().copied().filter(|algorithm| is_rsa(*algorithm)).collect()
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // This includes shared secrets.
        _ => return None,
    };
    let only = match named {
        Some(named) => of_kind.into_iter().find(|algorithm| *algorithm == named),
        None => of_kind.first().copied(),
    };
    only.filter(|only| allowed.contains(only))
}

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
}

fn bits(number: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(number).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let high = bytes.get(first)?;
    Some((bytes.len() - first) * 8 - high.leading_zeros() as usize)
}

/// The valid keys.
#[derive(Debug, Default)]
pub struct GoodKeys(RwLock<Option<(Arc<KeySet>, Instant)>>);

impl GoodKeys {
    /// Replaces the keys by new ones, of which there is at least one. Returns whether an old key was removed.
    pub fn replace(&self, mut keys: KeySet) -> bool {
        let mut good = self.0.write();
        let older = good.take().map(|(older, _)| older);
        if let Some(older) = &older {
            keys.inherit(older);
        }
        let gone = older.is_some_and(|older| !keys.has_all(&older));
        *good = Some((Arc::new(keys), Instant::now()));
        gone
    }

    /// The keys; `None` if there were never any, or if the last ones are too old.
    pub fn now(&self) -> Option<Arc<KeySet>> {
        let good = self.0.read();
        let (keys, had) = good.as_ref()?;
        (had.elapsed() < KEPT_FOR).then(|| Arc::clone(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 5] =
        [Algorithm::PS256, Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    const POINT: &str = r#""x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;

    fn read(keys: &str) -> KeySet {
        KeySet::read(format!(r#"{{"keys":[{keys}]}}"#).as_bytes(), &ALL).unwrap()
    }

    fn rsa(bytes: usize, more: &str) -> String {
        let modulus = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        format!(r#"{{"kty":"RSA","kid":"a","n":"{modulus}","e":"AQAB"{more}}}"#)
    }

    fn ec(more: &str) -> String {
        format!(r#"{{"kty":"EC","kid":"a","crv":"P-256",{POINT}{more}}}"#)
    }

    /// One line for each rule: the key, its algorithm, and the source.
    #[test]
    fn each_key_is_for_at_most_one_algorithm() {
        use Algorithm::{ES256, EdDSA, PS256, RS256};
        let okp = format!(r#"{{"kty":"OKP","kid":"a","crv":"Ed25519",{POINT}}}"#);
        for (key, algorithm, reference) in [
            (ec(""), Some(ES256), "RFC 7518, 3.4"),
            (ec(r#","use":"sig","alg":"ES256""#), Some(ES256), "RFC 7517, 4.2 and 4.4"),
            (ec(r#","key_ops":["verify"]"#), Some(ES256), "RFC 7517, 4.3"),
            (ec(r#","use":"sig","key_ops":["verify","sign"]"#), Some(ES256), "RFC 7517, 4.3"),
            (okp, Some(EdDSA), "RFC 8037, 3.1"),
            (rsa(256, ""), Some(PS256), "RFC 8725, 3.1: the first of the settings"),
            (rsa(256, r#","alg":"RS256""#), Some(RS256), "RFC 7517, 4.4"),
            (ec(r#","use":"enc""#), None, "RFC 7517, 4.2"),
            (ec(r#","key_ops":["encrypt"]"#), None, "RFC 7517, 4.3"),
            (ec(r#","key_ops":[]"#), None, "RFC 7517, 4.3"),
            (ec(r#","use":"sig","key_ops":["encrypt"]"#), None, "RFC 7517, 4.3: they must agree"),
            (ec(r#","alg":"ES384""#), None, "RFC 7518, 3.4: another curve"),
            (ec(r#","alg":"RS256""#), None, "RFC 8725, 3.1"),
            (ec(r#","alg":"HS256""#), None, "RFC 8725, 2.1"),
            (ec(r#","alg":"ECDH-ES""#), None, "RFC 7517, 4.4"),
            (ec("").replace("P-256", "P-521"), None, "an unsupported algorithm"),
            (ec("").replace("P-256", "secp256k1"), None, "RFC 7517, 5"),
            (ec("").replace(r#""kid":"a","#, ""), None, "RFC 7517, 4.5: the key is not guessed"),
            (rsa(255, ""), None, "RFC 7518, 3.3: at least 2048 bits"),
            (rsa(128, r#","alg":"RS256""#), None, "RFC 7518, 3.3"),
            (rsa(256, r#","alg":"RS512""#), None, "RFC 8725, 3.1: not among the settings"),
            (
                r#"{"kty":"oct","kid":"a","k":"AQAB","alg":"HS256"}"#.to_owned(),
                None,
                "RFC 8725, 2.1",
            ),
            (r#"{"kty":"oct","kid":"a","k":"AQAB"}"#.to_owned(), None, "RFC 8725, 2.1"),
            (r#"{"kty":"new","kid":"a"}"#.to_owned(), None, "RFC 7517, 5"),
            (r#"{"kid":"a"}"#.to_owned(), None, "RFC 7517, 4.1"),
            ("7".to_owned(), None, "RFC 7517, 5"),
        ] {
            // Unknown keys do not affect the others.
            let set = read(&format!("{key},{}", ec("").replace(r#""a""#, r#""b""#)));
            let found: Vec<_> = set.named("a").iter().map(|key| key.algorithm).collect();
            assert_eq!(found, Vec::from_iter(algorithm), "{key}: {reference}");
            assert_eq!(set.named("b").len(), 1, "{key}");
        }
    }

    #[test]
    fn a_document_without_a_key_set_is_an_error_and_an_empty_set_has_no_key() {
        for json in ["", "[]", "{}", r#"{"keys":7}"#, r#"{"keys":null}"#, "<html>"] {
            assert!(KeySet::read(json.as_bytes(), &ALL).is_err(), "{json}");
        }
        assert!(read("").is_empty());
        assert!(read(&rsa(128, "")).is_empty());
    }

    #[test]
    fn two_keys_with_one_id_are_both_kept_up_to_the_limit() {
        let two = format!("{},{}", ec(""), rsa(256, ""));
        assert_eq!(read(&two).named("a").len(), 2);
        assert_eq!(read(&vec![ec(""); 1000].join(",")).len(), KEYS_MAX);
    }

    #[test]
    fn keys_are_equal_only_if_all_their_parts_are() {
        let good = GoodKeys::default();
        assert!(!good.replace(read(&ec(""))));
        let before = Arc::clone(&good.now().unwrap().named("a")[0]);
        assert!(!good.replace(read(&format!("{},{}", rsa(256, ""), ec("")))), "one came");
        let after = good.now().unwrap();
        assert!(after.named("a").iter().any(|key| Arc::ptr_eq(key, &before)));
        // Another key gets its id.
        assert!(good.replace(read(&rsa(256, ""))));
        let after = good.now().unwrap();
        assert!(!after.named("a").iter().any(|key| Arc::ptr_eq(key, &before)));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_valid_for_a_limited_time_after_the_last_answer_of_the_issuer() {
        let good = GoodKeys::default();
        assert!(good.now().is_none());
        let almost = Duration::from_secs(KEPT_FOR.as_secs() - 1);
        good.replace(read(&ec("")));
        tokio::time::advance(almost).await;
        assert!(good.now().is_some());
        good.replace(read(&ec("")));
        tokio::time::advance(almost).await;
        assert!(good.now().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(good.now().is_none());
    }
}
