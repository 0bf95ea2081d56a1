//! The number of connections that the limit of open files allows.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The fewest connections with which the server starts.
const FEWEST: usize = 16;

/// The limit of open files is too low.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "HOLDFAST_MAX_CONNECTIONS is {wanted}, and the limit of open files (ulimit -n) is {limit}, of \
     which {others} are needed for other purposes. Raise the limit to at least {}.", .others + .wanted.min(&FEWEST)
)]
pub struct TooFewFiles {
    wanted: usize,
    others: usize,
    limit: usize,
}

/// The number of possible connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The most open connections.
    pub connections: usize,
    /// The most connections that wait for room or are being refused. The same number may linger.
    pub waiting: usize,
    pub limit: usize,
}

/// Raises this process's limit of open files as far as possible. Returns how many of the `wanted` connections fit besides
/// `others` open files.
///
/// # Errors
/// Too few connections fit.
pub fn fit_connections(wanted: usize, waiting: usize, others: usize) -> Result<Fit, TooFewFiles> {
    // If it cannot be raised, the current limit applies.
    let limit = raise().unwrap_or(usize::MAX);
    fit(wanted, waiting, others, limit)
}

fn raise() -> io::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Ok(usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX))
}

fn fit(wanted: usize, waiting: usize, others: usize, limit: usize) -> Result<Fit, TooFewFiles> {
    let free = limit.saturating_sub(others);
    // If there are few files, most of them are used for connections.
    let waiting = waiting.min(free / 16);
    let connections = wanted.min(free - 2 * waiting);
    if connections < wanted.min(FEWEST) {
        return Err(TooFewFiles { wanted, others, limit });
    }
    Ok(Fit { connections, waiting, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_by_open_files() {
        let fitted = |limit| fit(10_000, 256, 100, limit).map(|fit| (fit.connections, fit.waiting));
        assert_eq!(fitted(20_000).unwrap(), (10_000, 256));
        assert_eq!(fitted(10_612).unwrap(), (10_000, 256));
        assert_eq!(fitted(10_611).unwrap(), (9_999, 256));
        assert_eq!(fitted(1_024).unwrap(), (810, 57));
        assert_eq!(fitted(118).unwrap(), (16, 1));
        assert_eq!(fit(2, 256, 100, 118).unwrap().connections, 2);
        let sentence = fitted(110).unwrap_err().to_string();
        for number in ["10000", "110", "100", "116"] {
            assert!(sentence.contains(number), "{sentence}");
        }
    }
}
