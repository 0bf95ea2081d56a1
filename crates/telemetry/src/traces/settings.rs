//! The standard variables of OpenTelemetry:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.
//!
//! They are read here and not by the SDK, which ignores a wrong one: here it stops the start with a
//! sentence, as any other setting does. One that is set but empty counts as not set, as the
//! specification has it.

use std::{collections::HashMap, str::FromStr, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;

use super::OtlpEndpoint;
use crate::settings::{MustBe, milliseconds, whole};

/// Which requests have traces, and where the traces go.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceSettings {
    /// The OTLP/HTTP collector that traces go to, such as <http://otel-collector:4318>; empty means
    /// no traces
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        hide_default_value = true
    )]
    pub endpoint: OtlpEndpoint,

    /// The whole address that traces go to, where it is not that of the collector with /v1/traces
    #[arg(
        long = "otlp-traces-endpoint",
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        default_value = "",
        hide_default_value = true
    )]
    pub traces_endpoint: OtlpEndpoint,

    /// How the collector is spoken to: http/protobuf, and nothing else
    #[arg(
        long = "otlp-protocol",
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        default_value = PROTOCOL,
        value_parser = protocol
    )]
    pub protocol: String,

    /// Headers for the collector, such as `authorization=Bearer%20…`, with commas between them
    #[arg(
        long = "otlp-headers",
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub otlp_headers: Pairs,

    /// The longest that sending a batch of spans may take, in milliseconds (10 to 60000)
    #[arg(
        long = "otlp-timeout-ms",
        env = "OTEL_EXPORTER_OTLP_TIMEOUT",
        default_value = "10000",
        value_parser = or_default(10_000, milliseconds(10..=60_000))
    )]
    pub otlp_timeout: Duration,

    /// `true`: no traces, whatever the other settings say
    #[arg(
        long = "otel-sdk-disabled",
        env = "OTEL_SDK_DISABLED",
        default_value = "false",
        value_parser = true_or_false
    )]
    pub disabled: Disabled,

    /// The name of this process in traces, where it is not that of the program
    #[arg(
        long = "otel-service-name",
        env = "OTEL_SERVICE_NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub service: String,

    /// More about this process for its traces, such as `deployment.environment.name=prod`, with commas
    /// between them
    #[arg(
        long = "otel-resource-attributes",
        env = "OTEL_RESOURCE_ATTRIBUTES",
        default_value = "",
        hide_default_value = true
    )]
    pub attributes: Pairs,

    /// Which requests have a trace: `always_on`, `always_off`, `traceidratio`, or the same after
    /// `parentbased_`, where a request with a `traceparent` is as its caller decided
    #[arg(
        long = "traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        default_value = "parentbased_always_on",
        value_parser = sampler
    )]
    pub sampler: Kind,

    /// The part of requests that have a trace, with `traceidratio` (a number from 0 to 1)
    #[arg(
        long = "traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_parser = ratio
    )]
    pub ratio: f64,

    /// How many spans may wait to be sent; more are dropped (1 to 1000000)
    #[arg(
        long = "bsp-max-queue-size",
        env = "OTEL_BSP_MAX_QUEUE_SIZE",
        default_value = "8192",
        value_parser = or_default(8192, whole(1_usize..=1_000_000))
    )]
    pub max_queue_size: usize,

    /// The most spans that are sent at once (1 to 100000)
    #[arg(
        long = "bsp-max-export-batch-size",
        env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        default_value = "512",
        value_parser = or_default(512, whole(1_usize..=100_000))
    )]
    pub max_export_batch_size: usize,

    /// How often spans are sent, in milliseconds (1 to 600000)
    #[arg(
        long = "bsp-schedule-delay-ms",
        env = "OTEL_BSP_SCHEDULE_DELAY",
        default_value = "1000",
        value_parser = or_default(1000, milliseconds(1..=600_000))
    )]
    pub schedule_delay: Duration,

    /// The longest that sending may take, in milliseconds (10 to 600000); the shorter of this and
    /// `OTEL_EXPORTER_OTLP_TIMEOUT` counts
    #[arg(
        long = "bsp-export-timeout-ms",
        env = "OTEL_BSP_EXPORT_TIMEOUT",
        default_value = "30000",
        value_parser = or_default(30_000, milliseconds(10..=600_000))
    )]
    pub bsp_timeout: Duration,
}

const PROTOCOL: &str = "http/protobuf";

/// Whether traces are switched off. Not a `bool`, which would make the flag one without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disabled(bool);

