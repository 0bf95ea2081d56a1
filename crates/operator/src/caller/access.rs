//! Whether a caller may have what they ask for: the API server decides, by a SubjectAccessReview.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_telemetry::metrics::IntCounterVec;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use quick_cache::sync::Cache;
use tokio::time::timeout;

use super::User;
use crate::external::{GROUP, VERSION};

/// The longest wait for a verdict.
const REVIEW_LIMIT: Duration = Duration::from_secs(5);
/// The most verdicts that are kept.
const KEPT_MAX: usize = 1000;
/// Whoever is of this group may do anything, and the API server's own probes are: they must not
/// depend on a review.
const MASTERS: &str = "system:masters";

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// To read a metric's values in a namespace. To Kubernetes that is a `list`.
    Metric {
        /// Where.
        namespace: String,
        /// The metric's name.
        metric: String,
    },
    /// To read a document that is not a resource's.
    Document {
        /// The path of the request.
        path: String,
    },
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
    /// It refused to say.
    #[error("the API server did not review the access")]
    Review(#[source] Box<kube::Error>),
    /// Its answer has no verdict.
    #[error("the API server's review has no verdict")]
    NoVerdict,
}

/// Asks for verdicts, and remembers them for a short time.
pub struct Access {
    reviews: Api<SubjectAccessReview>,
    kept: Cache<Arc<(User, Wish)>, (Instant, bool)>,
    keep: Duration,
    counted: IntCounterVec,
}

impl Access {
    /// Verdicts are believed for `keep`. `counted` has the label `verdict`.
    pub fn new(client: Client, keep: Duration, counted: IntCounterVec) -> Self {
        Self { reviews: Api::all(client), kept: Cache::new(KEPT_MAX), keep, counted }
    }

    /// Whether `user` may do that. Takes at most five seconds. Cancellation safe.
    ///
    /// # Errors
    /// There is no verdict: then they may not.
    pub async fn may(&self, user: &User, wish: Wish) -> Result<bool, AccessError> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(true);
        }
        // A cluster whose discovery cannot be read deletes no namespace. So this must not depend on
        // a review, nor on a role that a hardened cluster has removed. The documents are public.
        if matches!(wish, Wish::Document { .. }) && user.is_authenticated() {
            return Ok(true);
        }
        let question = Arc::new((user.clone(), wish));
        if let Some((at, verdict)) = self.kept.get(&question)
            && at.elapsed() < self.keep
        {
            self.count("cached");
            return Ok(verdict);
        }
        let verdict = self.review(&question).await;
        self.count(match &verdict {
            Ok(true) => "allowed",
            Ok(false) => "denied",
            Err(_) => "error",
        });
        if let Ok(verdict) = verdict {
            self.kept.insert(question, (Instant::now(), verdict));
        }
        verdict
    }

    async fn review(&self, question: &(User, Wish)) -> Result<bool, AccessError> {
        let review = SubjectAccessReview { spec: spec(question), ..Default::default() };
        let options = PostParams::default();
        let reviewed = timeout(REVIEW_LIMIT, self.reviews.create(&options, &review)).await;
        let status = reviewed
            .map_err(|_elapsed| AccessError::Timeout)?
            .map_err(|error| AccessError::Review(Box::new(error)))?
            .status
            .ok_or(AccessError::NoVerdict)?;
        Ok(status.allowed && status.denied != Some(true))
    }

    fn count(&self, verdict: &str) {
        self.counted.with_label_values(&[verdict]).inc();
    }
}

fn spec((user, wish): &(User, Wish)) -> SubjectAccessReviewSpec {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: filled(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..Default::default()
    };
    match wish {
        Wish::Metric { namespace, metric } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                namespace: Some(namespace.clone()),
                resource: Some(metric.clone()),
                verb: Some("list".to_owned()),
                ..Default::default()
            });
        }
        Wish::Document { path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                path: Some(path.clone()),
                verb: Some("get".to_owned()),
            });
        }
    }
    spec
}
