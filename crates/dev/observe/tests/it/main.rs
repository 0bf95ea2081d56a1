//! Compares dashboards, alerts and documents of the metrics with real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod alerts;
mod environment;
mod exported;
mod fresh;
mod grafana_fields;
mod load;
mod moved;
mod on_panels;
mod pages;
mod runbooks;
mod under_load;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().to_owned()
}

/// A file of the repository.
fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
