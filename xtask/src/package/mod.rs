//! `cargo xtask package`: a deb and an rpm, out of one tree of files.
//!
//! Packing is Debian's own `dpkg-deb` and `rpmbuild`: there in seconds, exact about owners, modes and times, and what a
//! distribution would use. It is done twice from the same binaries, in different directories; the command fails unless
//! both times give the same bytes.

mod bill;
mod deb;
mod documents;
mod machine;
mod rpm;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::build;
use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, ask, say};
use crate::workspace::Workspace;
use tree::Tree;

/// Who answers for a package, unless `--maintainer` says otherwise.
const MAINTAINER: &str = "Sluice maintainers <maintainers@sluice.example>";

/// What upgrades are tried from.
const OLDER: &str = "0.0.1";

#[derive(Args)]
pub(crate) struct Options {
    /// The profile of cargo that the binaries are built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Another version than the workspace's, for tests of upgrades
    #[arg(long, value_name = "VERSION")]
    package_version: Option<String>,
    /// Who answers for the package, as `NAME <ADDRESS>`
    #[arg(long, env = "SLUICE_MAINTAINER", default_value = MAINTAINER)]
    maintainer: String,
    /// Also run lintian and rpmlint, and install, upgrade, downgrade, remove and purge in a booted Debian 12
    #[arg(long)]
    test: bool,
}

/// What every part of a package has to know.
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) maintainer: String,
    /// SOURCE_DATE_EPOCH: no file in a package is younger, and nothing in it says when it was made.
    pub(crate) epoch: u64,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::with_graph()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::Package], &workspace)?;
    let binaries = build::with_profile(&workspace, &options.profile)?;
    let version = options.package_version.clone().unwrap_or_else(|| own_version(&workspace));
    let facts = Facts { version, maintainer: options.maintainer.clone(), epoch: epoch(&workspace)? };
    let packages = pack(&workspace, &binaries, &facts)?;
    for package in &packages {
        let bytes = fs::metadata(package).map(|m| m.len()).unwrap_or(0);
        say(&format!("{} ({} KiB)", package.display(), bytes >> 10));
    }
    if options.test {
        deb::lint(&packages)?;
        rpm::lint(&packages, &workspace)?;
        // the same programs under an older number: what is tried is the packages' own doing
        let older =
            Facts { version: OLDER.into(), maintainer: options.maintainer.clone(), epoch: facts.epoch };
        let work = workspace.target_directory.join("package/work/older");
        let tree = tree::installed(&workspace, &binaries, &older)?;
        let [older, _] = made(&work, &tree, &workspace, &older)?;
        if let Some(newer) = packages.first() {
            machine::test(&workspace, &older, newer, &facts.version)?;
        }
    }
    Ok(())
}

fn own_version(workspace: &Workspace) -> String {
    let own = workspace.packages.iter().find(|package| package.name == "sluice-agent");
    own.map(|package| package.version.clone()).unwrap_or_default()
}

/// SOURCE_DATE_EPOCH of the environment, or the time of the last commit.
fn epoch(workspace: &Workspace) -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => ask(Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(&workspace.workspace_root)),
    };
    text.trim().parse().map_err(|_| {
        "neither SOURCE_DATE_EPOCH nor git says of when the sources are; set SOURCE_DATE_EPOCH".to_owned()
    })
}

/// Both packages, made twice and compared.
fn pack(workspace: &Workspace, binaries: &Path, facts: &Facts) -> Result<Vec<PathBuf>> {
    let directory = workspace.target_directory.join("package");
    let tree = tree::installed(workspace, binaries, facts)?;
    let once = made(&directory.join("work/once"), &tree, workspace, facts)?;
    let again = made(&directory.join("work/in-another-directory"), &tree, workspace, facts)?;
    let mut packages = Vec::new();
    for (one, other) in once.iter().zip(&again) {
        let name = one.file_name().unwrap_or_default();
        if read(one)? != read(other)? {
            return Err(format!(
                "{} is not reproducible: {} and {} differ",
                Path::new(name).display(),
                one.display(),
                other.display()
            ));
        }
        let there = directory.join(name);
        fs::copy(one, &there).map_err(|e| format!("{}: {e}", there.display()))?;
        packages.push(there);
    }
    say("packed twice, to the same bytes");
    Ok(packages)
}

fn made(directory: &Path, tree: &Tree, workspace: &Workspace, facts: &Facts) -> Result<[PathBuf; 2]> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    }
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    Ok([
        deb::make(&directory.join("deb"), tree, workspace, facts)?,
        rpm::make(&directory.join("rpm"), tree, workspace, facts)?,
    ])
}

/// A file's bytes, or which file could not be read.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// A template of `packaging/` with its `@NAME@`s filled in; one that is left is an error.
fn filled(workspace: &Workspace, name: &str, values: &[(&str, &str)]) -> Result<String> {
    let path = workspace.workspace_root.join("packaging").join(name);
    let mut text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    let left = text
        .split('@')
        .skip(1)
        .step_by(2)
        .find(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()));
    match left {
        Some(word) => Err(format!("{}: nothing is known for @{word}@", path.display())),
        None => Ok(text),
    }
}
