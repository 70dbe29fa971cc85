//! The deb, by dpkg-deb.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::documents::{DOC, compressed, formatted};
use super::tree::{Content, Tree};
use super::{Facts, filled, read};
use crate::shell::{Result, ask, quietly, say};
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "amd64";

/// Builds it in `directory`, which does not exist yet.
pub(crate) fn make(directory: &Path, tree: &Tree, workspace: &Workspace, facts: &Facts) -> Result<PathBuf> {
    let root = directory.join("root");
    let mut tree = tree.moved(place);
    tree.file(format!("{DOC}/copyright"), read(&workspace.workspace_root.join("packaging/deb/copyright"))?);
    tree.file(format!("{DOC}/changelog.gz"), compressed(changelog(facts).as_bytes())?);
    let overrides = workspace.workspace_root.join("packaging/deb/lintian-overrides");
    tree.file("usr/share/lintian/overrides/sluice", read(&overrides)?);
    tree.write(&root)?;
    control(&root, &tree, workspace, facts)?;
    let package = directory.join(format!("sluice_{}_{ARCHITECTURE}.deb", facts.version));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package);
    command.env("SOURCE_DATE_EPOCH", facts.epoch.to_string());
    quietly("dpkg-deb", &mut command)?;
    Ok(package)
}

/// Where Debian 12 has what the rpm has elsewhere.
fn place(path: &str) -> String {
    path.replace("usr/lib/systemd/system/", "lib/systemd/system/")
        .replace("usr/share/zsh/site-functions/", "usr/share/zsh/vendor-completions/")
}

fn changelog(facts: &Facts) -> String {
    let date = formatted(facts.epoch, "%a, %d %b %Y %H:%M:%S +0000");
    format!(
        "sluice ({}) unstable; urgency=medium\n\n  * See /usr/share/doc/sluice/CHANGELOG.md.gz.\n\n -- {}  {date}\n",
        facts.version, facts.maintainer
    )
}

fn control(root: &Path, tree: &Tree, workspace: &Workspace, facts: &Facts) -> Result<()> {
    let debian = root.join("DEBIAN");
    let write = |name: &str, bytes: &[u8], mode: u32| {
        let path = debian.join(name);
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|e| format!("{}: {e}", path.display()))
    };
    fs::create_dir_all(&debian).map_err(|e| format!("{}: {e}", debian.display()))?;
    let size = tree.size().div_ceil(1024).to_string();
    let depends = libraries(root)?;
    let values = [
        ("VERSION", facts.version.as_str()),
        ("ARCHITECTURE", ARCHITECTURE),
        ("MAINTAINER", &facts.maintainer),
        ("SIZE", &size),
        ("DEPENDS", &depends),
    ];
    write("control", filled(workspace, "deb/control", &values)?.as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        write(script, &read(&workspace.workspace_root.join("packaging/deb").join(script))?, 0o755)?;
    }
    let mut sums = String::new();
    for (path, content) in &tree.0 {
        if matches!(content, Content::File(..)) {
            let sum = ask(Command::new("md5sum").arg("--").arg(root.join(path)));
            let sum = sum.split(' ').next().unwrap_or_default();
            let _ = writeln!(sums, "{sum}  {path}");
        }
    }
    write("md5sums", sums.as_bytes(), 0o644)
}

/// The packages of the libraries that the programs are linked with, by dpkg-shlibdeps.
fn libraries(root: &Path) -> Result<String> {
    // it wants to stand in a source package
    let source = root.with_file_name("source");
    let control = source.join("debian/control");
    fs::create_dir_all(source.join("debian"))
        .and_then(|()| fs::write(&control, "Source: sluice\n\nPackage: sluice\nArchitecture: any\n"))
        .map_err(|e| format!("{}: {e}", control.display()))?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").current_dir(&source);
    for program in ["usr/bin/sluice", "usr/lib/sluice/sluiced", "usr/lib/sluice/sluice-loader"] {
        command.arg(root.join(program));
    }
    let said = ask(&mut command);
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends
        .map(str::to_owned)
        .ok_or_else(|| "dpkg-shlibdeps did not say which libraries are needed".to_owned())
}

/// Lintian has nothing to say but what packaging/deb/lintian-overrides gives a reason for.
pub(crate) fn lint(packages: &[PathBuf]) -> Result<()> {
    for package in packages.iter().filter(|package| package.extension().is_some_and(|e| e == "deb")) {
        let said = ask(Command::new("lintian").args(["--allow-root", "--display-info"]).arg(package));
        if said.lines().any(|line| !line.starts_with("N:")) {
            return Err(format!("lintian has something to say:\n{said}"));
        }
        say("lintian has nothing to say");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn debian_has_some_things_elsewhere() {
        assert_eq!(place("usr/lib/systemd/system/x.service"), "lib/systemd/system/x.service");
        assert_eq!(place("usr/lib/sluice/sluiced"), "usr/lib/sluice/sluiced");
    }
}
