//! A separate disk, which a test can fill without filling the disk of the machine.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use crate::folder::{Folder, Keep};
use crate::mounted;

const FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// While processes write to the disk, its contents can grow between reading its usage and resizing it.
const FILL_TRIES: u32 = 100;

/// A tmpfs, so its contents take up memory. Dropping it removes it with its contents.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    size: u64,
    /// Held for its drop, after that of the disk.
    folder: Folder,
}

impl Disk {
    /// Creates a disk of `size` bytes.
    ///
    /// # Errors
    /// Mounting is not permitted. It requires root, and most containers do not permit it.
    pub fn mount(size: u64) -> anyhow::Result<Self> {
        let folder = Folder::open(&Keep::Nothing, "disk")?;
        let path = folder.path().join(mounted::NAME);
        DirBuilder::new().mode(0o755).create(&path)?;
        let options = format!("size={size},mode=0755");
        mount(Some("holdfast-disk"), &path, Some("tmpfs"), FLAGS, Some(options.as_str()))
            .context("a disk of its own cannot be mounted here")?;
        Ok(Self { path, size, folder })
    }

    /// The folder where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the disk by shrinking it to its contents. If files are removed afterwards, there is room again.
    ///
    /// # Errors
    /// It cannot be made smaller.
    pub fn fill(&self) -> anyhow::Result<()> {
        for _ in 0..FILL_TRIES {
            let state = statvfs(&self.path).context("the disk cannot be looked at")?;
            // A size of zero would be no limit.
            let used = (state.blocks() - state.blocks_free()).max(1) * state.fragment_size();
            match self.resize(used) {
                Err(Errno::EINVAL) => {}
                resized => return resized.context("the disk cannot be made smaller"),
            }
        }
        bail!("the disk grows too fast to be filled")
    }

    /// Ends [`Self::fill`].
    ///
    /// # Errors
    /// It cannot be made larger.
    pub fn make_room(&self) -> anyhow::Result<()> {
        self.resize(self.size).context("the disk cannot be made larger")
    }

    fn resize(&self, size: u64) -> nix::Result<()> {
        let (none, options) = (None::<&str>, format!("size={size}"));
        mount(none, &self.path, none, FLAGS | MsFlags::MS_REMOUNT, Some(options.as_str()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        mounted::detach_in(self.folder.path());
    }
}
