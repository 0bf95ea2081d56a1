//! What a [`Disk`](crate::disk::Disk) has mounted in its folder.

use std::path::Path;

use nix::mount::{MntFlags, umount2};

/// Where it is, below its folder.
pub(crate) const NAME: &str = "disk";

/// Detaches it, also while something still has a file open on it: then it ends with that. Nothing if there is none.
pub(crate) fn detach_in(folder: &Path) {
    let _ = umount2(&folder.join(NAME), MntFlags::MNT_DETACH);
}
