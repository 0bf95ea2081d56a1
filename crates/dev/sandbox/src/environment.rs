//! A file of variables with which another terminal can reach what `run` has started.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const HEAD: &str = "\
# Read by a shell: . <this file>. Written by `make run`, which removes it at its end.
";

/// `target/run/<port>.env`, removed when dropped.
#[derive(Debug)]
pub(crate) struct EnvironmentFile(PathBuf);

impl EnvironmentFile {
    /// Writes variables, and puts the folder `programs` in front of the `PATH`.
    pub(crate) fn write(
        programs: &Path,
        port: u16,
        variables: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let folder = programs.parent().unwrap_or(programs).join("run");
        let path = folder.join(format!("{port}.env"));
        let variables = variables.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let path_variable = format!("PATH={}:\"$PATH\"", quoted(&programs.display().to_string()));
        let exports: Vec<_> = variables
            .chain([path_variable])
            .map(|variable| format!("export {variable}\n"))
            .collect();
        let text = format!("{HEAD}{}", exports.concat());
        fs::create_dir_all(&folder)
            .and_then(|()| remove_stale(&folder))
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for EnvironmentFile {
    fn drop(&mut self) {
        // If this fails, the file remains until the next run on this port.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the files of killed runs: nothing listens on their ports.
fn remove_stale(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let port = name.strip_suffix(".env").and_then(|port| port.parse::<u16>().ok());
        if port.is_some_and(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            // Another run may remove it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Quotes a text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_can_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("it's here");
        let file =
            EnvironmentFile::write(&programs, 8000, &[("A", "b 'c' $d".to_owned())]).unwrap();
        let script =
            format!(". '{}'; printf '%s|%s' \"$A\" \"${{PATH%%:*}}\"", file.path().display());
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(shell.stdout).unwrap();
        assert_eq!(said, format!("b 'c' $d|{}", programs.display()));
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
    }
}
