//! Whether a caller may read something: the API server decides with a SubjectAccessReview.

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

use super::User;
use crate::calls::{CallError, call};

/// The most cached decisions.
const KEPT_MAX: usize = 1000;
/// Members of this group may do everything. The API server's own probes are members, and must not depend on a review.
const MASTERS: &str = "system:masters";

/// A question to the API server about a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessReview {
    /// Whether it may list a resource in a namespace, which is how a metric is read.
    List { group: &'static str, version: &'static str, namespace: String, resource: String },
    /// Whether it may get a document that is not a resource.
    Document { path: String },
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("the API server did not review the access")]
    Review(#[source] CallError),
    #[error("the API server's review has no decision")]
    NoVerdict,
}

/// Requests access reviews, and caches the decisions for a short time.
pub struct AccessReviews {
    reviews: Api<SubjectAccessReview>,
    kept: Cache<Arc<(User, AccessReview)>, (Instant, bool)>,
    keep: Duration,
    counted: IntCounterVec,
}

impl AccessReviews {
    /// Decisions are cached for `keep`. `counted` has the label `verdict`.
    pub fn new(client: Client, keep: Duration, counted: IntCounterVec) -> Self {
        Self { reviews: Api::all(client), kept: Cache::new(KEPT_MAX), keep, counted }
    }

    /// Whether `user` is allowed. Takes at most five seconds. Safe to cancel.
    ///
    /// # Errors
    /// There is no decision, so access is refused.
    pub async fn may(&self, user: &User, review: AccessReview) -> Result<bool, AccessError> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(true);
        }
        // A cluster whose discovery fails deletes no namespaces. So this must not depend on a review, nor on a role
        // that a hardened cluster may have removed. The documents are public.
        if matches!(review, AccessReview::Document { .. }) && user.is_authenticated() {
            return Ok(true);
        }
        let question = Arc::new((user.clone(), review));
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

    async fn review(&self, question: &(User, AccessReview)) -> Result<bool, AccessError> {
        let review = SubjectAccessReview { spec: spec(question), ..Default::default() };
        let reviewed = call(self.reviews.create(&PostParams::default(), &review)).await;
        let status = reviewed.map_err(AccessError::Review)?.status.ok_or(AccessError::NoVerdict)?;
        Ok(status.allowed && status.denied != Some(true))
    }

    fn count(&self, verdict: &str) {
        self.counted.with_label_values(&[verdict]).inc();
    }
}

fn spec((user, review): &(User, AccessReview)) -> SubjectAccessReviewSpec {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: filled(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..Default::default()
    };
    match review {
        AccessReview::List { group, version, namespace, resource } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some((*group).to_owned()),
                version: Some((*version).to_owned()),
                namespace: Some(namespace.clone()),
                resource: Some(resource.clone()),
                verb: Some("list".to_owned()),
                ..Default::default()
            });
        }
        AccessReview::Document { path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                path: Some(path.clone()),
                verb: Some("get".to_owned()),
            });
        }
    }
    spec
}
