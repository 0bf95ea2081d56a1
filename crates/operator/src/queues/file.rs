//! The file that lists queues.
//!
//! ```yaml
//! queues:
//!   - namespace: shop          # where the HPA is
//!     queue: orders            # label `queue`
//!     release: holdfast        # label `release`
//!     labels: {team: checkout} # more labels
//!     redisUrlFile: /etc/holdfast/redis/shop   # or redisUrl: redis://redis.shop:6379
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use holdfast_redis::RedisUrl;
use serde::Deserialize;

use crate::{
    bounded_file::{ReadError, read_text},
    kubernetes_names::{is_dns_label, is_label_key, is_label_value},
};

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;
/// The most queues of an operator.
const QUEUES_MAX: usize = 1000;

/// Why a list of queues cannot be used. The sentences name the field.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not YAML, or it has unknown fields, or fields are missing.
    #[error("{path} is not a list of queues: {reason}")]
    Syntax {
        path: PathBuf,
        /// The error, with its line.
        reason: String,
    },
    /// A field's value is wrong.
    #[error("{path}: queues[{index}].{field} {must}")]
    Field {
        path: PathBuf,
        /// The queue, counted from 0.
        index: usize,
        field: String,
        /// What its value must be.
        must: &'static str,
    },
    /// The list as a whole is wrong.
    #[error("{path}: queues {must}")]
    List {
        path: PathBuf,
        /// What it must be.
        must: &'static str,
    },
}

/// A queue in the list.
#[derive(Clone, Debug)]
pub struct QueueEntry {
    /// The namespace of its HPA.
    pub namespace: String,
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Its Redis; `None` if the file with the URL cannot be read or has no URL, which is logged. This must not affect
    /// the other queues of the list.
    pub redis_url: Option<RedisUrl>,
}

