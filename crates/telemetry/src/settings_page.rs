//! The settings of a binary as Markdown; `docs/settings.md` is generated from it.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// One Markdown table for each subcommand that has settings.
pub fn render(mut program: Command) -> String {
    program.build();
    let mut page = format!("## {}\n", program.get_name());
    tables(&program, program.get_name(), &mut page);
    page
}

fn tables(above: &Command, path: &str, page: &mut String) {
    for command in above.get_subcommands() {
        let path = format!("{path} {}", command.get_name());
        tables(command, &path, page);
        let mut settings: Vec<&Arg> =
            command.get_arguments().filter(|argument| argument.get_env().is_some()).collect();
        if settings.is_empty() {
            continue;
        }
        settings.sort_by_key(|argument| argument.get_env());
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n### {path}\n\n| variable | flag | default | meaning |\n|---|---|---|---|\n"
        );
        for setting in settings {
            page.push_str(&row(setting));
        }
    }
}

fn row(setting: &Arg) -> String {
    let variable = setting.get_env().map(|name| name.to_string_lossy()).unwrap_or_default();
    let flag = setting.get_long().map(|name| format!("`--{name}`")).unwrap_or_default();
    let defaults: Vec<_> =
        setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match defaults.join(", ") {
        _ if setting.is_required_set() => "required".to_owned(),
        none if none.is_empty() => "–".to_owned(),
        given => format!("`{given}`"),
    };
    let help = setting.get_long_help().or(setting.get_help()).map(ToString::to_string);
    let help = help.unwrap_or_default().replace(['\n', '|'], " ");
    let choices: Vec<_> = setting
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let choices =
        if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
    format!("| `{variable}` | {flag} | {default} | {help}{choices} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_a_complete_row() {
        let serve = Command::new("serve")
            .arg(Arg::new("b").long("b").env("B").required(true).help("What b is"))
            .arg(Arg::new("a").long("a").env("A").default_value("7").help("What a is\n(1 to 9)"))
            .arg(Arg::new("c").long("c"));
        let page = render(Command::new("shop").subcommand(serve).subcommand(Command::new("x")));
        let rows = "| `A` | `--a` | `7` | What a is (1 to 9) |\n\
                    | `B` | `--b` | required | What b is |\n";
        assert!(page.ends_with(rows), "{page}");
        assert!(page.starts_with("## shop\n\n### shop serve\n"), "{page}");
        assert!(!page.contains("shop x"), "{page}");
    }
}
