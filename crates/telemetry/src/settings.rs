//! Reads the settings of a process from flags and environment variables.
//!
//! A wrong setting stops the program with one sentence that names the setting and its valid values. The sentence never shows
//! the value of a setting that may contain a password.

use std::{fmt::Display, ops::RangeInclusive, process::ExitCode, str::FromStr, time::Duration};

use crate::unknown_settings;
use clap::{
    Arg, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// What a value must be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct MustBe(String);

impl MustBe {
    /// `sentence` begins with "must be".
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// A parser for a whole number within `range`.
pub fn whole<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, MustBe> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| {
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            MustBe(format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }
}

/// A parser for a number of milliseconds within `range`.
pub fn milliseconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, MustBe> + Clone + Send + Sync + 'static {
    let number = whole(range);
    move |text| number(text).map(Duration::from_millis)
}

/// Parses an address to listen on.
///
/// # Errors
/// The text is not an IP address with a port.
pub fn address(text: &str) -> Result<std::net::SocketAddr, MustBe> {
    text.parse().map_err(|_| {
        MustBe("must be an IP address and a port, such as 0.0.0.0:8000 or [::]:8000".to_owned())
    })
}

/// Settings that are each valid by themselves.
pub trait Together {
    /// Checks that no two of them contradict each other. Without this, a program would silently follow one of them.
    ///
    /// # Errors
    /// A sentence that names the settings.
    fn check(&self) -> Result<(), MustBe>;
}

/// A setting and its value.
pub type Named<T> = (&'static str, T);

/// Checks that a setting is not more than another one.
///
/// # Errors
/// A sentence that names both.
pub fn at_most<T: PartialOrd>(
    (name, value): Named<T>,
    (limit_name, limit): Named<T>,
) -> Result<(), MustBe> {
    if value <= limit {
        return Ok(());
    }
    Err(MustBe(format!("{name} must not be more than {limit_name}.")))
}

/// Checks that a setting that needs another one is not set without it.
///
/// # Errors
/// A sentence that names both. `needed` may name a value, too.
pub fn needs((name, is_set): Named<bool>, (needed, is_there): Named<bool>) -> Result<(), MustBe> {
    if !is_set || is_there {
        return Ok(());
    }
    Err(MustBe(format!("{name} must not be set without {needed}: it would have no effect.")))
}

/// Reads the settings of this process.
///
/// # Errors
/// The exit code, after the help or the error has been printed.
pub fn read<P: Parser + Together>() -> Result<P, ExitCode> {
    let read = P::try_parse();
    // The help is printed whatever the environment is.
    if read.as_ref().map_or_else(clap::Error::use_stderr, |_| true)
        && let Some(sentence) = unknown_variable(&P::command())
    {
        eprintln!("{}: {sentence}", P::command().get_name());
        return Err(ExitCode::from(2));
    }
    let read = read.map_err(|error| {
        if let Some(sentence) = sentence(&error, P::command()) {
            let name = P::command().get_name().to_owned();
            // There is no log yet.
            eprintln!("{name}: {sentence}");
        } else {
            // Clap prints the help, the version, and errors about flags. If that fails, nothing more can be done.
            let _ = error.print();
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })?;
    match read.check() {
        Ok(()) => Ok(read),
        Err(sentence) => {
            eprintln!("{}: {sentence}", P::command().get_name());
            Err(ExitCode::from(2))
        }
    }
}

/// A sentence about a variable with the prefix of settings that no program reads.
fn unknown_variable(command: &Command) -> Option<String> {
    let mut own = Vec::new();
    variables(command, &mut own);
    let given = std::env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value)));
    unknown_settings::sentence(given, &own)
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The variables that a command and its subcommands read.
fn variables(command: &Command, found: &mut Vec<String>) {
    found.extend(command.get_arguments().filter_map(Arg::get_env).map(lossy));
    for below in command.get_subcommands() {
        variables(below, found);
    }
}

/// A sentence about a wrong setting; `None` for everything else, such as `--help`.
pub fn sentence(error: &clap::Error, mut command: Command) -> Option<String> {
    // Arguments have their names only after this.
    command.build();
    let command = &command;
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg)?;
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let names: Vec<_> =
                argument.split(", ").map(|argument| name_of(argument, command)).collect();
            Some(format!("{} must be set.", names.join(" and ")))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let must = match (std::error::Error::source(error), text(ContextKind::ValidValue)) {
                (Some(reason), _) if reason.is::<std::num::ParseIntError>() => {
                    "must be a whole number".to_owned()
                }
                (Some(reason), _) => reason.to_string(),
                (None, Some(allowed)) => format!("must be one of {allowed}"),
                (None, None) => "must not be empty".to_owned(),
            };
            let given = match find(&argument, command) {
                Some(argument) if argument.is_hide_env_values_set() => String::new(),
                _ => text(ContextKind::InvalidValue)
                    // It may be a URL with a password.
                    .filter(|value| !value.contains('@'))
                    .map(|value| format!(", and is {value:?}"))
                    .unwrap_or_default(),
            };
            Some(format!("{} {must}{given}.", name_of(&argument, command)))
        }
        _ => None,
    }
}

