//! Flash sales, on the admin port.

pub mod delete;
pub mod get;
pub mod list;
pub mod put;

use holdfast_domain::SaleName;

use crate::problem::{FieldError, Kind, Problem};

/// The name in the path.
fn named(name: String) -> Result<SaleName, Problem> {
    SaleName::new(name)
        .map_err(|error| Problem::validation(vec![FieldError::new("name", error.to_string())]))
}

fn unknown() -> Problem {
    Problem::with_detail(Kind::NotFound, "There is no sale of this name.")
}
