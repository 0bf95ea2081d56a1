//! The file system that a [`Disk`](crate::disk::Disk) has mounted.

use std::path::Path;

use nix::mount::{MntFlags, umount2};

/// The mount point, relative to the folder.
pub(crate) const NAME: &str = "disk";

/// Unmounts it, if it is mounted. If a file is still open, the file system ends when it is closed.
pub(crate) fn detach_in(folder: &Path) {
    let _ = umount2(&folder.join(NAME), MntFlags::MNT_DETACH);
}