/// The name of the variable, or else of the flag without its value, or else of the positional argument.
fn name_of(argument: &str, command: &Command) -> String {
    if let Some(variable) = find(argument, command).and_then(Arg::get_env) {
        return variable.to_string_lossy().into_owned();
    }
    let name = argument.split(' ').next().unwrap_or(argument).trim_end_matches('.');
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(optional) => format!("<{optional}>"),
        None => name.to_owned(),
    }
}

fn find<'a>(argument: &str, command: &'a Command) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|candidate| candidate.to_string() == argument)
        .or_else(|| command.get_subcommands().find_map(|command| find(argument, command)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Serve(TestSettings),
    }

    #[derive(Debug, clap::Args)]
    struct TestSettings {
        #[arg(long, env = "TEST_DEPTH", default_value = "5", value_parser = whole(1..=9))]
        depth: i32,
        #[arg(long, env = "TEST_WAIT_MS", default_value = "5", value_parser = milliseconds(1..=9))]
        wait: Duration,
        #[arg(long, env = "TEST_SECRET", hide_env_values = true, value_parser = refuse)]
        secret: Option<String>,
        #[arg(long, env = "TEST_ADDRESS", value_parser = refuse)]
        address: Option<String>,
        #[arg(long, env = "TEST_FORMAT", value_enum, default_value = "json")]
        format: crate::LogFormat,
        #[arg(long, env = "TEST_URL")]
        url: String,
        #[arg(long)]
        by: Option<u8>,
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
    }

    fn refuse(_: &str) -> Result<String, MustBe> {
        Err(MustBe::new("must be something else"))
    }

    fn refusal(arguments: &[&str]) -> String {
        let arguments = ["test", "serve"].iter().chain(arguments);
        let error = Cli::try_parse_from(arguments).unwrap_err();
        sentence(&error, Cli::command()).unwrap()
    }

    #[test]
    fn a_wrong_setting_is_reported_with_its_name_and_range() {
        for (arguments, expected) in [
            (
                ["--url=x", "--depth=10"],
                "TEST_DEPTH must be a whole number from 1 to 9, and is \"10\".",
            ),
            (
                ["--url=x", "--wait=soon"],
                "TEST_WAIT_MS must be a whole number from 1 to 9, and is \"soon\".",
            ),
            (
                ["--url=x", "--format=xml"],
                "TEST_FORMAT must be one of json, pretty, and is \"xml\".",
            ),
            (["--url=x", "--by=0x1"], "--by must be a whole number, and is \"0x1\"."),
            (["--url=x", "abc"], "<ID> must be a whole number, and is \"abc\"."),
            (["--depth=1", "--wait=1"], "TEST_URL must be set."),
        ] {
            assert_eq!(refusal(&arguments), expected);
        }
    }

    #[test]
    fn two_settings_that_contradict_each_other_are_named() {
        assert!(at_most(("A_MS", 5), ("B_MS", 5)).is_ok());
        let refused = at_most(("A_MS", 6), ("B_MS", 5)).unwrap_err().to_string();
        assert_eq!(refused, "A_MS must not be more than B_MS.");
        assert!(
            needs(("A", true), ("B", true)).is_ok() && needs(("A", false), ("B", false)).is_ok()
        );
        let refused = needs(("A", true), ("B", false)).unwrap_err().to_string();
        assert_eq!(refused, "A must not be set without B: it would have no effect.");
    }

    #[test]
    fn a_secret_is_not_repeated() {
        assert_eq!(
            refusal(&["--url=x", "--secret=hunter2"]),
            "TEST_SECRET must be something else."
        );
    }

    #[test]
    fn an_address_with_a_password_is_not_repeated() {
        assert_eq!(
            refusal(&["--url=x", "--address=https://user:hunter2@shop.test"]),
            "TEST_ADDRESS must be something else."
        );
        assert_eq!(
            refusal(&["--url=x", "--address=shop.test"]),
            "TEST_ADDRESS must be something else, and is \"shop.test\"."
        );
    }

    #[test]
    fn help_is_not_an_error() {
        let error = Cli::try_parse_from(["test", "--help"]).unwrap_err();
        assert_eq!(sentence(&error, Cli::command()), None);
    }
}
