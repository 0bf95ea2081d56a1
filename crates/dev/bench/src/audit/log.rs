//! The clients' own log: what was in stock, which orders they were told are accepted, and each other write.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use anyhow::{Context as _, bail};

use super::write::Write;
use crate::load::{Accepted, LoadReport};

const HEAD: &str = "# holdfast-bench log 1";

/// What the clients know, independent of the database.
///
/// As a file it has a line for each fact: `stock PRODUCT UNITS`, `accepted ORDER PRODUCT QUANTITY`,
/// `answered WRITE`, `unanswered WRITE` and `refused WRITE` with the write as JSON, `fulfilled MESSAGE`, and
/// `cut_off ORDERS` at the end.
///
/// A client that is not told the outcome of a write to a product, a sale or a key of its own does not write to it
/// again: so whatever is unanswered comes after all that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Units of each product before the first order.
    pub initial_stock: BTreeMap<i64, i64>,
    /// Every order that was answered with 201.
    pub accepted: Vec<Accepted>,
    /// Orders that were sent and never answered: each may be there or not.
    pub cut_off: u64,
    /// Every other write that was answered with success, in the order of the answers.
    pub answered: Vec<Write>,
    /// Every other write that was sent, wholly or in part, and not answered: each may be there, but not in part.
    pub unanswered: Vec<Write>,
    /// Every other write that was answered with a refusal: none may be there.
    pub refused: Vec<Write>,
    /// The messages whose orders the receiver has fulfilled, by `webhook-id`. Empty if there is none that says so.
    pub fulfilled: BTreeSet<String>,
}

impl Log {
    /// Each other write, and whether it was answered; those that were come first.
    pub fn writes(&self) -> impl Iterator<Item = (&Write, bool)> {
        let unanswered = self.unanswered.iter().map(|write| (write, false));
        self.answered.iter().map(|write| (write, true)).chain(unanswered)
    }

    /// Adds what a run of the generator was told.
    pub fn add(&mut self, report: &LoadReport) {
        for group in &report.groups {
            self.accepted.extend_from_slice(&group.accepted);
            self.cut_off += group.cut_off;
        }
    }

    /// Writes it as text.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        writeln!(out, "{HEAD}")?;
        for (product_id, units) in &self.initial_stock {
            writeln!(out, "stock {product_id} {units}")?;
        }
        for order in &self.accepted {
            writeln!(out, "accepted {} {} {}", order.id, order.product_id, order.quantity)?;
        }
        for (kind, writes) in [
            ("answered", &self.answered),
            ("unanswered", &self.unanswered),
            ("refused", &self.refused),
        ] {
            for write in writes {
                writeln!(out, "{kind} {}", serde_json::to_string(write)?)?;
            }
        }
        for message in &self.fulfilled {
            writeln!(out, "fulfilled {message}")?;
        }
        writeln!(out, "cut_off {}", self.cut_off)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When it is something else; the error names the line. A file that was cut short has no
    /// `cut_off` line at its end, and is refused.
    pub fn read(input: impl BufRead) -> anyhow::Result<Self> {
        let mut log = Self::default();
        let mut complete = false;
        let mut lines = input.lines();
        if lines.next().transpose()?.as_deref() != Some(HEAD) {
            bail!("this is no log: its first line is not `{HEAD}`");
        }
        for (number, line) in (2..).zip(lines) {
            let line = line?;
            let (kind, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let written =
                || serde_json::from_str(rest).with_context(|| format!("line {number}: {line}"));
            if kind == "fulfilled" {
                log.fulfilled.insert(rest.to_owned());
                continue;
            }
            let writes = match kind {
                "answered" => Some(&mut log.answered),
                "unanswered" => Some(&mut log.unanswered),
                "refused" => Some(&mut log.refused),
                _ => None,
            };
            if let Some(writes) = writes {
                writes.push(written()?);
                continue;
            }
            let numbers = rest.split(' ').map(str::parse).collect::<Result<Vec<i64>, _>>();
            match (kind, numbers.as_deref()) {
                ("stock", Ok(&[product_id, units])) => {
                    log.initial_stock.insert(product_id, units);
                }
                ("accepted", Ok(&[id, product_id, quantity])) => {
                    let quantity = i32::try_from(quantity)
                        .with_context(|| format!("line {number}: a quantity of {quantity}"))?;
                    log.accepted.push(Accepted { id, product_id, quantity });
                }
                ("cut_off", Ok(&[orders])) => {
                    log.cut_off += u64::try_from(orders)
                        .with_context(|| format!("line {number}: {orders} orders cut off"))?;
                    complete = true;
                }
                _ => bail!("line {number} is not understood: {line}"),
            }
        }
        if !complete {
            bail!("the log was cut short: its last line is missing");
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_log_is_read_back_and_a_truncated_one_is_detected() {
        let log = Log {
            initial_stock: BTreeMap::from([(1, 100), (2, 50)]),
            accepted: vec![Accepted { id: 9, product_id: 2, quantity: 3 }],
            cut_off: 4,
            answered: vec![Write::DeleteProduct { id: 7 }],
            unanswered: vec![Write::DeleteSale { name: "a b".into() }],
            refused: vec![Write::ReleaseHold { id: 8 }],
            fulfilled: ["order_9_00000000000000ff".to_owned()].into(),
        };
        let mut text = Vec::new();
        log.write(&mut text).unwrap();
        assert_eq!(Log::read(&text[..]).unwrap(), log);

        let cut = text.len() - "cut_off 4\n".len();
        assert!(Log::read(&text[..cut]).unwrap_err().to_string().contains("cut short"));
        assert!(Log::read(&text[..cut - 4]).is_err(), "a line in half");
        assert!(Log::read(&b"hello\n"[..]).is_err());
    }
}
