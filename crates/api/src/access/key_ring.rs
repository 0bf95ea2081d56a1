//! The valid keys, in memory.
//!
//! All keys are read about once per second. A revoked key is refused within that time on every replica, and requests do
//! not read the database. While the database is not available, the last known keys stay valid; none can be revoked
//! meanwhile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdfast_store::{ApiKey, Store, StoreError};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use parking_lot::RwLock;
use subtle::ConstantTimeEq as _;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{Caller, CallerIdentity, CredentialCheck, Scopes, api_key::Presented};

/// The valid keys. Cheap to clone.
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
    /// Reads the keys every `interval` until the runtime ends.
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
                    // Logged once, not every second.
                    Err(error) if !failing => {
                        tracing::warn!(error = %Chain(&error), "the API keys cannot be read; the last known keys stay valid");
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
        // The sender is dropped only with the runtime.
        let _ = self.loaded.clone().wait_for(|loaded| *loaded).await;
    }

    /// Checks a key. A wrong secret, a right secret and an unknown key take the same time.
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
