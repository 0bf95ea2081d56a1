//! Shows new warnings and errors of a child's log on the terminal.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio::task::JoinHandle;

use crate::terminal;

const POLL: Duration = Duration::from_millis(200);
/// The most bytes that are read at once. More are skipped, because nobody can read that fast.
const POLL_BYTES_MAX: u64 = 256 * 1024;
const POLL_LINES_MAX: usize = 10;
const LINE_CHARS_MAX: usize = 400;

/// Watches new lines until aborted. The start has handled earlier lines.
pub(crate) fn watch(name: &'static str, log: PathBuf) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut position = tokio::fs::metadata(&log).await.map_or(0, |log| log.len());
        loop {
            tokio::time::sleep(POLL).await;
            if let Ok((text, end)) = read_new(&log, position).await {
                position = end;
                show(name, &text);
            }
        }
    })
}

/// The complete lines after `position`, and the position of their end.
async fn read_new(log: &PathBuf, position: u64) -> std::io::Result<(String, u64)> {
    let mut file = tokio::fs::File::open(log).await?;
    let length = file.metadata().await?.len();
    let start = position.max(length.saturating_sub(POLL_BYTES_MAX));
    file.seek(SeekFrom::Start(start)).await?;
    let mut bytes = Vec::new();
    file.take(POLL_BYTES_MAX).read_to_end(&mut bytes).await?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes.truncate(whole);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), start + whole as u64))
}

fn show(name: &str, text: &str) {
    let mut lines = text.lines().filter(|line| is_alarming(line));
    for line in lines.by_ref().take(POLL_LINES_MAX) {
        let short: String = readable(line).chars().take(LINE_CHARS_MAX).collect();
        terminal::complain(&format!("{name} | {short}"));
    }
    let more = lines.count();
    if more > 0 {
        terminal::complain(&format!("{name} | … and {more} more warnings in the log"));
    }
}

/// Whether a line has the level WARN or ERROR, as JSON or as text, or is from a panic.
fn is_alarming(line: &str) -> bool {
    const LEVELS: [&str; 2] = ["WARN", "ERROR"];
    if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
        let level = fields.get("level").and_then(Value::as_str);
        return level.is_some_and(|level| LEVELS.contains(&level));
    }
    line.contains("panicked at") || line.split_whitespace().take(3).any(|it| LEVELS.contains(&it))
}

/// A line of JSON in readable form: the level, the message and the fields.
fn readable(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return line.to_owned() };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let head = format!("{} {}", text("level"), text("message"));
    let about = fields.iter().filter(|(name, _)| !["timestamp", "target"].contains(&name.as_str()));
    let about = about.map(|(name, value)| match value {
        Value::String(text) => format!(", {name}: {text}"),
        other => format!(", {name}: {other}"),
    });
    head + &about.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_errors_and_panics_are_reported() {
        assert!(is_alarming("2026-01-01T00:00:00Z  WARN holdfast_api: slow"));
        assert!(is_alarming(r#"{"level":"ERROR","fields":{"message":"no"}}"#));
        assert!(is_alarming("thread 'main' (1) panicked at src/main.rs:1:1:"));
        assert!(!is_alarming("2026-01-01T00:00:00Z  INFO holdfast_api: a client sent ERROR"));
        assert!(!is_alarming(r#"{"level":"INFO","fields":{"message":"ERROR"}}"#));
    }

    #[test]
    fn a_line_is_shown_without_json() {
        let line = r#"{"timestamp":"2026","level":"WARN","message":"slow","error":"no route","target":"x"}"#;
        assert_eq!(readable(line), "WARN slow, error: no route");
        assert_eq!(readable("thread 'main' panicked at x"), "thread 'main' panicked at x");
    }

    #[tokio::test]
    async fn reading_continues_after_the_last_complete_line() {
        let log = std::env::temp_dir().join(format!("log-watch-{}", std::process::id()));
        std::fs::write(&log, "one\ntwo\nhal").unwrap();
        let (text, end) = read_new(&log, 4).await.unwrap();
        assert_eq!((text.as_str(), end), ("two\n", 8));
        std::fs::write(&log, "one\ntwo\nhalf\n").unwrap();
        let (text, end) = read_new(&log, end).await.unwrap();
        assert_eq!((text.as_str(), end), ("half\n", 13));
        std::fs::remove_file(&log).unwrap();
    }
}
