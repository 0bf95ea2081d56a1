//! API keys: `hf_<id>_<secret>`.
//!
//! The id is public: it identifies the key in lists and logs. The secret has 256 random bits and is shown once, when the
//! key is created. The database stores its SHA-256. With so much entropy, a slow hash would add no protection.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};

/// The prefix of keys, so that secret scanners find a leaked key.
pub const PREFIX: &str = "hf_";
/// The length of an id.
pub const ID_CHARS: usize = 12;

/// The characters of an id, without characters that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const SECRET_BYTES: usize = 32;
/// The length of a secret in base64url.
const SECRET_CHARS: usize = 43;

/// A key in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'t> {
    /// The public part.
    pub id: &'t str,
    /// The SHA-256 of the secret part.
    pub hash: [u8; 32],
}

/// A new key.
pub struct Minted {
    /// The public part.
    pub id: String,
    /// The whole key, which is shown once and not stored.
    pub text: String,
    /// The hash that is stored.
    pub hash: [u8; 32],
}

/// Parses a key; `None` if it is invalid.
pub fn read(text: &str) -> Option<Presented<'_>> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let good = id.len() == ID_CHARS
        && id.bytes().all(|byte| ALPHABET.contains(&byte))
        && secret.len() == SECRET_CHARS;
    good.then(|| Presented { id, hash: Sha256::digest(secret).into() })
}

/// Creates a key.
pub fn mint() -> Minted {
    let mut random = [0; ID_CHARS + SECRET_BYTES];
    // A cryptographically secure generator, which the operating system seeds.
    rand::rng().fill_bytes(&mut random);
    let (id, secret) = random.split_at(ID_CHARS);
    let id: String = id.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let hash = Sha256::digest(&secret).into();
    Minted { text: format!("{PREFIX}{id}_{secret}"), id, hash }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Presented").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Minted").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_as_they_were_created_and_are_unique() {
        let (one, other) = (mint(), mint());
        for key in [&one, &other] {
            assert_eq!(read(&key.text), Some(Presented { id: &key.id, hash: key.hash }));
        }
        assert_ne!(one.id, other.id);
        assert_ne!(one.hash, other.hash);
    }

    #[test]
    fn another_secret_has_another_hash() {
        let key = mint();
        let last = if key.text.ends_with('A') { "B" } else { "A" };
        let changed = format!("{}{last}", &key.text[..key.text.len() - 1]);
        assert_ne!(read(&changed).unwrap().hash, key.hash);
    }

    #[test]
    fn invalid_keys_are_rejected() {
        let key = mint().text;
        for text in [
            "",
            "hf_",
            "hf__",
            "xx",
            &key[1..],
            &key[..key.len() - 1],
            &format!("{key}A"),
            &key.to_uppercase(),
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = mint();
        let secret = key.text.rsplit_once(&key.id).unwrap().1;
        assert!(!format!("{key:?} {:?}", read(&key.text)).contains(secret));
    }
}
