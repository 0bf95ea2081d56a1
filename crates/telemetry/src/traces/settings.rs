//! The standard variables of OpenTelemetry that decide whether a request has a trace, and where traces go:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>. The SDK reads the others: names and
//! attributes of the resource, headers, timeouts and batches.
//!
//! These are read here because tracing decides on a request before any span is created, and because a wrong value stops the
//! program with an error, like any other setting. A variable that is set to an empty text counts as not set, as the
//! specification requires.

use opentelemetry_sdk::trace::Sampler;

use super::OtlpEndpoint;
use crate::settings::{MustBe, whole};

/// Which requests are traced, and where the traces go.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceSettings {
    /// The OTLP/HTTP collector for traces, such as `http://otel-collector:4318`; no traces if empty
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        hide_default_value = true
    )]
    pub endpoint: OtlpEndpoint,

    /// The full URL for traces, if it is not the collector's URL followed by /v1/traces
    #[arg(
        long = "otlp-traces-endpoint",
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        default_value = "",
        hide_default_value = true
    )]
    pub traces_endpoint: OtlpEndpoint,

    /// The protocol of the collector: only http/protobuf
    #[arg(
        long = "otlp-protocol",
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        default_value = PROTOCOL,
        value_parser = protocol
    )]
    pub protocol: String,

    /// `true` turns traces off, whatever the other settings are
    #[arg(
        long = "otel-sdk-disabled",
        env = "OTEL_SDK_DISABLED",
        default_value = "false",
        value_parser = true_or_false
    )]
    pub disabled: Disabled,

    /// Which requests are traced: `always_on`, `always_off`, `traceidratio`, or one of them with the prefix
    /// `parentbased_`, which follows the `traceparent` of a request if there is one
    #[arg(
        long = "traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        default_value = "parentbased_always_on",
        value_parser = sampler
    )]
    pub sampler: SamplerKind,

    /// The ratio of requests that are traced, with `traceidratio` (a number from 0 to 1)
    #[arg(
        long = "traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_parser = ratio
    )]
    pub ratio: f64,

    /// The most spans that wait to be sent; more are dropped (1 to 1000000)
    #[arg(
        long = "bsp-max-queue-size",
        env = "OTEL_BSP_MAX_QUEUE_SIZE",
        default_value = "8192",
        value_parser = queue_size
    )]
    pub max_queue_size: usize,
}

const PROTOCOL: &str = "http/protobuf";

/// Not a `bool`, because clap would make the flag one without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disabled(bool);

/// A sampler, without the ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerKind {
    parent_based: bool,
    root: Root,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    On,
    Off,
    Ratio,
}

impl TraceSettings {
    /// Where traces go; `None` if there are none.
    pub fn address(&self) -> Option<String> {
        if self.disabled.0 {
            return None;
        }
        self.traces_endpoint.whole().or_else(|| self.endpoint.traces())
    }

    /// Which requests are traced.
    pub fn sampler(&self) -> Sampler {
        let root = match self.sampler.root {
            Root::On => Sampler::AlwaysOn,
            Root::Off => Sampler::AlwaysOff,
            Root::Ratio => Sampler::TraceIdRatioBased(self.ratio),
        };
        if self.sampler.parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
    }
}

fn protocol(text: &str) -> Result<String, MustBe> {
    match text {
        "" | PROTOCOL => Ok(PROTOCOL.to_owned()),
        _ => Err(MustBe::new("must be http/protobuf, which collectors accept on port 4318")),
    }
}

fn true_or_false(text: &str) -> Result<Disabled, MustBe> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(Disabled(true)),
        "" | "false" => Ok(Disabled(false)),
        _ => Err(MustBe::new("must be true or false")),
    }
}

fn sampler(text: &str) -> Result<SamplerKind, MustBe> {
    let text = if text.is_empty() { "parentbased_always_on" } else { text };
    let (parent_based, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text),
    };
    let root = match root {
        "always_on" => Root::On,
        "always_off" => Root::Off,
        "traceidratio" => Root::Ratio,
        _ => {
            return Err(MustBe::new(
                "must be always_on, always_off, traceidratio, or one of them with the prefix \
                 parentbased_",
            ));
        }
    };
    Ok(SamplerKind { parent_based, root })
}

fn ratio(text: &str) -> Result<f64, MustBe> {
    let text = if text.is_empty() { "1" } else { text };
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| MustBe::new("must be a number from 0 to 1"))
}

fn queue_size(text: &str) -> Result<usize, MustBe> {
    whole(1_usize..=1_000_000)(if text.is_empty() { "8192" } else { text })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        traces: TraceSettings,
    }

    fn parse(flags: &[&str]) -> Result<TraceSettings, clap::Error> {
        Cli::try_parse_from(["test"].iter().chain(flags)).map(|cli| cli.traces)
    }

    #[test]
    fn no_collector_or_the_switch_means_no_traces() {
        assert_eq!(parse(&[]).unwrap().address(), None);
        let on = ["--otlp-endpoint=http://c:4318"];
        assert_eq!(parse(&on).unwrap().address().unwrap(), "http://c:4318/v1/traces");
        let off = ["--otlp-endpoint=http://c:4318", "--otel-sdk-disabled=TRUE"];
        assert_eq!(parse(&off).unwrap().address(), None);
        let whole = ["--otlp-endpoint=http://c:4318", "--otlp-traces-endpoint=http://d/x"];
        assert_eq!(parse(&whole).unwrap().address().unwrap(), "http://d/x");
    }

    #[test]
    fn samplers_follow_the_standard() {
        let sampler = |name: &str| {
            let flags = [format!("--traces-sampler={name}"), "--traces-sampler-arg=0.25".into()];
            format!("{:?}", parse(&flags.each_ref().map(String::as_str)).unwrap().sampler())
        };
        assert_eq!(sampler("always_on"), "AlwaysOn");
        assert_eq!(sampler("traceidratio"), "TraceIdRatioBased(0.25)");
        assert_eq!(sampler("parentbased_always_off"), "ParentBased(AlwaysOff)");
        assert_eq!(sampler("parentbased_traceidratio"), "ParentBased(TraceIdRatioBased(0.25))");
        assert_eq!(sampler(""), "ParentBased(AlwaysOn)");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let empty = [
            "--otlp-protocol=",
            "--otel-sdk-disabled=",
            "--traces-sampler-arg=",
            "--bsp-max-queue-size=",
        ];
        let settings = parse(&empty).unwrap();
        assert_eq!((settings.max_queue_size, settings.address()), (8192, None));
    }

    #[test]
    fn malformed_settings_are_refused() {
        for flag in [
            "--otlp-protocol=grpc",
            "--otel-sdk-disabled=maybe",
            "--traces-sampler=sometimes",
            "--traces-sampler-arg=1.5",
            "--traces-sampler-arg=half",
            "--bsp-max-queue-size=0",
            "--otlp-traces-endpoint=c:4318",
        ] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
    }
}
