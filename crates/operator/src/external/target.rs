//! The meaning of a path.

use super::metric::{GROUP, Metric, VERSION};
use crate::caller::access::AccessReview;

/// The meaning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourcePath {
    /// The document about all groups.
    Groups,
    /// The document about the group.
    Group,
    /// The document about the version, which lists the metrics.
    Version,
    /// The values of a metric.
    Metric {
        namespace: String,
        /// The metric may not exist.
        metric: String,
    },
    /// Any other path.
    Other,
}

impl ResourcePath {
    /// Parses a path. A trailing slash makes no difference.
    pub fn of(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<_> = path.split('/').collect();
        match parts.as_slice() {
            ["", "apis"] => Self::Groups,
            ["", "apis", group] if *group == GROUP => Self::Group,
            ["", "apis", group, version] if *group == GROUP && *version == VERSION => Self::Version,
            ["", "apis", group, version, "namespaces", namespace, metric]
                if *group == GROUP
                    && *version == VERSION
                    && !namespace.is_empty()
                    && !metric.is_empty() =>
            {
                Self::Metric { namespace: (*namespace).to_owned(), metric: (*metric).to_owned() }
            }
            _ => Self::Other,
        }
    }

    /// What the access review must check; `None` for a path that does not exist.
    pub fn access_review(&self) -> Option<AccessReview> {
        let document = |path| Some(AccessReview::Document { path });
        match self {
            Self::Groups => document("/apis".to_owned()),
            Self::Group => document(format!("/apis/{GROUP}")),
            Self::Version => document(format!("/apis/{GROUP}/{VERSION}")),
            Self::Metric { namespace, metric } => Some(AccessReview::List {
                group: GROUP,
                version: VERSION,
                namespace: namespace.clone(),
                resource: metric.clone(),
            }),
            Self::Other => None,
        }
    }

    /// The value of the label `metric`, from a bounded set.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Groups | Self::Group | Self::Version => "discovery",
            Self::Metric { metric, .. } => metric.parse().map_or("unknown", Metric::as_str),
            Self::Other => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_at_most_one_meaning() {
        let metric = |namespace: &str, metric: &str| ResourcePath::Metric {
            namespace: namespace.to_owned(),
            metric: metric.to_owned(),
        };
        let version = "/apis/external.metrics.k8s.io/v1beta1";
        for (path, target) in [
            ("/apis".to_owned(), ResourcePath::Groups),
            ("/apis/".to_owned(), ResourcePath::Groups),
            ("/apis/external.metrics.k8s.io".to_owned(), ResourcePath::Group),
            ("/apis/external.metrics.k8s.io/".to_owned(), ResourcePath::Group),
            (version.to_owned(), ResourcePath::Version),
            (format!("{version}/namespaces/shop/depth"), metric("shop", "depth")),
            (format!("{version}/namespaces/shop/depth/"), metric("shop", "depth")),
            (format!("{version}/namespaces/shop"), ResourcePath::Other),
            (format!("{version}/namespaces//depth"), ResourcePath::Other),
            (format!("{version}/namespaces/shop/depth/x"), ResourcePath::Other),
            (format!("{version}/nodes/shop/depth"), ResourcePath::Other),
            ("/apis/external.metrics.k8s.io/v1".to_owned(), ResourcePath::Other),
            ("/apis/custom.metrics.k8s.io/v1beta1".to_owned(), ResourcePath::Other),
            ("apis/external.metrics.k8s.io".to_owned(), ResourcePath::Other),
            ("/".to_owned(), ResourcePath::Other),
            (String::new(), ResourcePath::Other),
        ] {
            assert_eq!(ResourcePath::of(&path), target, "{path}");
        }
    }
}
