//! The keys that are good at the moment, in this process's memory.
//!
//! All of them are read anew every second or so: a revoked key stops within that time on every replica, and no request
//! costs a read of the database. While the database is away the last known ones stay good; nothing could be revoked
//! meanwhile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdfast_store::{ApiKey, Store, StoreError};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use parking_lot::RwLock;
use subtle::ConstantTimeEq as _;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{Caller, CallerIdentity, CredentialCheck, Scopes, api_key::Presented};

/// The keys that are good. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<RwLock<Option<Keys>>>,
    loaded: watch::Receiver<bool>,
}

type Keys = HashMap<Box<str>, KnownKey>;

struct KnownKey {
    hash: [u8; 32],
    expires_at: Option<Timestamp>,
    caller: Caller,
}

impl KeyRing {
    /// Begins to read the keys, every `interval` from now on, for as long as the runtime lives.
    pub fn follow(store: Store, interval: Duration) -> Self {
        let keys = Arc::new(RwLock::new(None));
        let (told, loaded) = watch::channel(false);
        let ring = Self { keys: Arc::clone(&keys), loaded };
        tokio::spawn(async move {
            let mut times = tokio::time::interval(interval);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut failing = false;
            loop {
                times.tick().await;
                match read(&store).await {
                    Ok(read) => {
                        *keys.write() = Some(read);
                        failing = false;
                        told.send_replace(true);
                    }
                    // Told once, not every second.
                    Err(error) if !failing => {
                        tracing::warn!(error = %Chain(&error), "the API keys cannot be read; those known stay good");
                        failing = true;
                    }
                    Err(_) => {}
                }
            }
        });
        ring
    }

    /// Waits until the keys have been read once.
    pub async fn loaded(&self) {
        // The sender lives as long as the runtime.
        let _ = self.loaded.clone().wait_for(|loaded| *loaded).await;
    }

    /// Judges a key. Takes as long for a wrong secret as for a right one, and for an unknown key.
    pub fn judge(&self, presented: &Presented<'_>) -> CredentialCheck {
        let keys = self.keys.read();
        let Some(keys) = &*keys else { return CredentialCheck::Unknown };
        let key = keys.get(presented.id);
        let hash = key.map_or([0; 32], |key| key.hash);
        let same = bool::from(hash.ct_eq(&presented.hash));
        match key {
            Some(key) if same && key.expires_at.is_none_or(|end| end > Timestamp::now()) => {
                CredentialCheck::Valid(key.caller.clone())
            }
            _ => CredentialCheck::Invalid,
        }
    }
}

async fn read(store: &Store) -> Result<Keys, StoreError> {
    let keys = store.live_api_keys().await?;
    Ok(keys.into_iter().map(|key| (key.id.clone().into_boxed_str(), KnownKey::from(key))).collect())
}

impl From<ApiKey> for KnownKey {
    fn from(key: ApiKey) -> Self {
        let known = CallerIdentity {
            id: format!("key:{}", key.id).into(),
            scopes: Scopes::among(key.scopes.iter().map(String::as_str)),
            customer: key.customer,
            rate: key.rate_per_second,
        };
        Self { hash: key.secret_sha256, expires_at: key.expires_at, caller: Arc::new(known).into() }
    }
}
