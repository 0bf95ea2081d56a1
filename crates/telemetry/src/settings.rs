//! Reading a process's settings: from flags, from environment variables, or else a default.
//!
//! A wrong setting stops the start with one sentence that names the setting and what it may be,
//! and never shows the value of a setting that holds a password.

use std::{fmt::Display, ops::RangeInclusive, process::ExitCode, str::FromStr, time::Duration};

use crate::unknown_settings;
use clap::{
    Arg, Command, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Why a value was refused: what it must be.
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

/// A parser for an address to listen on.
///
/// # Errors
/// What is not an IP address with a port.
pub fn address(text: &str) -> Result<std::net::SocketAddr, MustBe> {
    text.parse().map_err(|_| {
        MustBe("must be an IP address and a port, such as 0.0.0.0:8000 or [::]:8000".to_owned())
    })
}

/// Reads the settings of this process.
///
/// # Errors
/// The exit code to end with: the help or the one sentence has been printed.
pub fn read<P: Parser>() -> Result<P, ExitCode> {
    let read = P::try_parse();
    // Help is given whatever the environment is.
    if read.as_ref().map_or_else(clap::Error::use_stderr, |_| true)
        && let Some(sentence) = unknown_variable(&P::command())
    {
        eprintln!("{}: {sentence}", P::command().get_name());
        return Err(ExitCode::from(2));
    }
    read.map_err(|error| {
        if let Some(sentence) = sentence(&error, P::command()) {
            let name = P::command().get_name().to_owned();
            // A setting is wrong before there is a log.
            eprintln!("{name}: {sentence}");
        } else {
            // Help, version and unknown flags, in the manner of clap. If even that cannot be
            // printed, there is nobody to tell.
            let _ = error.print();
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// One sentence about a variable that has the name of a setting and is none.
fn unknown_variable(command: &Command) -> Option<String> {
    let mut own = Vec::new();
    variables(command, &mut own);
    let given = std::env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value)));
    unknown_settings::sentence(given, &own)
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The variables that a command and those below it read.
fn variables(command: &Command, found: &mut Vec<String>) {
    found.extend(command.get_arguments().filter_map(Arg::get_env).map(lossy));
    for below in command.get_subcommands() {
        variables(below, found);
    }
}

/// The one sentence about a wrong setting; `None` for everything else, such as `--help`.
pub fn sentence(error: &clap::Error, mut command: Command) -> Option<String> {
    // Names of arguments are only there once it is built.
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
                (Some(reason), _) => reason.to_string(),
                (None, Some(allowed)) => format!("must be one of {allowed}"),
                (None, None) => "must not be empty".to_owned(),
            };
            let given = match find(&argument, command) {
                Some(argument) if argument.is_hide_env_values_set() => String::new(),
                _ => text(ContextKind::InvalidValue)
                    .map(|value| format!(", and is {value:?}"))
                    .unwrap_or_default(),
            };
            Some(format!("{} {must}{given}.", name_of(&argument, command)))
        }
        _ => None,
    }
}

/// The variable's name, by which most people know a setting, and else the flag's.
fn name_of(argument: &str, command: &Command) -> String {
    find(argument, command)
        .and_then(Arg::get_env)
        .map_or_else(|| argument.to_owned(), |name| name.to_string_lossy().into_owned())
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
        Serve(Settings),
    }

    #[derive(Debug, clap::Args)]
    struct Settings {
        #[arg(long, env = "TEST_DEPTH", default_value = "5", value_parser = whole(1..=9))]
        depth: i32,
        #[arg(long, env = "TEST_WAIT_MS", default_value = "5", value_parser = milliseconds(1..=9))]
        wait: Duration,
        #[arg(long, env = "TEST_SECRET", hide_env_values = true, value_parser = refuse)]
        secret: Option<String>,
        #[arg(long, env = "TEST_FORMAT", value_enum, default_value = "json")]
        format: crate::LogFormat,
        #[arg(long, env = "TEST_URL")]
        url: String,
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
    fn a_wrong_setting_is_one_sentence_with_its_name_and_range() {
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
            (["--depth=1", "--wait=1"], "TEST_URL must be set."),
        ] {
            assert_eq!(refusal(&arguments), expected);
        }
    }

    #[test]
    fn a_secret_is_not_repeated() {
        assert_eq!(
            refusal(&["--url=x", "--secret=hunter2"]),
            "TEST_SECRET must be something else."
        );
    }

    #[test]
    fn help_is_no_wrong_setting() {
        let error = Cli::try_parse_from(["test", "--help"]).unwrap_err();
        assert_eq!(sentence(&error, Cli::command()), None);
    }
}
