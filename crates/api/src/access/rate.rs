//! Rate limits of callers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
pub use holdfast_throttle::Allowance;
use holdfast_throttle::{Throttle, ThrottleError, ThrottleSettings};

use super::Caller;
use crate::problem::{Problem, ProblemKind};

/// `RateLimit` and `RateLimit-Policy`, as in
/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Rate limits of callers.
#[derive(Clone, Debug)]
pub struct RateSettings {
    /// Requests per second, unless the key has its own limit; `None`: no limit.
    pub per_second: Option<u32>,
    /// The counters that all replicas share.
    pub throttle: ThrottleSettings,
}

/// Counts requests by caller.
pub struct Rates {
    per_second: Option<u32>,
    throttle: Throttle,
}

impl Rates {
    /// Counts until the runtime ends.
    ///
    /// # Errors
    /// The Redis URL is invalid.
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

/// The answer to a request that exceeds the limit.
pub fn refusal(allowance: Allowance) -> Problem {
    let detail = format!(
        "The limit of this key or token is {} requests per second. Nothing was changed. Try again after `Retry-After`.",
        allowance.limit
    );
    Problem::with_detail(ProblemKind::TooManyRequests, detail)
}

/// Adds the rate limit headers to an answer.
pub fn tell(allowance: Allowance, headers: &mut HeaderMap) {
    let Allowance { limit, left, .. } = allowance;
    // ASCII only, so these are valid header values.
    if let Ok(policy) = HeaderValue::try_from(format!("\"second\";q={limit};w=1")) {
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
    if let Ok(state) = HeaderValue::try_from(format!("\"second\";r={left};t=1")) {
        headers.insert(RATE_LIMIT, state);
    }
}
