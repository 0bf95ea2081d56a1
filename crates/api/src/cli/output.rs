//! The output of commands: tables, JSON, YAML or names.

use std::{borrow::Cow, fmt::Write as _};

use clap::{Args, ValueEnum};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use holdfast_store::{MigrateError, SchemaError, StoreError};
use holdfast_telemetry::{
    command::{self, Ended, OutputError},
    settings::{MustBe, whole},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::yaml;

/// The length at which texts are cut in tables.
const CELL_CHARS_MAX: usize = 80;

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table; coloured on a terminal, unless `NO_COLOR` is set
    Table,
    /// One JSON value: an array for a list
    Json,
    /// YAML
    Yaml,
    /// Only ids, one per line
    Name,
}

/// The output of a command.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputSettings {
    /// The output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// The part of a list that is printed.
#[derive(Clone, Debug, Args)]
pub struct Paging {
    /// The most items to print (1 to 1000000)
    #[arg(long, default_value = "100", value_parser = whole(1..=1_000_000_usize))]
    pub limit: usize,
    /// Print all items
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Continue after a previous list, with the cursor that it printed
    #[arg(long)]
    pub cursor: Option<String>,
}

impl Paging {
    /// The most items to print.
    pub fn limit(&self) -> usize {
        if self.all { usize::MAX } else { self.limit }
    }

    /// Prints how to continue a list that has ended at its limit.
    pub fn more(next: Option<&str>) {
        if let Some(cursor) = next {
            eprintln!("There are more: use --cursor {cursor} to continue, or --all to print all.");
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Text {
    content: String,
    colour: Option<Color>,
    /// Whether the text is never cut.
    whole: bool,
}

impl Text {
    /// A text about something that is in order.
    pub fn good(text: String) -> Self {
        Self { content: text, colour: Some(Color::Green), whole: false }
    }

    /// A text about something that needs attention.
    pub fn doubtful(text: String) -> Self {
        Self { content: text, colour: Some(Color::Yellow), whole: false }
    }

    /// A text of this program, which is never cut.
    pub fn whole(text: String) -> Self {
        Self { content: text, colour: None, whole: true }
    }

    /// A text about an error.
    pub fn bad(text: String) -> Self {
        Self { content: text, colour: Some(Color::Red), whole: false }
    }
}

impl<T: ToString> From<Option<T>> for Text {
    fn from(text: Option<T>) -> Self {
        Self {
            content: text.map(|text| text.to_string()).unwrap_or_default(),
            colour: None,
            whole: false,
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { content: text, colour: None, whole: false }
    }
}

/// An item that is printed.
#[derive(Clone, Debug)]
pub struct OutputRow {
    /// The name for other commands.
    pub name: String,
    /// The cells of the table.
    pub cells: Vec<Text>,
    /// The whole item as JSON.
    pub json: Box<RawValue>,
}

impl OutputRow {
    /// A row about a value that is not JSON yet.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn new(name: &str, cells: Vec<Text>, about: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self { name: name.to_string(), cells, json: serde_json::value::to_raw_value(about)? })
    }
}

/// Prints a list, page by page.
#[derive(Debug)]
pub struct ListOutput {
    format: Format,
    columns: &'static [&'static str],
    printed: usize,
}

impl ListOutput {
    /// An empty list.
    pub fn new(format: Format, columns: &'static [&'static str]) -> Self {
        Self { format, columns, printed: 0 }
    }

    /// The output format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints the next rows.
    ///
    /// # Errors
    /// The output is closed.
    pub fn rows(&mut self, rows: &[OutputRow]) -> anyhow::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.format {
            Format::Table => line(&table((self.printed == 0).then_some(self.columns), rows))?,
            Format::Name => {
                for row in rows {
                    line(&row.name)?;
                }
            }
            Format::Json => {
                for (at, row) in rows.iter().enumerate() {
                    let before = if self.printed + at == 0 { "[" } else { "," };
                    line(&format!("{before}{}", harmless_json(row.json.get())))?;
                }
            }
            Format::Yaml => {
                for row in rows {
                    line(yaml::element(&row.json)?.trim_end())?;
                }
            }
        }
        self.printed += rows.len();
        Ok(())
    }

    /// Ends the list. `none` is printed if it is empty.
    ///
    /// # Errors
    /// The output is closed.
    pub fn end(self, none: &str) -> anyhow::Result<()> {
        match (self.format, self.printed) {
            (Format::Table, 0) => {
                eprintln!("{none}");
                Ok(())
            }
            (Format::Json | Format::Yaml, 0) => line("[]"),
            (Format::Json, _) => line("]"),
            _ => Ok(()),
        }
    }
}

