//! The results of a command that does the same to many things: each is reported, and one that fails does not keep the
//! next from being done.

use holdfast_telemetry::{Chain, command::Ended};
use serde::Serialize;

use super::output::{Format, List, Row, Text, ended_by};

/// For ids that are not known before.
const ID_WIDTH: usize = 8;
/// Of the longest result.
const RESULT_WIDTH: usize = "discarded".len();

/// What became of the things so far.
#[derive(Debug)]
pub(super) struct Results {
    list: List,
    /// Of the longest id, so that rows that are printed one by one begin below each other.
    width: usize,
    done: usize,
    /// How the last one that failed did.
    failed: Option<Ended>,
}

/// What became of one.
#[derive(Serialize)]
struct Report<'a> {
    id: Id<'a>,
    /// What was done, or `refused` or `failed`.
    #[serde(rename = "result")]
    what: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// A number where it is one, as in the API.
#[derive(Serialize)]
#[serde(untagged)]
enum Id<'a> {
    Number(i64),
    Text(&'a str),
}

impl Results {
    /// For things with these ids.
    pub(super) fn new<T: ToString>(
        format: Format,
        columns: &'static [&'static str],
        ids: &[T],
    ) -> Self {
        let longest = ids.iter().map(|id| id.to_string().chars().count()).max();
        let heading = columns.first().map_or(0, |heading| heading.len());
        let width = longest.unwrap_or(ID_WIDTH).max(heading);
        Self { list: List::new(format, columns), width, done: 0, failed: None }
    }

    /// One is done. With `-o name`, those are printed.
    pub(super) fn done(&mut self, id: &str, result: &str, detail: &str) -> anyhow::Result<()> {
        self.done += 1;
        self.list.rows(&[self.row(id, Text::good, result, detail)?])
    }

    /// One cannot be done, whenever it is tried.
    pub(super) fn refused(&mut self, id: &str, why: &str) -> anyhow::Result<()> {
        self.failed = self.failed.or(Some(Ended::Failed));
        self.not_done(id, "refused", why)
    }

    /// One was tried without success.
    pub(super) fn failed(&mut self, id: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        self.failed = Some(ended_by(error).unwrap_or(Ended::Failed));
        self.not_done(id, "failed", &Chain(error.as_ref()).to_string())
    }

    /// One was not tried, because the servers are not there.
    pub(super) fn skipped(&mut self, id: &str) -> anyhow::Result<()> {
        self.not_done(id, "not tried", "")
    }

    fn not_done(&mut self, id: &str, result: &str, why: &str) -> anyhow::Result<()> {
        if self.list.format() == Format::Name {
            eprintln!("{id}: {result}: {why}");
            return Ok(());
        }
        self.list.rows(&[self.row(id, Text::bad, result, why)?])
    }

    /// Whether the servers are there, as far as is known.
    pub(super) fn is_reachable(&self) -> bool {
        self.failed != Some(Ended::Unreachable)
    }

    fn row(
        &self,
        id: &str,
        shown: fn(String) -> Text,
        what: &str,
        detail: &str,
    ) -> anyhow::Result<Row> {
        let number = id.parse().map_or(Id::Text(id), Id::Number);
        let about = Report { id: number, what, detail };
        let width = self.width;
        let cells = vec![
            format!("{id:<width$}").into(),
            shown(format!("{what:<RESULT_WIDTH$}")),
            detail.to_owned().into(),
        ];
        Row::new(id, cells, &about)
    }

    pub(super) fn end(self) -> anyhow::Result<Ended> {
        self.list.end("There was nothing to do.")?;
        Ok(match (self.done, self.failed) {
            (_, None) => Ended::Done,
            (0, Some(failed)) => failed,
            _ => Ended::Partly,
        })
    }
}
