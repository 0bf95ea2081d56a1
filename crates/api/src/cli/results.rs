//! The results of a command for many ids. Each result is reported, and a failure does not stop the command.

use holdfast_telemetry::{Chain, command::Ended};
use serde::Serialize;

use super::output::{Format, ListOutput, OutputRow, Text, ended_by};

/// The width if the ids are not known in advance.
const ID_WIDTH: usize = 8;
/// The width of the longest result.
const RESULT_WIDTH: usize = "discarded".len();

/// The results so far.
#[derive(Debug)]
pub(super) struct Results {
    list: ListOutput,
    /// The width of the longest id, so that rows that are printed one by one are aligned.
    width: usize,
    done: usize,
    /// The end of the last failure.
    failed: Option<Ended>,
}

/// The result for one id.
#[derive(Serialize)]
struct Report<'a> {
    id: ResultId<'a>,
    /// What was done, `refused` or `failed`.
    #[serde(rename = "result")]
    what: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// An id, which is a number if it is numeric, as in the API.
#[derive(Serialize)]
#[serde(untagged)]
enum ResultId<'a> {
    Number(i64),
    Text(&'a str),
}

impl Results {
    /// The results for these ids.
    pub(super) fn new<T: ToString>(
        format: Format,
        columns: &'static [&'static str],
        ids: &[T],
    ) -> Self {
        let longest = ids.iter().map(|id| id.to_string().chars().count()).max();
        let heading = columns.first().map_or(0, |heading| heading.len());
        let width = longest.unwrap_or(ID_WIDTH).max(heading);
        Self { list: ListOutput::new(format, columns), width, done: 0, failed: None }
    }

    /// Reports a success. `-o name` prints only these.
    pub(super) fn done(&mut self, id: &str, result: &str, detail: &str) -> anyhow::Result<()> {
        self.done += 1;
        self.list.rows(&[self.row(id, Text::good, result, detail)?])
    }

    /// Reports an id for which the operation is not possible.
    pub(super) fn refused(&mut self, id: &str, why: &str) -> anyhow::Result<()> {
        self.failed = self.failed.or(Some(Ended::Failed));
        self.not_done(id, "refused", why)
    }

    /// Reports a failure.
    pub(super) fn failed(&mut self, id: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        self.failed = Some(ended_by(error).unwrap_or(Ended::Failed));
        self.not_done(id, "failed", &Chain(error.as_ref()).to_string())
    }

    /// Reports an id that was skipped, because the servers are not available.
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

    /// Whether the servers are available, as far as is known.
    pub(super) fn is_reachable(&self) -> bool {
        self.failed != Some(Ended::Unreachable)
    }

    fn row(
        &self,
        id: &str,
        shown: fn(String) -> Text,
        what: &str,
        detail: &str,
    ) -> anyhow::Result<OutputRow> {
        let number = id.parse().map_or(ResultId::Text(id), ResultId::Number);
        let about = Report { id: number, what, detail };
        let width = self.width;
        let cells = vec![
            format!("{id:<width$}").into(),
            shown(format!("{what:<RESULT_WIDTH$}")),
            Text::whole(detail.to_owned()),
        ];
        OutputRow::new(id, cells, &about)
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
