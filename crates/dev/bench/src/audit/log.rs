//! The clients' own log: the initial stock, the accepted orders, and all other writes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use anyhow::{Context as _, bail};

use super::write::Write;
use crate::load::{Accepted, LoadReport};

const HEAD: &str = "# holdfast-bench log 1";

/// The facts that the clients know, independently of the database.
///
/// The file has a line for each fact: `stock PRODUCT UNITS`, `accepted ORDER PRODUCT QUANTITY`,
/// `answered WRITE`, `unanswered WRITE` and `refused WRITE` with the write as JSON, `fulfilled MESSAGE`, and
/// `cut_off ORDERS` at the end.
///
/// A client that gets no answer to a write to its own product, sale or key does not write to it again. An unanswered write
/// is therefore later than all answered ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Units of each product before the first order.
    pub initial_stock: BTreeMap<i64, i64>,
    /// Every order that was answered with 201.
    pub accepted: Vec<Accepted>,
    /// The number of orders that were sent, and not answered or answered with an unknown outcome. Each may or may not exist.
    pub cut_off: u64,
    /// Every other write that was answered with success, in the order of the answers.
    pub answered: Vec<Write>,
    /// Every other write that was sent, completely or in part, and not answered. Its effect may exist, but not in part.
    pub unanswered: Vec<Write>,
    /// Every other write that was refused. It must have no effect.
    pub refused: Vec<Write>,
    /// The messages (`webhook-id`) whose orders the receiver has fulfilled. Empty if there is no such receiver.
    pub fulfilled: BTreeSet<String>,
}

impl Log {
    /// All other writes, and whether they were answered. Answered writes come first.
    pub fn writes(&self) -> impl Iterator<Item = (&Write, bool)> {
        let unanswered = self.unanswered.iter().map(|write| (write, false));
        self.answered.iter().map(|write| (write, true)).chain(unanswered)
    }

    /// Adds the answers of a run of the load generator.
    pub fn add(&mut self, report: &LoadReport) {
        for group in &report.groups {
            self.accepted.extend_from_slice(&group.accepted);
            self.cut_off += group.cut_off + group.outcome_unknown;
        }
    }

    /// Writes the log as text.
    ///
    /// # Errors
    /// `out` fails.
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

    /// Reads a log that [`Self::write`] wrote.
    ///
    /// # Errors
    /// The text is not a log; the error names the line. A truncated file has no `cut_off` line at its end and is refused.
    pub fn read(input: impl BufRead) -> anyhow::Result<Self> {
        let mut log = Self::default();
        let mut complete = false;
        let mut lines = input.lines();
        if lines.next().transpose()?.as_deref() != Some(HEAD) {
            bail!("this is not a log: its first line is not `{HEAD}`");
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
                _ => bail!("line {number} is invalid: {line}"),
            }
        }
        if !complete {
            bail!("the log is truncated: its last line is missing");
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
        assert!(Log::read(&text[..cut]).unwrap_err().to_string().contains("truncated"));
        assert!(Log::read(&text[..cut - 4]).is_err(), "a truncated line");
        assert!(Log::read(&b"hello\n"[..]).is_err());
    }
}
