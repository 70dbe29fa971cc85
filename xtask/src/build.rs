//! `cargo xtask build`: the binaries of the workspace and the kernel programs beside them.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::ebpf;
use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, quietly};
use crate::workspace::{Workspace, cargo};

#[derive(Args)]
pub(crate) struct Options {
    /// Optimised, as packages are built
    #[arg(long)]
    release: bool,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    let binaries = binaries(&workspace, options.release)?;
    crate::shell::say(&format!("built: {}", binaries.display()));
    Ok(())
}

/// Builds everything that runs, installing what building needs; gives the directory that it is in.
pub(crate) fn binaries(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    with_profile(workspace, if release { "release" } else { "dev" })
}

/// The same, with a profile of cargo.
pub(crate) fn with_profile(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    install(&[Purpose::Build, Purpose::Kernel], workspace)?;
    let mut command = Command::new(cargo());
    command.args(["build", "--workspace", "--bins", "--profile", profile]);
    command.current_dir(&workspace.workspace_root);
    quietly(&format!("binaries ({profile})"), &mut command)?;
    let directory = workspace.target_directory.join(if profile == "dev" { "debug" } else { profile });
    ebpf::build(workspace, &directory)?;
    Ok(directory)
}
