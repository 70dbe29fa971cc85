//! The rpm, by rpmbuild.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::documents::formatted;
use super::tree::{Content, Tree};
use super::{Facts, filled, read};
use crate::shell::{Result, ask, quietly, say};
use crate::workspace::Workspace;

/// Builds it in `directory`, which does not exist yet.
pub(crate) fn make(directory: &Path, tree: &Tree, workspace: &Workspace, facts: &Facts) -> Result<PathBuf> {
    let mut tree = tree.clone();
    tree.file("usr/share/licenses/sluice/LICENSE", read(&workspace.workspace_root.join("LICENSE"))?);
    let root = directory.join("tree");
    tree.write(&root)?;
    let values = [
        ("VERSION", facts.version.as_str()),
        ("MAINTAINER", &facts.maintainer),
        ("TREE", &root.display().to_string()),
        ("FILES", &files(&tree)),
        ("DATE", &formatted(facts.epoch, "%a %b %d %Y")),
    ];
    let spec = directory.join("sluice.spec");
    fs::write(&spec, filled(workspace, "rpm/sluice.spec", &values)?)
        .map_err(|e| format!("{}: {e}", spec.display()))?;
    let mut command = Command::new("rpmbuild");
    command.arg("-bb").arg("--target=x86_64-linux");
    for (name, value) in [
        ("_topdir", directory.join("top").display().to_string()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("source_date_epoch_from_changelog", "0".to_owned()),
        ("_binary_payload", "w10.zstdio".to_owned()),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    command.arg(&spec).env("SOURCE_DATE_EPOCH", facts.epoch.to_string());
    quietly("rpmbuild", &mut command)?;
    let built = directory.join(format!("top/RPMS/x86_64/sluice-{}-1.x86_64.rpm", facts.version));
    if built.exists() { Ok(built) } else { Err(format!("rpmbuild made no {}", built.display())) }
}

/// The %files: everything by name, so that nothing else gets in.
fn files(tree: &Tree) -> String {
    let mut list =
        String::from("%dir /usr/lib/sluice\n%dir /usr/share/doc/sluice\n%dir /usr/share/licenses/sluice\n");
    list.push_str("%dir /usr/share/doc/sluice/examples\n%dir /usr/share/doc/sluice/examples/policy\n");
    for (path, content) in &tree.0 {
        let kind = match path {
            path if path.starts_with("usr/share/licenses/") => "%license ",
            path if path.starts_with("usr/share/doc/") || path.starts_with("usr/share/man/") => "%doc ",
            _ => "",
        };
        let _ = match content {
            Content::File(_, mode) => writeln!(list, "{kind}%attr(0{mode:o}, root, root) /{path}"),
            Content::Link(_) => writeln!(list, "/{path}"),
            // in the template
            Content::Directory => Ok(()),
        };
    }
    list
}

/// Into an empty tree and out of it again: every file is there as the package says, and none stays. Neither dependencies
/// nor scripts are tried: there is no distribution of that kind here.
fn install_and_erase(package: &Path) -> Result<()> {
    let tree = std::env::temp_dir().join(format!("sluice-rpm-{}", std::process::id()));
    let rpm = |arguments: &[&str]| {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(&tree).args(["--dbpath", "/db"]).args(arguments);
        command
    };
    fs::create_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    let file = package.display().to_string();
    let outcome = quietly("rpm -i, into an empty tree", &mut rpm(&["-i", "--nodeps", "--noscripts", &file]))
        .and_then(|()| quietly("rpm -V", &mut rpm(&["-V", "--nodeps", "sluice"])))
        .and_then(|()| quietly("rpm -e", &mut rpm(&["-e", "--noscripts", "sluice"])));
    let left = ask(Command::new("find")
        .arg(&tree)
        .args(["-path", &format!("{}/db", tree.display())])
        .args(["-prune", "-o", "(", "-type", "f", "-o", "-type", "l", ")", "-print"]));
    let removed = fs::remove_dir_all(&tree);
    outcome?;
    removed.map_err(|e| format!("{}: {e}", tree.display()))?;
    if left.trim().is_empty() { Ok(()) } else { Err(format!("rpm -e left:\n{left}")) }
}

/// Rpmlint has nothing to say but what packaging/rpm/rpmlint.toml gives a reason for.
pub(crate) fn lint(packages: &[PathBuf], workspace: &Workspace) -> Result<()> {
    let reasons = workspace.workspace_root.join("packaging/rpm/rpmlint.toml");
    for package in packages.iter().filter(|package| package.extension().is_some_and(|e| e == "rpm")) {
        let said = ask(Command::new("rpmlint").arg("-c").arg(&reasons).arg(package));
        if !said.contains("0 errors, 0 warnings") {
            return Err(format!("rpmlint has something to say:\n{said}"));
        }
        say("rpmlint has nothing to say");
        let scripts = ask(Command::new("rpm").args(["-qp", "--scripts"]).arg(package));
        for word in ["systemd-sysusers", "sluice-loader disarm", "try-restart sluice-loader.service"] {
            if !scripts.contains(word) {
                return Err(format!("the rpm's scripts have no `{word}`"));
            }
        }
        install_and_erase(package)?;
    }
    Ok(())
}
