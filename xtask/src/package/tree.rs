//! What is installed where: one tree for both packages, and where they differ.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::{Facts, bill, documents, read};
use crate::shell::{Result, quietly};
use crate::workspace::Workspace;

/// Something at a path.
#[derive(Clone)]
pub(crate) enum Content {
    /// Bytes and mode.
    File(Vec<u8>, u32),
    /// A symbolic link.
    Link(&'static str),
    /// An empty directory.
    Directory,
}

/// Paths without the leading slash; sorted, so that packing is the same each time.
#[derive(Clone, Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Content>);

impl Tree {
    /// A file that is only read.
    pub(crate) fn file(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), Content::File(bytes.into(), 0o644));
    }

    fn program(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), Content::File(bytes, 0o755));
    }

    /// The same tree with every path given another name by `rename`.
    pub(crate) fn moved(&self, rename: impl Fn(&str) -> String) -> Tree {
        Tree(self.0.iter().map(|(path, content)| (rename(path), content.clone())).collect())
    }

    /// Writes it below `root`.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        for (path, content) in &self.0 {
            let at = root.join(path);
            let fault = |e: std::io::Error| format!("{}: {e}", at.display());
            let parent = if matches!(content, Content::Directory) { Some(at.as_path()) } else { at.parent() };
            if let Some(parent) = parent {
                fs::create_dir_all(parent).map_err(fault)?;
            }
            match content {
                Content::File(bytes, mode) => {
                    fs::write(&at, bytes).map_err(fault)?;
                    fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).map_err(fault)?;
                }
                Content::Link(to) => symlink(to, &at).map_err(fault)?,
                Content::Directory => {}
            }
        }
        Ok(())
    }

    /// Bytes that it takes on a disk.
    pub(crate) fn size(&self) -> usize {
        let size = |content: &Content| if let Content::File(bytes, _) = content { bytes.len() } else { 0 };
        self.0.values().map(size).sum()
    }
}

/// Everything that both packages have, at the places of the rpm.
pub(crate) fn installed(workspace: &Workspace, binaries: &Path, facts: &Facts) -> Result<Tree> {
    let mut tree = Tree::default();
    let packaging = workspace.workspace_root.join("packaging");
    for (name, to) in
        [("sluice", "usr/bin/sluice"), ("sluiced", "usr/lib/sluice/sluiced"), ("sluice-loader", LOADER)]
    {
        tree.program(to, stripped(&binaries.join(name), &workspace.target_directory.join("package"))?);
    }
    tree.file("usr/lib/sluice/sluice-ebpf.o", read(&binaries.join("sluice-ebpf.o"))?);
    tree.0.insert("usr/sbin/sluice-loader".into(), Content::Link("../lib/sluice/sluice-loader"));
    tree.0.insert("etc/sluice".into(), Content::Directory);
    for (name, to) in [
        ("systemd/sluice-loader.service", "usr/lib/systemd/system/sluice-loader.service"),
        ("systemd/sluiced.service", "usr/lib/systemd/system/sluiced.service"),
        ("systemd/sysusers.conf", "usr/lib/sysusers.d/sluice.conf"),
        ("systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/sluice.conf"),
    ] {
        tree.file(to, read(&packaging.join(name))?);
    }
    documents::add(&mut tree, workspace, &binaries.join("sluice"), facts)?;
    bill::add(&mut tree, workspace, facts)?;
    Ok(tree)
}

const LOADER: &str = "usr/lib/sluice/sluice-loader";

/// A program without its symbols.
fn stripped(program: &Path, directory: &Path) -> Result<Vec<u8>> {
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let name = program.file_name().unwrap_or_default();
    let to = directory.join(name).with_extension("stripped");
    let mut strip = Command::new("strip");
    // as dh_strip does
    strip.args(["--remove-section=.comment", "--remove-section=.note"]).arg(program).arg("-o").arg(&to);
    quietly(&format!("strip {}", Path::new(name).display()), &mut strip)?;
    let bytes = read(&to)?;
    drop(fs::remove_file(&to));
    Ok(bytes)
}
