//! A disk of its own, so that a server's can be full while the machine's is not.

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

/// While somebody writes to it, what it holds grows between the question and the change.
const FILL_TRIES: u32 = 100;

/// A tmpfs, which takes memory for what is on it. Dropping it takes it away with all that is on it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    size: u64,
    /// Held for its drop, after ours.
    folder: Folder,
}

impl Disk {
    /// Makes one of `size` bytes.
    ///
    /// # Errors
    /// Mounting is not allowed: it takes root, and most containers forbid it to theirs.
    pub fn mount(size: u64) -> anyhow::Result<Self> {
        let folder = Folder::open(&Keep::Nothing, "disk")?;
        let path = folder.path().join(mounted::NAME);
        DirBuilder::new().mode(0o755).create(&path)?;
        let options = format!("size={size},mode=0755");
        mount(Some("holdfast-disk"), &path, Some("tmpfs"), FLAGS, Some(options.as_str()))
            .context("a disk of its own cannot be mounted here")?;
        Ok(Self { path, size, folder })
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it full: it has no room but for what is on it. What is removed afterwards makes room again.
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
