//! What commands print: tables for people, and JSON, YAML or names for programs.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use holdfast_store::{MigrateError, SchemaError, StoreError};
use holdfast_telemetry::{
    command::Ended,
    settings::{MustBe, whole},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::yaml;

/// Longer texts are cut in tables.
const CELL_CHARS_MAX: usize = 80;

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people; coloured on a terminal, unless `NO_COLOR` is set
    Table,
    /// One JSON value: an array for a list
    Json,
    /// YAML
    Yaml,
    /// Only ids, one a line, for other commands
    Name,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputSettings {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// How much of a list is printed.
#[derive(Clone, Debug, Args)]
pub struct Paging {
    /// The most that are printed (1 to 1000000)
    #[arg(long, default_value = "100", value_parser = whole(1..=1_000_000_usize))]
    pub limit: usize,
    /// Print all of them
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Go on where a list has ended, with the cursor that it named
    #[arg(long)]
    pub cursor: Option<String>,
}

impl Paging {
    /// The most that are printed.
    pub fn limit(&self) -> usize {
        if self.all { usize::MAX } else { self.limit }
    }

    /// Says where a list goes on that has ended at its limit.
    pub fn more(next: Option<&str>) {
        if let Some(cursor) = next {
            eprintln!("There are more: --cursor {cursor} goes on, --all prints them all.");
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Text {
    content: String,
    colour: Option<Color>,
    /// Whether it is shown whole, however long it is.
    whole: bool,
}

impl Text {
    /// One that says that all is well.
    pub fn good(text: String) -> Self {
        Self { content: text, colour: Some(Color::Green), whole: false }
    }

    /// One that deserves a look.
    pub fn doubtful(text: String) -> Self {
        Self { content: text, colour: Some(Color::Yellow), whole: false }
    }

    /// One of ours, which is never cut.
    pub fn whole(text: String) -> Self {
        Self { content: text, colour: None, whole: true }
    }

    /// One that says that something is wrong.
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

/// Something that is printed.
#[derive(Clone, Debug)]
pub struct Row {
    /// What other commands call it by.
    pub name: String,
    /// For the columns of the table.
    pub cells: Vec<Text>,
    /// All that is known of it.
    pub json: Box<RawValue>,
}

impl Row {
    /// A row about something that is not JSON yet.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn new(name: &str, cells: Vec<Text>, about: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self { name: name.to_string(), cells, json: serde_json::value::to_raw_value(about)? })
    }
}

/// Prints a list, page by page.
#[derive(Debug)]
pub struct List {
    format: Format,
    columns: &'static [&'static str],
    printed: usize,
}

impl List {
    /// An empty list.
    pub fn new(format: Format, columns: &'static [&'static str]) -> Self {
        Self { format, columns, printed: 0 }
    }

    /// How it is printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints the next rows.
    ///
    /// # Errors
    /// The output is closed.
    pub fn rows(&mut self, rows: &[Row]) -> anyhow::Result<()> {
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
                    line(&format!("{before}{}", row.json.get()))?;
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

    /// Ends the list. `none` says that it is empty.
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

/// Prints one thing. `table` is how people read it.
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
        Format::Json => line(json.get()),
        Format::Yaml => line(yaml::document(json)?.trim_end()),
        Format::Name => line(name),
    }
}

/// A table, with a line of headings if there are any.
pub fn table(headings: Option<&[&str]>, rows: &[Row]) -> String {
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

/// Whether standard output takes colours: a terminal does, unless `NO_COLOR` or `TERM=dumb` says otherwise.
fn colours() -> bool {
    !matches!(anstream::AutoStream::choice(&std::io::stdout()), anstream::ColorChoice::Never)
}

/// A text of others for a terminal: on one line, without control characters, and not too long.
fn harmless(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == most {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Prints a line.
///
/// # Errors
/// The output is closed.
pub fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("the output is closed")
}

/// A server that did not do what it was asked, through no fault of the request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReached(pub String);

/// How a command ends that has failed; `None` if only the reader of its output has gone.
pub fn ended_by(error: &anyhow::Error) -> Option<Ended> {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::BrokenPipe
        {
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

/// Whether the database said so.
pub fn is_of_database(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<StoreError>() || cause.is::<MigrateError>() || cause.is::<SchemaError>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_does_nothing_to_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J\nb\u{9b}", 80), "a\\u{1b}[2J\\nb\\u{9b}");
        assert_eq!(harmless(&"x".repeat(200), 80).chars().count(), 81);
    }

    #[test]
    fn columns_begin_below_each_other() {
        let row = |name: &str| {
            Row::new(name, vec![name.to_owned().into(), Text::bad("x".to_owned())], &name)
        };
        let rows = [row("a").unwrap(), row("寿司").unwrap()];
        let text = table(Some(&["ID", "RESULT"]), &rows);
        assert_eq!(text, "ID    RESULT\na     x\n寿司  x");
    }
}
