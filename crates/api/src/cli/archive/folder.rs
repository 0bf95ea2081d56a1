//! The folder of an archive. Files are durable when a method returns.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use holdfast_store::Archive;
use holdfast_telemetry::settings::MustBe;
use uuid::Uuid;

/// The end of a preliminary name.
const PRELIMINARY: &str = ".part";

/// The folder.
#[derive(Debug)]
pub(super) struct ArchiveFolder(PathBuf);

/// A durable file with its preliminary name.
#[derive(Debug)]
#[must_use]
pub(super) struct Preliminary<'a> {
    folder: &'a ArchiveFolder,
    path: PathBuf,
    name: String,
}

impl ArchiveFolder {
    /// The folder must exist, because otherwise its name may be wrong or its disk may not be mounted.
    pub(super) fn open(path: PathBuf) -> Result<Self, MustBe> {
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self(path)),
            Ok(_) => Err(MustBe::new(format!("--to: {} is not a folder", path.display()))),
            Err(error) => Err(MustBe::new(format!("--to: {}: {error}", path.display()))),
        }
    }

    /// Cleans up after a run that was killed: a preliminary file whose orders were deleted is renamed, and any other is
    /// deleted, because its orders are still in the database. Files of other databases are ignored.
    pub(super) async fn recover(&self, archive: &mut Archive) -> anyhow::Result<()> {
        let ending = preliminary_ending(archive.identity());
        let entries = fs::read_dir(&self.0).with_context(|| self.0.display().to_string())?;
        for entry in entries {
            let path = entry.with_context(|| self.0.display().to_string())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(&ending))
            else {
                continue;
            };
            if archive.knows(name).await? {
                Preliminary { folder: self, path: path.clone(), name: name.to_owned() }.keep()?;
                tracing::info!(file = name, "a file of an interrupted run was completed");
            } else {
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
                tracing::info!(file = name, "an incomplete file of an interrupted run was deleted");
            }
        }
        self.sync()
    }

    /// Writes a file with its preliminary name, and returns when it is durable. `name` itself must not exist.
    pub(super) fn write(
        &self,
        name: &str,
        identity: Uuid,
        content: &[u8],
    ) -> anyhow::Result<Preliminary<'_>> {
        let target = self.0.join(name);
        if target.symlink_metadata().is_ok() {
            bail!(
                "{} already exists, although its orders are in the tables: either the database \
                 was restored from a backup, and you must use a new folder, or the folder belongs \
                 to another database",
                target.display()
            );
        }
        let path = self.0.join(format!("{name}{}", preliminary_ending(identity)));
        write_through(&path, content).with_context(|| path.display().to_string())?;
        self.sync()?;
        Ok(Preliminary { folder: self, path, name: name.to_owned() })
    }

    /// Makes new names and files durable.
    fn sync(&self) -> anyhow::Result<()> {
        File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .with_context(|| self.0.display().to_string())
    }
}

impl Preliminary<'_> {
    /// Renames the file to its final name.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        let target = self.folder.0.join(&self.name);
        fs::rename(&self.path, &target).with_context(|| target.display().to_string())?;
        self.folder.sync()
    }
}

fn preliminary_ending(identity: Uuid) -> String {
    format!(".{}{PRELIMINARY}", identity.simple())
}

fn write_through(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}
