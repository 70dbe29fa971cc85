//! Man pages, completions, examples, changelog. What can be had from the programs themselves is.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::tree::Tree;
use super::{Facts, filled, read};
use crate::shell::{Result, ask, quietly};
use crate::workspace::Workspace;

/// Where documentation goes.
pub(crate) const DOC: &str = "usr/share/doc/sluice";

/// Adds them to the tree.
pub(crate) fn add(tree: &mut Tree, workspace: &Workspace, sluice: &Path, facts: &Facts) -> Result<()> {
    manual(tree, workspace, sluice, facts)?;
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/sluice"),
        ("zsh", "usr/share/zsh/site-functions/_sluice"),
        ("fish", "usr/share/fish/vendor_completions.d/sluice.fish"),
    ] {
        let text = ask(Command::new(sluice).args(["completions", shell]));
        if !text.contains("sluice") {
            return Err(format!("`sluice completions {shell}` printed nothing of use"));
        }
        tree.file(path, text);
    }
    let root = &workspace.workspace_root;
    for name in ["docs/limits.md", "docs/policy.md", "docs/masking.md", "docs/install.md"] {
        let file = name.rsplit('/').next().unwrap_or(name);
        tree.file(format!("{DOC}/{file}.gz"), compressed(&read(&root.join(name))?)?);
    }
    tree.file(format!("{DOC}/CHANGELOG.md.gz"), compressed(&read(&root.join("CHANGELOG.md"))?)?);
    tree.file(format!("{DOC}/examples/sluice.toml"), read(&root.join("packaging/example/sluice.toml"))?);
    let policies = root.join("packaging/example/policy");
    for entry in fs::read_dir(&policies).map_err(|e| format!("{}: {e}", policies.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        tree.file(format!("{DOC}/examples/policy/{name}"), read(&entry.path())?);
    }
    Ok(())
}

fn manual(tree: &mut Tree, workspace: &Workspace, sluice: &Path, facts: &Facts) -> Result<()> {
    let directory = workspace.target_directory.join("package/man");
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    quietly("man pages", Command::new(sluice).arg("man").arg(&directory))?;
    for entry in fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        tree.file(format!("usr/share/man/man1/{name}.gz"), compressed(&read(&entry.path())?)?);
    }
    let date = date(facts.epoch);
    let values = [("DATE", date.as_str()), ("VERSION", facts.version.as_str())];
    let loader = filled(workspace, "man/sluice-loader.8", &values)?;
    tree.file("usr/share/man/man8/sluice-loader.8.gz", compressed(loader.as_bytes())?);
    tree.file("usr/share/man/man8/sluiced.8.gz", compressed(b".so man8/sluice-loader.8\n")?);
    let example = workspace.workspace_root.join("packaging/example/sluice.toml");
    let example = fs::read_to_string(&example).map_err(|e| format!("{}: {e}", example.display()))?;
    let page = configuration(&example, &date, &facts.version);
    tree.file("usr/share/man/man5/sluice.toml.5.gz", compressed(page.as_bytes())?);
    Ok(())
}

/// sluice.toml(5): the example explains every key, and a test holds it to that.
fn configuration(example: &str, date: &str, version: &str) -> String {
    let mut page = format!(
        ".TH SLUICE.TOML 5 \"{date}\" \"Sluice {version}\" \"Sluice\"\n.SH NAME\nsluice.toml \\- the configuration of a \
         host that Sluice guards\n.SH DESCRIPTION\nEvery key, in its place, with what it means. What has a default can be \
         left out.\n.BR \"sluice config check\" (1)\nsays what is wrong with a file, and where.\n.PP\n.nf\n"
    );
    for line in example.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // a dot or a quote at the beginning would be a request
        let _ = writeln!(page, "\\&{line}");
    }
    page.push_str(
        ".fi\n.SH FILES\n.TP\n.I /etc/sluice/sluice.toml\nThis file.\n.TP\n.I /usr/share/doc/sluice/examples\nThe same as a \
         file, and policies with their cases.\n.SH SEE ALSO\n.BR sluice (1),\n.BR sluice\\-loader (8)\n",
    );
    page
}

/// Seconds since 1970 as 2026-11-24.
pub(crate) fn date(epoch: u64) -> String {
    formatted(epoch, "%Y-%m-%d")
}

/// Seconds since 1970 in a format of date(1), in English and UTC.
pub(crate) fn formatted(epoch: u64, format: &str) -> String {
    let mut command = Command::new("date");
    command.args(["-u", "-d", &format!("@{epoch}"), &format!("+{format}")]).env("LC_ALL", "C");
    ask(&mut command).trim().to_owned()
}

/// As `gzip -9n`: no name, no time.
pub(crate) fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let fault = |e: std::io::Error| format!("gzip: {e}");
    let mut child = Command::new("gzip")
        .args(["-9n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fault)?;
    let input = child.stdin.take();
    let bytes = bytes.to_owned();
    let writer = std::thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(&bytes)));
    let output = child.wait_with_output().map_err(fault)?;
    let written = writer.join().map_err(|_| "gzip: its input ended".to_owned())?;
    written.map_err(fault)?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("gzip: {}", output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_example_becomes_a_request_of_roff() {
        let page = configuration(".TH\n'x\na\\b", "2026-01-01", "1");
        assert!(page.contains("\n\\&.TH\n\\&'x\n\\&a\\eb\n"), "{page}");
    }

    #[test]
    fn compressing_is_the_same_each_time() {
        assert_eq!(compressed(b"sluice").unwrap(), compressed(b"sluice").unwrap());
    }
}
