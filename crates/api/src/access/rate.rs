//! How many requests a caller may send in a second.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
pub use holdfast_throttle::Allowance;
use holdfast_throttle::{Throttle, ThrottleError, ThrottleSettings};

use super::Caller;
use crate::problem::{Problem, ProblemKind};

/// `RateLimit` and `RateLimit-Policy`, as in
/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many requests a caller may send.
#[derive(Clone, Debug)]
pub struct RateSettings {
    /// Requests per second, unless the key has its own limit; `None`: no limit.
    pub per_second: Option<u32>,
    /// Where the counts of all replicas are added up.
    pub throttle: ThrottleSettings,
}

/// Counts requests by caller.
pub struct Rates {
    per_second: Option<u32>,
    throttle: Throttle,
}

impl Rates {
    /// Begins to count, for as long as the runtime lives.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn start(settings: &RateSettings) -> Result<Self, ThrottleError> {
        let throttle = Throttle::start(&settings.throttle)?;
        Ok(Self { per_second: settings.per_second, throttle })
    }

    /// Counts a request; `None` for a caller without a limit.
    pub fn count(&self, caller: &Caller) -> Option<Allowance> {
        let known = caller.known()?;
        let limit = known.rate.or(self.per_second)?;
        Some(self.throttle.count(&known.id, limit))
    }
}

/// The answer to a request beyond the limit.
pub fn refusal(allowance: Allowance) -> Problem {
    let detail = format!(
        "This key or token may send {} requests a second. Nothing was changed: try again after `Retry-After`.",
        allowance.limit
    );
    Problem::with_detail(ProblemKind::TooManyRequests, detail)
}

/// Says in an answer what the caller may still do.
pub fn tell(allowance: Allowance, headers: &mut HeaderMap) {
    let Allowance { limit, left, .. } = allowance;
    // Digits and ASCII only, so they are headers.
    if let Ok(policy) = HeaderValue::try_from(format!("\"second\";q={limit};w=1")) {
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
    if let Ok(state) = HeaderValue::try_from(format!("\"second\";r={left};t=1")) {
        headers.insert(RATE_LIMIT, state);
    }
}
