use clap::CommandFactory as _;
use holdfast_telemetry::settings::sentence;

use super::*;

const URLS: [&str; 2] = ["--database-url=postgres://u:p@h/db", "--redis-url=redis://h"];

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["holdfast-api"].iter().chain(arguments))
}

fn serve(extra: &str) -> Result<Cli, clap::Error> {
    parse(&["serve", URLS[0], URLS[1], extra])
}

/// The range at the end of a help text: "… (1 to 60000)".
fn range_in(help: &str) -> Option<(u64, u64)> {
    let (_, range) = help.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    let (first, last) = range.split_once(" to ")?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_has_a_help_text_and_a_variable() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for argument in serve.get_arguments() {
        assert!(argument.get_help().is_some(), "{argument}");
        let variable = argument.get_env().unwrap().to_str().unwrap();
        assert!(
            variable.starts_with("HOLDFAST_")
                || variable.ends_with("_URL")
                || variable.starts_with("OTEL_"),
            "{variable}"
        );
    }
}

#[test]
fn the_range_in_each_help_text_is_correct() {
    let mut ranges = 0;
    let command = Cli::command();
    for argument in command.find_subcommand("serve").unwrap().get_arguments() {
        let Some((first, last)) = range_in(&argument.get_help().unwrap().to_string()) else {
            continue;
        };
        ranges += 1;
        let flag = argument.get_long().unwrap();
        for good in [first, last] {
            assert!(serve(&format!("--{flag}={good}")).is_ok(), "{flag} {good}");
        }
        let mut bad = vec![(last + 1).to_string(), "x".to_owned(), "-1".to_owned()];
        // OpenTelemetry treats an empty variable as not set.
        if !argument.get_env().unwrap().to_string_lossy().starts_with("OTEL_") {
            bad.push(String::new());
        }
        if first > 0 {
            bad.push((first - 1).to_string());
        }
        for bad in bad {
            let error = serve(&format!("--{flag}={bad}")).unwrap_err();
            let sentence = sentence(&error, Cli::command()).unwrap();
            assert!(
                ["HOLDFAST_", "OTEL_"].iter().any(|begin| sentence.starts_with(begin))
                    && sentence.contains(&format!("must be a whole number from {first} to {last}")),
                "{sentence}"
            );
        }
    }
    assert!(ranges >= 15, "only {ranges} ranges were found");
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let ca = format!("--redis-ca-file={}", ca.display());
    let locks = ["--lock-timeout-ms=50", "--statement-timeout-ms=50"];
    for (command, settings, names) in [
        (&["serve"][..], &locks[..], ["LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"]),
        (&["migrate"], &locks, ["LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"]),
        (&["keys", "list"], &locks, ["LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"]),
        (&["dead-letters", "list"], &locks, ["LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"]),
        (
            &["archive", "--older-than-days=90", "--to=/"],
            &locks,
            ["LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"],
        ),
        (&["serve"], &[&ca], ["REDIS_CA_FILE", "REDIS_URL"]),
        (&["dead-letters", "list"], &[&ca], ["REDIS_CA_FILE", "REDIS_URL"]),
        (
            &["serve"],
            &["--max-connections-per-address=9", "--max-connections=8"],
            ["MAX_CONNECTIONS_PER_ADDRESS", "MAX_CONNECTIONS."],
        ),
        (
            &["serve"],
            &["--max-body-bytes=1048577", "--request-buffer-bytes=1048576"],
            ["MAX_BODY_BYTES", "REQUEST_BUFFER_BYTES"],
        ),
        (&["serve"], &["--cors-headers=x-shop"], ["CORS_HEADERS", "CORS_ORIGINS"]),
        (&["serve"], &["--oidc-audience=shop"], ["OIDC_AUDIENCE", "OIDC_ISSUER"]),
        (&["serve"], &["--oidc-customer-claim=sub"], ["OIDC_CUSTOMER_CLAIM", "OIDC_ISSUER"]),
        (
            &["serve"],
            &["--oidc-issuer=https://login.example", "--auth=off"],
            ["OIDC_ISSUER", "HOLDFAST_AUTH"],
        ),
        (&["serve"], &["--http-addr=0.0.0.0:80", "--auth=off"], ["HTTP_ADDR", "OPEN_TO_NETWORK"]),
    ] {
        let redis: &[&str] =
            if ["serve", "dead-letters"].contains(&command[0]) { &URLS } else { &URLS[..1] };
        let cli = parse(&[command, redis, settings].concat()).unwrap();
        let sentence = cli.check().expect_err(command[0]).to_string();
        for name in names {
            assert!(sentence.contains(name), "{command:?} {settings:?}: {sentence}");
        }
    }
}

#[test]
fn the_defaults_are_consistent() {
    let cli = serve("--max-quantity=7").unwrap();
    cli.check().unwrap();
    let Command::Serve(settings) = cli.command else { panic!("not serve") };
    assert_eq!(settings.orders.max_quantity, 7);
    let admission = settings.orders.admission(settings.connections.lock_timeout);
    let defaults = holdfast_admission::AdmissionSettings::default();
    assert_eq!(format!("{admission:?}"), format!("{defaults:?}"));
}

#[test]
fn only_a_closed_output_is_no_error() {
    use holdfast_telemetry::command::OutputError;

    let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert_eq!(output::ended_by(&OutputError::Closed.into()), None);
    // A connection to a server breaks with the same error, and must not count as success.
    assert_eq!(output::ended_by(&broken().into()), Some(Ended::Failed));
    let lost = holdfast_store::StoreError::Unavailable(broken().into());
    assert_eq!(output::ended_by(&lost.into()), Some(Ended::Unreachable));
    assert_eq!(failed(&broken()), Ended::Failed.into());
}
