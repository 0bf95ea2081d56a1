//! The address of the collector.

use std::str::FromStr;

/// The base URL of an OTLP/HTTP collector. Without one there are no traces. An empty text means none, so that a variable
/// that is set but empty, as in compose files, means the same as one that is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpEndpoint(Option<String>);

impl OtlpEndpoint {
    /// The URL for traces: the base with `/v1/traces`, as in the OTLP specification.
    pub fn traces(&self) -> Option<String> {
        self.0.as_deref().map(|base| format!("{}/v1/traces", base.trim_end_matches('/')))
    }

    pub fn whole(&self) -> Option<String> {
        self.0.clone()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("must be empty or an http:// address such as http://otel-collector:4318")]
pub struct NotAnEndpoint;

impl FromStr for OtlpEndpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = reqwest::Url::parse(text).map_err(|_| NotAnEndpoint)?;
        if url.scheme() == "http" && url.has_host() {
            Ok(Self(Some(text.to_owned())))
        } else {
            Err(NotAnEndpoint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_becomes_the_address_for_traces() {
        for text in ["http://collector:4318", "http://collector:4318/"] {
            let endpoint: OtlpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.traces().unwrap(), "http://collector:4318/v1/traces");
        }
    }

    #[test]
    fn an_empty_text_means_no_traces() {
        assert_eq!("".parse::<OtlpEndpoint>().unwrap().traces(), None);
    }

    #[test]
    fn only_http_urls_are_accepted() {
        for text in ["collector:4318", "grpc://collector:4317", "http://", "yes"] {
            assert!(text.parse::<OtlpEndpoint>().is_err(), "{text}");
        }
    }
}
