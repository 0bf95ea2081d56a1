//! Signatures according to the Standard Webhooks specification:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! The signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. With several
//! secrets there is one signature for each, separated by spaces, so that receivers may know either secret while it is
//! rotated.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use holdfast_telemetry::settings::MustBe;
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The sizes that the specification allows, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The maximum number of secrets. Each makes the header longer.
const SECRETS_MAX: usize = 5;

/// The secrets that sign each request. They are never shown.
#[derive(Clone)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} of them)", self.0.len())
    }
}

impl FromStr for Secrets {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let secrets: Option<Vec<_>> = text.split_ascii_whitespace().map(keyed).collect();
        secrets
            .filter(|secrets| (1..=SECRETS_MAX).contains(&secrets.len()))
            .map(Self)
            .ok_or_else(|| {
                MustBe::new(
                    "must be one to five secrets separated by spaces, each whsec_ and the base64 of \
                     24 to 64 random bytes, such as: printf 'whsec_%s' \"$(openssl rand -base64 32)\"",
                )
            })
    }
}

fn keyed(secret: &str) -> Option<Hmac<Sha256>> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    // HMAC takes keys of any length.
    Hmac::new_from_slice(&key).ok().filter(|_| SECRET_BYTES.contains(&key.len()))
}

impl Secrets {
    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut header = String::with_capacity(48 * self.0.len());
        for keyed in &self.0 {
            let mut mac = keyed.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn the_example_of_the_specification_has_the_same_signature() {
        let secrets: Secrets = SECRET.parse().unwrap();
        assert_eq!(
            secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn each_secret_signs() {
        let signature = |secrets: &str| secrets.parse::<Secrets>().unwrap().sign("a", 1, b"b");
        let both = signature(&format!("{SECRET} {OTHER}"));
        assert_eq!(both, format!("{} {}", signature(SECRET), signature(OTHER)));
        assert_ne!(signature(SECRET), signature(OTHER));
    }

    #[test]
    fn an_invalid_secret_is_refused() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        let many = [SECRET; 6].join(" ");
        for wrong in ["", " ", "hunter2", "whsec_", "whsec_!", &SECRET[6..], &short, &long, &many] {
            assert!(wrong.parse::<Secrets>().is_err(), "{wrong}");
        }
        let mixed = format!("{SECRET} hunter2");
        assert!(!mixed.parse::<Secrets>().unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SECRET.parse::<Secrets>().unwrap()), "Secrets(1 of them)");
    }
}
