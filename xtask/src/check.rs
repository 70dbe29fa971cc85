//! `cargo xtask check`: format, lints, arrows. What a reviewer need not look at.

use std::process::Command;

use crate::arrows;
use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, quietly, say};
use crate::workspace::{Workspace, cargo};

/// All of it; the first error only after everything was looked at.
pub(crate) fn run() -> Result<()> {
    let failed: Vec<String> = steps()?.into_iter().filter_map(|(_, outcome)| outcome.err()).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// Each step by name, and how it went.
pub(crate) fn steps() -> Result<Vec<(&'static str, Result<()>)>> {
    let workspace = Workspace::with_graph()?;
    install(&[Purpose::Check, Purpose::Build], &workspace)?;
    Ok(vec![("format", format(&workspace)), ("lints", lints(&workspace)), ("arrows", walls(&workspace))])
}

/// The workspace, and the two that stand outside of it: the kernel programs and the fuzz targets.
fn format(workspace: &Workspace) -> Result<()> {
    let root = &workspace.workspace_root;
    quietly("format", Command::new(cargo()).args(["fmt", "--all", "--check"]).current_dir(root))?;
    for outside in ["agent-ebpf", "tests/fuzz"] {
        let mut command = Command::new(cargo());
        // from inside: cargo-fmt resolves path dependencies of another manifest wrongly
        command.args(["fmt", "--check"]).current_dir(root.join(outside));
        quietly(&format!("format of {outside}"), &mut command)?;
    }
    Ok(())
}

fn lints(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
        .current_dir(&workspace.workspace_root);
    quietly("lints", &mut command)
}

fn walls(workspace: &Workspace) -> Result<()> {
    let broken = arrows::broken(workspace);
    if broken.is_empty() {
        say("✓ crate arrows and dependency budgets");
        return Ok(());
    }
    Err(broken.join("\n"))
}