impl QueueEntry {
    pub fn one(namespace: &str, release: &str, redis_url: RedisUrl) -> Self {
        let labels = [("queue", super::ORDERS), ("release", release)];
        Self {
            namespace: namespace.to_owned(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            redis_url: Some(redis_url),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueuesFile {
    queues: Vec<RawQueueEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawQueueEntry {
    namespace: String,
    #[serde(default = "orders")]
    queue: String,
    #[serde(default = "holdfast")]
    release: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    redis_url: Option<String>,
    redis_url_file: Option<PathBuf>,
}

fn orders() -> String {
    super::ORDERS.to_owned()
}

fn holdfast() -> String {
    "holdfast".to_owned()
}

/// Reads the file, and the files with URLs that it names.
pub async fn read(path: &Path) -> Result<Vec<QueueEntry>, FileError> {
    let text = read_text(path, BYTES_MAX).await?;
    let document: QueuesFile = serde_saphyr::from_str(&text).map_err(|error| {
        let reason = error.to_string();
        // The first line describes the error. The others quote the text, which may contain a password.
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        FileError::Syntax { path: path.to_owned(), reason }
    })?;
    let list = |must| FileError::List { path: path.to_owned(), must };
    if document.queues.len() > QUEUES_MAX {
        return Err(list("must have at most 1000 entries"));
    }
    let mut listed = Vec::with_capacity(document.queues.len());
    let mut seen = BTreeSet::new();
    for (index, entry) in document.queues.into_iter().enumerate() {
        let queue = entry.listed().await.map_err(|(field, must)| FileError::Field {
            path: path.to_owned(),
            index,
            field,
            must,
        })?;
        if !seen.insert((queue.namespace.clone(), queue.labels.clone())) {
            return Err(list("must differ in their namespace or in a label"));
        }
        listed.push(queue);
    }
    Ok(listed)
}

impl RawQueueEntry {
    async fn listed(self) -> Result<QueueEntry, (String, &'static str)> {
        let wrong = |field: &str, must| Err((field.to_owned(), must));
        if !is_dns_label(&self.namespace) {
            return wrong("namespace", "must be the name of a namespace");
        }
        let mut labels = self.labels;
        for (field, value) in [("queue", self.queue), ("release", self.release)] {
            if labels.insert(field.to_owned(), value).is_some() {
                return wrong("labels", "must not repeat queue or release");
            }
        }
        for (key, value) in &labels {
            let field = match key.as_str() {
                "queue" | "release" => key.clone(),
                other => format!("labels.{other}"),
            };
            if !is_label_key(key) || !is_label_value(value) {
                return Err((field, "must be a label that Kubernetes allows"));
            }
        }
        let redis_url = match (self.redis_url, self.redis_url_file) {
            (Some(url), None) => match url.parse() {
                Ok(url) => Some(url),
                Err(_) => return wrong("redisUrl", "must be the address of a Redis server"),
            },
            (None, Some(path)) => url_in(&path).await,
            _ => return wrong("redisUrl", "or redisUrlFile must be set, and not both"),
        };
        Ok(QueueEntry { namespace: self.namespace, labels, redis_url })
    }
}

async fn url_in(path: &Path) -> Option<RedisUrl> {
    let text = match read_text(path, BYTES_MAX).await {
        Ok(text) => text,
        Err(error) => {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "a queue's redisUrlFile cannot be used: requests for its metrics are refused");
            return None;
        }
    };
    let url = text.trim().parse().ok();
    if url.is_none() {
        tracing::warn!(
            path = %path.display(),
            "a queue's redisUrlFile contains no address of a Redis server: requests for its metrics are refused"
        );
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listed(text: &str) -> Result<Vec<QueueEntry>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queues.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path).await.map_err(|error| {
            let folder = format!("{}/", folder.path().display());
            holdfast_telemetry::Chain(&error).to_string().replace(&folder, "")
        })
    }

    #[tokio::test]
    async fn queues_are_listed_with_their_labels() {
        let queues = listed(
            "queues:\n\
             - {namespace: shop, redisUrl: 'redis://a'}\n\
             - {namespace: shop, queue: refunds, release: two, labels: {team: x}, redisUrl: 'redis://b'}\n",
        )
        .await
        .unwrap();
        assert_eq!(queues.len(), 2);
        assert_eq!(queues[0].namespace, "shop");
        assert_eq!(queues[0].labels["queue"], "orders");
        assert_eq!(queues[0].labels["release"], "holdfast");
        assert_eq!(queues[1].labels["team"], "x");
        assert_eq!(queues[1].redis_url.as_ref().unwrap().as_str(), "redis://b");
    }

    #[tokio::test]
    async fn json_is_yaml() {
        let text = r#"{"queues":[{"namespace":"shop","redisUrl":"redis://a"}]}"#;
        assert_eq!(listed(text).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_wrong_field_is_named() {
        for (text, sentence) in [
            (
                "queues: [{namespace: Shop, redisUrl: 'redis://a'}]",
                "queues.yaml: queues[0].namespace must be the name of a namespace",
            ),
            (
                "queues: [{namespace: shop, redisUrl: 'http://:hunter2@a'}]",
                "queues.yaml: queues[0].redisUrl must be the address of a Redis server",
            ),
            (
                "queues: [{namespace: shop}]",
                "queues.yaml: queues[0].redisUrl or redisUrlFile must be set, and not both",
            ),
            (
                "queues: [{namespace: shop, queue: a/b, redisUrl: 'redis://a'}]",
                "queues.yaml: queues[0].queue must be a label that Kubernetes allows",
            ),
            (
                "queues: [{namespace: shop, labels: {a: 'b c'}, redisUrl: 'redis://a'}]",
                "queues.yaml: queues[0].labels.a must be a label that Kubernetes allows",
            ),
            (
                "queues: [{namespace: a, redisUrl: 'redis://a'}, {namespace: a, redisUrl: 'redis://b'}]",
                "queues.yaml: queues must differ in their namespace or in a label",
            ),
        ] {
            assert_eq!(listed(text).await.unwrap_err(), sentence);
        }
    }

    #[tokio::test]
    async fn an_invalid_list_is_refused_without_showing_passwords() {
        for text in [
            "",
            "queues",
            "queues: {}",
            "queues: [{namespace: shop, redisUrl: 'redis://:hunter2@a', color: red}]",
            "queues: [{namespace: shop, redisUrl: ['redis://:hunter2@a']}]",
            "queue: []",
        ] {
            let sentence = listed(text).await.unwrap_err();
            assert!(sentence.starts_with("queues.yaml is not a list of queues: "), "{sentence}");
            assert!(!sentence.contains("hunter2"), "{sentence}");
        }
    }

    #[tokio::test]
    async fn a_missing_url_affects_only_its_own_queue() {
        let text = "queues: [{namespace: a, redisUrlFile: /nowhere}, {namespace: b, redisUrl: 'redis://b'}]";
        let queues = listed(text).await.unwrap();
        assert!(queues[0].redis_url.is_none());
        assert!(queues[1].redis_url.is_some());
    }
}
