//! What is linked in: a bill of materials (CycloneDX 1.5) and the licences, from `cargo metadata` and the sources that
//! were built. A crate that names no licence is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Facts;
use super::documents::{DOC, compressed, formatted};
use super::tree::Tree;
use crate::shell::Result;
use crate::workspace::{Package, Workspace};

/// How deep below a crate's directory a text of a licence may lie: sources that it brings along have their own.
const DEPTH: usize = 3;

/// Adds both to the tree.
pub(crate) fn add(tree: &mut Tree, workspace: &Workspace, facts: &Facts) -> Result<()> {
    let kernel = Workspace::beside(&workspace.workspace_root.join("agent-ebpf/Cargo.toml"))?;
    let mut parts = linked(workspace, &["sluice-agent", "sluice-loader"]);
    parts.extend(linked(&kernel, &["sluice-ebpf"]));
    let mut sums = checksums(&workspace.workspace_root.join("Cargo.lock"))?;
    sums.extend(checksums(&workspace.workspace_root.join("agent-ebpf/Cargo.lock"))?);
    let bill = bill(&parts, &sums, facts);
    let text = serde_json::to_string_pretty(&bill).map_err(|e| format!("the bill of materials: {e}"))?;
    tree.file(format!("{DOC}/sbom.cdx.json.gz"), compressed(text.as_bytes())?);
    let licences = licences(&parts)?;
    tree.file(format!("{DOC}/third-party-licences.gz"), compressed(licences.as_bytes())?);
    Ok(())
}

/// A crate and the crates that it is linked with itself.
struct Part<'a> {
    package: &'a Package,
    uses: BTreeSet<String>,
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

/// By name and version, everything that ends up in the binaries of these packages.
fn linked<'a>(workspace: &'a Workspace, of: &[&str]) -> BTreeMap<String, Part<'a>> {
    let Some(resolve) = &workspace.resolve else { return BTreeMap::new() };
    let packages: BTreeMap<&str, &Package> =
        workspace.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let mut open: Vec<&str> = workspace
        .packages
        .iter()
        .filter(|package| of.contains(&package.name.as_str()))
        .map(|package| package.id.as_str())
        .collect();
    let mut parts = BTreeMap::new();
    while let Some(id) = open.pop() {
        let Some(package) = packages.get(id) else { continue };
        if parts.contains_key(&purl(package)) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == id);
        let ordinary = node.iter().flat_map(|node| &node.deps).filter(|dependency| {
            // build scripts and tests are not in the binary
            dependency.dep_kinds.iter().any(|kind| kind.kind.is_none())
        });
        let mut uses = BTreeSet::new();
        for dependency in ordinary {
            if let Some(used) = packages.get(dependency.pkg.as_str()) {
                uses.insert(purl(used));
                open.push(&dependency.pkg);
            }
        }
        parts.insert(purl(package), Part { package, uses });
    }
    parts
}

/// purl → SHA-256 of the crate's archive, from a lock file.
fn checksums(lock: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(lock).map_err(|e| format!("{}: {e}", lock.display()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| format!("{}: {e}", lock.display()))?;
    let word = |entry: &toml::Value, name: &str| entry.get(name)?.as_str().map(str::to_owned);
    let entries = table.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    Ok(entries
        .filter_map(|entry| {
            let (name, version) = (word(entry, "name")?, word(entry, "version")?);
            Some((format!("pkg:cargo/{name}@{version}"), word(entry, "checksum")?))
        })
        .collect())
}

fn bill(parts: &BTreeMap<String, Part<'_>>, sums: &BTreeMap<String, String>, facts: &Facts) -> Value {
    let component = |(purl, part): (&String, &Part<'_>)| {
        let mut component = json!({"type": "library", "bom-ref": purl, "name": part.package.name,
            "version": part.package.version, "purl": purl});
        if let Some(licence) = &part.package.license {
            // an old way of writing it, which SPDX does not know
            component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
        }
        if let Some(sum) = sums.get(purl) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        component
    };
    let dependency = |(purl, part): (&String, &Part<'_>)| json!({"ref": purl, "dependsOn": part.uses});
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": formatted(facts.epoch, "%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "name": "sluice", "version": facts.version}
        },
        "components": parts.iter().map(component).collect::<Vec<_>>(),
        "dependencies": parts.iter().map(dependency).collect::<Vec<_>>(),
    })
}

fn licences(parts: &BTreeMap<String, Part<'_>>) -> Result<String> {
    let mut list = String::from("What is linked into Sluice's programs, and under which licence.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // our own have no source
    for part in parts.values().filter(|part| part.package.source.is_some()) {
        let package = part.package;
        let name = format!("{} {}", package.name, package.version);
        let home = package.manifest_path.parent().unwrap_or(&package.manifest_path);
        let mut found = Vec::new();
        collect(home, DEPTH, &mut found);
        let licence = match (&package.license, found.is_empty()) {
            (Some(licence), _) => licence.clone(),
            (None, false) => "see its text".to_owned(),
            (None, true) => return Err(format!("{name} names no licence and has no text of one")),
        };
        let _ = writeln!(list, "{name:<44} {licence}");
        for text in found {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, of) in texts {
        let _ = write!(list, "\n{}\n{}\n\n{}\n", "=".repeat(100), of.join(", "), text.trim_end());
    }
    Ok(list)
}

/// Texts of licences in `directory` and below, in the order of their paths.
fn collect(directory: &Path, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let told = ["license", "licence", "copying", "notice", "copyright", "unlicense"];
        let code = [".rs", ".py", ".sh", ".c", ".h", ".pl"].iter().any(|end| name.ends_with(end));
        if path.is_dir() {
            if depth > 0 && !name.starts_with('.') {
                collect(&path, depth - 1, found);
            }
        } else if told.iter().any(|word| name.starts_with(word)) && !code {
            let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            found.extend(text.ok().filter(|text| !text.trim().is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is only built with or tested with is in no bill; what is linked is, with what it uses.
    #[test]
    fn the_bill_has_what_is_linked() {
        let text = r#"{"workspace_root": "/w", "target_directory": "/t", "workspace_members": ["a"],
            "packages": [
                {"id": "a", "name": "sluice-agent", "version": "1.0.0", "dependencies": []},
                {"id": "b", "name": "bytes", "version": "2.0.0", "license": "MIT/Apache-2.0", "dependencies": []},
                {"id": "c", "name": "cc", "version": "3.0.0", "dependencies": []}],
            "resolve": {"nodes": [{"id": "a", "deps": [
                {"pkg": "b", "dep_kinds": [{"kind": null}]}, {"pkg": "c", "dep_kinds": [{"kind": "build"}]}]}]}}"#;
        let workspace: Workspace = serde_json::from_str(text).unwrap();
        let parts = linked(&workspace, &["sluice-agent"]);
        assert_eq!(
            parts.keys().collect::<Vec<_>>(),
            ["pkg:cargo/bytes@2.0.0", "pkg:cargo/sluice-agent@1.0.0"]
        );
        let facts = Facts { version: "1.0.0".into(), maintainer: String::new(), epoch: 0 };
        let sums = BTreeMap::from([("pkg:cargo/bytes@2.0.0".to_owned(), "77".to_owned())]);
        let bill = bill(&parts, &sums, &facts);
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["components"][0]["hashes"][0]["content"], "77");
        assert_eq!(bill["dependencies"][1]["dependsOn"][0], "pkg:cargo/bytes@2.0.0");
    }
}
