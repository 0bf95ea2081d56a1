//! The messages between replicas over the channel, as text that is readable in `redis-cli subscribe`.
//!
//! ```text
//! <sender> fence 12:7,13:9             about to commit version 7 of product 12, and 9 of 13
//! <sender> stock 12:6:7:498            committed: from version 6 to 7 only the stock changed, to 498
//! <sender> drop 12:7                   committed: version 7 of product 12
//! <sender> flush                       forget everything
//! ```
//! A replica that does not understand a message, because a different release sent it, must forget
//! everything.

use std::fmt::Write as _;

use crate::entry::StockChange;

/// The most products named in one message.
pub(crate) const MESSAGE_ITEMS: usize = 512;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeMessage {
    Fence(Vec<(i64, i64)>),
    Stock(Vec<StockChange>),
    Drop(Vec<(i64, i64)>),
    Flush,
}

pub(crate) fn fence(sender: &str, items: &[(i64, i64)]) -> String {
    versions(sender, "fence", items)
}

pub(crate) fn dropped(sender: &str, items: &[(i64, i64)]) -> String {
    versions(sender, "drop", items)
}

pub(crate) fn flush(sender: &str) -> String {
    format!("{sender} flush")
}

pub(crate) fn stock(sender: &str, changes: &[StockChange]) -> String {
    let mut text = format!("{sender} stock ");
    for (n, c) in changes.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{}:{}:{}:{}", c.id, c.previous_version, c.version, c.stock);
    }
    text
}

fn versions(sender: &str, kind: &str, items: &[(i64, i64)]) -> String {
    let mut text = format!("{sender} {kind} ");
    for (n, (id, version)) in items.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{id}:{version}");
    }
    text
}

/// The sender and the message; the message is `None` if it is not understood.
pub(crate) fn parse(payload: &str) -> (&str, Option<ChangeMessage>) {
    let (sender, rest) = payload.split_once(' ').unwrap_or((payload, ""));
    let (kind, items) = rest.split_once(' ').unwrap_or((rest, ""));
    let message = match kind {
        "fence" => pairs(items).map(ChangeMessage::Fence),
        "drop" => pairs(items).map(ChangeMessage::Drop),
        "stock" => each(items, |[id, previous_version, version, stock]| StockChange {
            id,
            previous_version,
            version,
            stock,
        })
        .map(ChangeMessage::Stock),
        "flush" if items.is_empty() => Some(ChangeMessage::Flush),
        _ => None,
    };
    (sender, message)
}

fn pairs(items: &str) -> Option<Vec<(i64, i64)>> {
    each(items, |[id, version]| (id, version))
}

fn each<const N: usize, T>(items: &str, make: impl Fn([i64; N]) -> T) -> Option<Vec<T>> {
    let one = |item: &str| {
        let mut numbers = [0; N];
        let mut parts = item.split(':');
        for number in &mut numbers {
            *number = parts.next()?.parse().ok()?;
        }
        parts.next().is_none().then(|| make(numbers))
    };
    items.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_message_is_read_back() {
        let pairs = vec![(12, 7), (i64::MAX, i64::MIN)];
        assert_eq!(parse(&fence("a", &pairs)), ("a", Some(ChangeMessage::Fence(pairs.clone()))));
        assert_eq!(parse(&dropped("b", &pairs)), ("b", Some(ChangeMessage::Drop(pairs))));
        assert_eq!(parse(&flush("c")), ("c", Some(ChangeMessage::Flush)));
        let changes = vec![
            StockChange { id: 1, previous_version: 2, version: 3, stock: 0 },
            StockChange { id: 4, previous_version: 5, version: 9, stock: 100 },
        ];
        assert_eq!(parse(&stock("d", &changes)), ("d", Some(ChangeMessage::Stock(changes))));
    }

    #[test]
    fn an_unknown_message_is_recognized_and_its_sender_is_known() {
        for text in [
            "me",
            "me ",
            "me what 1:2",
            "me fence",
            "me fence 1",
            "me fence 1:2:3",
            "me fence 1:x",
            "me stock 1:2:3",
            "me flush all",
            "me drop 1:2,",
            "me drop 99999999999999999999:1",
        ] {
            assert_eq!(parse(text), ("me", None), "{text}");
        }
    }
}
