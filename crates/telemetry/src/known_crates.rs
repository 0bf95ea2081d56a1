//! The names of the crates in the programs, which log filters may use.

/// Contains the name of every package in the workspace and of all dependencies.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Whether log lines of `target`, such as `holdfast_api::routes` or `hyper`, can come from one of them. With `prefix`,
/// also if a crate's name only begins with it, as in filters: `holdfast` selects all crates of Holdfast.
pub(crate) fn has(target: &str, prefix: bool) -> bool {
    let (name, prefix) = match target.split_once("::") {
        Some((name, _)) => (name, false),
        None => (target, prefix || target == "holdfast"),
    };
    let names = LOCK.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names
        .map(|known| known.replace('-', "_"))
        .any(|known| if prefix { known.starts_with(name) } else { known == name })
}