/// A sampler, without the ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
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

    /// Which requests have a trace.
    pub fn sampler(&self) -> Sampler {
        let root = match self.sampler.root {
            Root::On => Sampler::AlwaysOn,
            Root::Off => Sampler::AlwaysOff,
            Root::Ratio => Sampler::TraceIdRatioBased(self.ratio),
        };
        if self.sampler.parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
    }

    pub(super) fn export_timeout(&self) -> Duration {
        self.otlp_timeout.min(self.bsp_timeout)
    }

    pub(super) fn headers(&self) -> HashMap<String, String> {
        self.otlp_headers.0.iter().cloned().collect()
    }

    /// The program's name, unless another is set, in either of the two ways.
    pub(super) fn service_name(&self, program: &'static str) -> String {
        let attribute = || self.attributes.0.iter().find(|(name, _)| name == "service.name");
        match self.service.as_str() {
            "" => attribute().map_or_else(|| program.to_owned(), |(_, value)| value.clone()),
            name => name.to_owned(),
        }
    }

    pub(super) fn resource_attributes(&self) -> Vec<KeyValue> {
        let others = self.attributes.0.iter().filter(|(name, _)| name != "service.name");
        others.map(|(name, value)| KeyValue::new(name.clone(), value.clone())).collect()
    }
}

/// `name=value` pairs with commas between them, values percent-encoded.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl std::fmt::Debug for Pairs {
    // Values may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl FromStr for Pairs {
    type Err = MustBe;

    fn from_str(text: &str) -> Result<Self, MustBe> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        };
        pairs.map(pair).collect::<Option<_>>().map(Self).ok_or_else(|| {
            MustBe::new("must be pairs such as name=value, with commas between them")
        })
    }
}

fn protocol(text: &str) -> Result<String, MustBe> {
    match text {
        "" | PROTOCOL => Ok(PROTOCOL.to_owned()),
        _ => Err(MustBe::new("must be http/protobuf, which collectors take at port 4318")),
    }
}

fn true_or_false(text: &str) -> Result<Disabled, MustBe> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(Disabled(true)),
        "" | "false" => Ok(Disabled(false)),
        _ => Err(MustBe::new("must be true or false")),
    }
}

fn sampler(text: &str) -> Result<Kind, MustBe> {
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
                "must be always_on, always_off, traceidratio, or one of them after parentbased_",
            ));
        }
    };
    Ok(Kind { parent_based, root })
}

fn ratio(text: &str) -> Result<f64, MustBe> {
    let text = if text.is_empty() { "1" } else { text };
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| MustBe::new("must be a number from 0 to 1"))
}

/// Reads an empty text as `default`.
fn or_default<T>(
    default: u64,
    parse: impl Fn(&str) -> Result<T, MustBe> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, MustBe> + Clone + Send + Sync + 'static {
    move |text| if text.is_empty() { parse(&default.to_string()) } else { parse(text) }
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
    fn samplers_are_those_of_the_standard() {
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
    fn pairs_are_decoded_and_never_shown() {
        let settings = parse(&["--otlp-headers=authorization=Bearer%20s3cret, x=1"]).unwrap();
        assert_eq!(settings.headers()["authorization"], "Bearer s3cret");
        assert_eq!(settings.headers()["x"], "1");
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    }

    #[test]
    fn what_is_set_but_empty_is_not_set() {
        let empty = [
            "--otlp-protocol=",
            "--otlp-headers=",
            "--otlp-timeout-ms=",
            "--otel-sdk-disabled=",
            "--traces-sampler-arg=",
            "--bsp-max-queue-size=",
        ];
        let settings = parse(&empty).unwrap();
        assert_eq!(
            (settings.max_queue_size, settings.export_timeout()),
            (8192, Duration::from_secs(10))
        );
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for flag in [
            "--otlp-protocol=grpc",
            "--otlp-headers=authorization",
            "--otel-sdk-disabled=maybe",
            "--traces-sampler=sometimes",
            "--traces-sampler-arg=1.5",
            "--traces-sampler-arg=half",
            "--bsp-max-queue-size=0",
            "--bsp-schedule-delay-ms=soon",
            "--otel-resource-attributes==1",
            "--otlp-traces-endpoint=c:4318",
        ] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn a_service_is_named_as_the_standard_has_it() {
        let name = |flags: &[&str]| parse(flags).unwrap().service_name("holdfast-api");
        assert_eq!(name(&[]), "holdfast-api");
        assert_eq!(name(&["--otel-resource-attributes=service.name=a"]), "a");
        assert_eq!(
            name(&["--otel-resource-attributes=service.name=a", "--otel-service-name=b"]),
            "b"
        );
    }
}
