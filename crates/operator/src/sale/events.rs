//! Events on a sale: what `kubectl describe` shows. One at a transition, none in between.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, Resource as _, ResourceExt as _, api::PostParams, core::ObjectMeta};

use super::resource::{FlashSale, FlashSaleStatus};
use crate::calls::{CallError, call};

/// The longest note that an event may have, in bytes.
const NOTE_MAX: usize = 1024;

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether somebody should look.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// For people.
    pub note: String,
}

/// What has turned between two statuses: the phase, and what is stalled.
pub fn turned(before: Option<&FlashSaleStatus>, now: &FlashSaleStatus) -> Vec<Told> {
    let mut told = Vec::new();
    let stalled = |status: &FlashSaleStatus| {
        let condition = status.conditions.iter().find(|it| it.kind == "Stalled").cloned();
        condition.filter(|it| it.status == "True")
    };
    if let Some(phase) = now.phase
        && before.and_then(|before| before.phase) != Some(phase)
    {
        let note = now.conditions.first().map(|it| it.message.clone()).unwrap_or_default();
        told.push(Told { warning: false, reason: format!("{phase:?}"), note });
    }
    let earlier = before.and_then(stalled).map(|it| it.reason);
    match stalled(now) {
        Some(now) if earlier.as_ref() != Some(&now.reason) => {
            told.push(Told { warning: true, reason: now.reason, note: now.message });
        }
        None if earlier.is_some() => {
            let note = "it goes on by itself again".to_owned();
            told.push(Told { warning: false, reason: "Recovered".to_owned(), note });
        }
        _ => {}
    }
    told
}

/// Puts an event on a sale.
///
/// # Errors
/// The API server does not answer, or refuses.
pub async fn tell(
    client: &Client,
    identity: &str,
    sale: &FlashSale,
    told: &Told,
) -> Result<(), CallError> {
    let namespace = sale.namespace().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let mut note = told.note.clone();
    while note.len() > NOTE_MAX {
        note.pop();
    }
    let regarding = ObjectReference {
        api_version: Some(FlashSale::api_version(&()).into_owned()),
        kind: Some(FlashSale::kind(&()).into_owned()),
        name: Some(sale.name_any()),
        namespace: Some(namespace),
        uid: sale.uid(),
        resource_version: sale.resource_version(),
        ..ObjectReference::default()
    };
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", sale.name_any())),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(note),
        reason: Some(told.reason.clone()),
        regarding: Some(regarding),
        reporting_controller: Some("holdfast.dev/operator".to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        type_: Some(if told.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    call(events.create(&PostParams::default(), &event)).await.map(drop)
}
