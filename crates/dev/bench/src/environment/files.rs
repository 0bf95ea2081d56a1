//! The number of files that a process may have open. Each connection is one, on both sides.

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of this process and of its children as far as possible. Returns the limit.
///
/// # Errors
/// The limit cannot be read or set.
pub fn raise_open_files() -> anyhow::Result<u64> {
    let (now, most) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if now < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)
            .context("cannot raise the limit of open files")?;
    }
    Ok(most)
}
