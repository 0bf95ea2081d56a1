//! Events of a FlashSale, as shown by `kubectl describe`: one for each change of the phase, and one when the sale
//! stalls, when the reason changes, and when it recovers.

use kube::runtime::events::{Event, EventType};

use super::resource::FlashSaleStatus;

/// The longest note that an event may have, in bytes.
const NOTE_MAX: usize = 1024;

/// The events for the difference between two statuses.
pub fn changes(before: Option<&FlashSaleStatus>, now: &FlashSaleStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let stalled = |status: &FlashSaleStatus| {
        let condition = status.conditions.iter().find(|it| it.kind == "Stalled").cloned();
        condition.filter(|it| it.status == "True")
    };
    let (was, is) = (before.and_then(stalled), stalled(now));
    // A sale that stalls gets only one event, without one for its phase.
    if let Some(phase) = now.phase
        && before.and_then(|before| before.phase) != Some(phase)
        && !(phase.is_not_written() && is.is_some())
    {
        let note = now.conditions.first().map(|it| it.message.clone()).unwrap_or_default();
        events.push(event(EventType::Normal, format!("{phase:?}"), note));
    }
    match (was, is) {
        (was, Some(is)) if was.as_ref().map(|was| &was.reason) != Some(&is.reason) => {
            events.push(event(EventType::Warning, is.reason, is.message));
        }
        (Some(_), None) => {
            let note = "The sale is no longer stalled".to_owned();
            events.push(event(EventType::Normal, "Recovered".to_owned(), note));
        }
        _ => {}
    }
    events
}

fn event(type_: EventType, reason: String, mut note: String) -> Event {
    note.truncate(note.floor_char_boundary(NOTE_MAX));
    Event { type_, reason, note: Some(note), action: "Reconcile".to_owned(), secondary: None }
}