/// Prints one item. `table` is its form as a table.
///
/// # Errors
/// The output is closed.
pub fn one(
    format: Format,
    name: &str,
    json: &RawValue,
    table: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    match format {
        Format::Table => line(table()?.trim_end()),
        Format::Json => line(&harmless_json(json.get())),
        Format::Yaml => line(yaml::document(json)?.trim_end()),
        Format::Name => line(name),
    }
}

/// A table, with a heading if there is one.
pub fn table(headings: Option<&[&str]>, rows: &[OutputRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if colours() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if let Some(headings) = headings {
        let headings = headings.iter().map(|text| Cell::new(text).add_attribute(Attribute::Bold));
        table.set_header(headings);
    }
    for row in rows {
        table.add_row(row.cells.iter().map(|cell| {
            let shown = Cell::new(harmless(
                &cell.content,
                if cell.whole { usize::MAX } else { CELL_CHARS_MAX },
            ));
            cell.colour.map_or(shown.clone(), |colour| shown.fg(colour))
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Whether the output is coloured: on a terminal, unless `NO_COLOR` or `TERM=dumb` is set.
fn colours() -> bool {
    !matches!(anstream::AutoStream::choice(&std::io::stdout()), anstream::ColorChoice::Never)
}

/// Untrusted text for a terminal: on one line, without control characters, and not too long.
fn harmless(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == most {
            shown.push('…');
            break;
        }
        if controls_a_terminal(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON for a terminal. It has the same value: metadata may contain control characters, which can only be in its strings.
fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.contains(controls_a_terminal) {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        match u32::from(character) {
            // A line break is between two members.
            code @ 0x7f.. if controls_a_terminal(character) => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{code:04x}");
            }
            _ => shown.push(character),
        }
    }
    shown.into()
}

/// Whether a character changes more than its own place on a terminal: controls, also of eight bits, and those that change the
/// direction of the text around them.
fn controls_a_terminal(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a line.
///
/// # Errors
/// The output is closed or cannot be written.
pub fn line(text: &str) -> anyhow::Result<()> {
    Ok(command::write_output(format!("{text}\n").as_bytes())?)
}

/// A server failed, although the request is valid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReached(pub String);

/// The end of a command that has failed; `None` if only the reader of its output has closed it.
pub fn ended_by(error: &anyhow::Error) -> Option<Ended> {
    for cause in error.chain() {
        if let Some(OutputError::Closed) = cause.downcast_ref() {
            return None;
        }
        if cause.is::<MustBe>() {
            return Some(Ended::Usage);
        }
        let away = cause.downcast_ref::<MigrateError>().map(MigrateError::is_unavailable);
        let away = away.or(cause
            .downcast_ref::<StoreError>()
            .map(|error| matches!(error, StoreError::Unavailable(_) | StoreError::Busy(_))));
        if away == Some(true) || cause.is::<NotReached>() {
            return Some(Ended::Unreachable);
        }
    }
    Some(Ended::Failed)
}

/// Whether the database caused the error.
pub fn is_of_database(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<StoreError>() || cause.is::<MigrateError>() || cause.is::<SchemaError>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_does_not_control_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J\nb\u{9b}", 80), "a\\u{1b}[2J\\nb\\u{9b}");
        assert_eq!(harmless("c\u{202e}d\u{2066}", 80), "c\\u{202e}d\\u{2066}");
        assert_eq!(harmless(&"x".repeat(200), 80).chars().count(), 81);
    }

    #[test]
    fn metadata_does_not_control_the_terminal_and_keeps_its_value() {
        let sent = "{\"a\":\"\u{9b}31m\u{7f}\u{202e}é\",\n\"b\":\"\\u001b\"}";
        let shown = harmless_json(sent);
        assert_eq!(shown, "{\"a\":\"\\u009b31m\\u007f\\u202eé\",\n\"b\":\"\\u001b\"}");
        let value = |json| holdfast_domain::json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&shown), value(sent));
        assert!(matches!(harmless_json("{}"), Cow::Borrowed("{}")));
    }

    #[test]
    fn columns_are_aligned() {
        let row = |name: &str| {
            OutputRow::new(name, vec![name.to_owned().into(), Text::bad("x".to_owned())], &name)
        };
        let rows = [row("a").unwrap(), row("寿司").unwrap()];
        let text = table(Some(&["ID", "RESULT"]), &rows);
        assert_eq!(text, "ID    RESULT\na     x\n寿司  x");
    }
}
