//! Where things are, as cargo tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::shell::Result;

/// What of `cargo metadata` we read.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// Root of the checkout.
    pub(crate) workspace_root: PathBuf,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
    /// All packages, ours and others'.
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Option<Resolve>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    /// The licence, as an SPDX expression.
    #[serde(default)]
    pub(crate) license: Option<String>,
    /// Where it came from; none: this checkout.
    #[serde(default)]
    pub(crate) source: Option<String>,
    #[serde(default)]
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None: normal; else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDependency>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeDependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DependencyKind {
    pub(crate) kind: Option<String>,
}

impl Workspace {
    /// The checkout alone.
    pub(crate) fn here() -> Result<Workspace> {
        Workspace::read(&["--no-deps"])
    }

    /// With the whole graph, for this kind of machine.
    pub(crate) fn with_graph() -> Result<Workspace> {
        Workspace::read(&["--filter-platform", "x86_64-unknown-linux-gnu"])
    }

    /// Another workspace's graph: the kernel programs'.
    pub(crate) fn beside(manifest: &Path) -> Result<Workspace> {
        Workspace::read(&["--manifest-path", &manifest.display().to_string()])
    }

    fn read(arguments: &[&str]) -> Result<Workspace> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version", "1", "--quiet"])
            .args(arguments)
            .output()
            .map_err(|e| format!("cargo metadata: {e}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
    }

    /// What the demo keeps from run to run.
    pub(crate) fn cache(&self) -> PathBuf {
        self.target_directory.join("demo/cache")
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}
