//! API keys that clients have created and revoked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{FromRow, PgConnection};

use super::write::Write;
use super::{Findings, Log};

/// A key in the database.
#[derive(FromRow)]
struct AuditedApiKey {
    id: String,
    name: String,
    scopes: Vec<String>,
    revoked: bool,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let (mut asked, mut made, mut revoked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (write, answered) in log.writes() {
        match write {
            Write::CreateApiKey { name, scopes, id } => {
                asked.insert(name.as_str(), scopes);
                made.extend(id.as_deref().map(|id| (id, name.as_str())));
            }
            Write::RevokeApiKey { id } => *revoked.entry(id.as_str()).or_default() |= answered,
            _ => {}
        }
    }
    let keys = keys(connection, &asked.keys().copied().collect::<Vec<_>>()).await?;
    let (mut lost, mut good) = (Vec::new(), Vec::new());
    for (id, name) in &made {
        let Some(key) = keys.get(*id).filter(|key| key.name == *name) else {
            lost.push(format!("key {id} `{name}` does not exist"));
            continue;
        };
        if revoked.get(id) == Some(&true) && !key.revoked {
            good.push(format!("key {id}"));
        }
    }
    let (mut seen, mut twice, mut parts, mut unasked) =
        (BTreeSet::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, key) in &keys {
        if !seen.insert(key.name.as_str()) {
            twice.push(format!("`{}`", key.name));
        }
        if asked.get(key.name.as_str()) != Some(&&key.scopes) {
            let found = if made.contains_key(id.as_str()) { &mut lost } else { &mut parts };
            found.push(format!("key {id} allows {:?}", key.scopes));
        }
        if key.revoked && !revoked.contains_key(id.as_str()) {
            unasked.push(format!("key {id}"));
        }
    }
    findings.missing("revoked keys are valid", good);
    findings.missing("answered keys are missing or differ from the request", lost);
    findings.broken("keys were requested once and exist twice", twice);
    findings.broken("unanswered keys exist in part", parts);
    findings.broken("keys are revoked without a request", unasked);
    Ok(())
}

async fn keys(
    connection: &mut PgConnection,
    names: &[&str],
) -> anyhow::Result<HashMap<String, AuditedApiKey>> {
    let keys: Vec<AuditedApiKey> = sqlx::query_as(
        "SELECT id, name, scopes, revoked_at IS NOT NULL AS revoked FROM api_keys \
         WHERE name = ANY($1)",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    Ok(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
}
