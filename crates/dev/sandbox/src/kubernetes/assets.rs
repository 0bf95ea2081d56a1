//! Finds the programs of a control plane.

use std::path::{Path, PathBuf};

/// The programs of a control plane. `scripts/kubernetes-assets` installs them.
#[derive(Debug, Clone)]
pub struct KubernetesAssets {
    pub(super) etcd: PathBuf,
    pub(super) api_server: PathBuf,
    pub(super) controller_manager: PathBuf,
}

/// Programs that were not found.
#[derive(Debug, Clone)]
pub struct MissingAssets(Vec<&'static str>);

impl std::error::Error for MissingAssets {}

impl std::fmt::Display for MissingAssets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = self.0.join(", ");
        write!(f, "{missing} is missing; type: scripts/kubernetes-assets")
    }
}

impl KubernetesAssets {
    /// Looks for each program in `KUBEBUILDER_ASSETS`, and then in `tools/kubernetes` of the build folder, where the
    /// script installs it.
    ///
    /// # Errors
    /// The programs that are missing.
    pub fn find() -> Result<Self, MissingAssets> {
        let mut folders: Vec<PathBuf> =
            std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).into_iter().collect();
        if let Ok(own) = std::env::current_exe() {
            // …/target/debug/deps/test
            folders.extend(own.ancestors().skip(1).take(4).map(|at| at.join("tools/kubernetes")));
        }
        Self::find_in(&folders)
    }

    fn find_in(folders: &[impl AsRef<Path>]) -> Result<Self, MissingAssets> {
        let mut missing = Vec::new();
        let mut find = |name| {
            let mut paths = folders.iter().map(|folder| folder.as_ref().join(name));
            paths.find(|path| path.is_file()).unwrap_or_else(|| {
                missing.push(name);
                PathBuf::new()
            })
        };
        let assets = Self {
            etcd: find("etcd"),
            api_server: find("kube-apiserver"),
            controller_manager: find("kube-controller-manager"),
        };
        if missing.is_empty() { Ok(assets) } else { Err(MissingAssets(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_to_install_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("etcd"), "").unwrap();
        let missing = KubernetesAssets::find_in(&[folder.path()]).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "kube-apiserver, kube-controller-manager is missing; type: scripts/kubernetes-assets"
        );
    }

    #[test]
    fn a_program_is_taken_from_the_first_folder_that_has_it() {
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
            std::fs::write(second.path().join(name), "").unwrap();
        }
        std::fs::write(first.path().join("etcd"), "").unwrap();
        let found = KubernetesAssets::find_in(&[first.path(), second.path()]).unwrap();
        assert_eq!(found.etcd, first.path().join("etcd"));
        assert_eq!(found.api_server, second.path().join("kube-apiserver"));
    }
}
