//! The names of the crates that the programs are made of, by which log lines can be picked.

/// Names every package of the workspace and all that they depend on.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Whether log lines of `target`, such as `holdfast_api::routes` or `hyper`, can come from any of them.
/// With `prefix`, also of a name that only begins so, as the filter does it: `holdfast` picks all of ours.
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
