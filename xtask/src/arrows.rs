//! Who may import whom, and how much each crate may lean on: asserted from `cargo metadata`, never from memory.

use std::collections::{HashMap, HashSet};

use crate::workspace::Workspace;

/// A wall of the house.
struct Wall {
    name: &'static str,
    /// Crates of ours that it may use, in any kind of dependency.
    may: &'static [&'static str],
    /// What it must not reach, however indirectly (dev-dependencies aside).
    never: &'static [&'static str],
    /// Direct dependencies from outside, dev-dependencies aside: a further one is a decision, made here.
    budget: usize,
}

/// Anything that opens a socket or drives one.
const NETWORK: &[&str] = &["tokio", "mio", "async-io", "hyper", "reqwest", "rustls", "russh"];

const WALLS: &[Wall] = &[
    Wall { name: "sluice-abi", may: &[], never: NETWORK, budget: 1 },
    Wall { name: "sluice-api", may: &[], never: NETWORK, budget: 4 },
    Wall { name: "sluice-policy", may: &[], never: NETWORK, budget: 6 },
    Wall { name: "sluice-evidence", may: &[], never: NETWORK, budget: 5 },
    Wall { name: "sluice-config", may: &[], never: NETWORK, budget: 6 },
    // Two grammars that are nobody's to write again: PostgreSQL's and the shell's.
    Wall { name: "sluice-protocol", may: &["sluice-policy"], never: NETWORK, budget: 7 },
    Wall {
        name: "sluice-loader",
        may: &["sluice-abi", "sluice-api", "sluice-config"],
        // It has root: no parser of network bytes, no TLS, no SQL.
        never: &[
            "tokio",
            "rustls",
            "russh",
            "reqwest",
            "hyper",
            "sluice-protocol",
            "sluice-policy",
            "pg_query",
            "cedar-policy",
        ],
        budget: 9,
    },
    Wall {
        name: "sluice-agent",
        may: &[
            "sluice-abi",
            "sluice-api",
            "sluice-config",
            "sluice-evidence",
            "sluice-policy",
            "sluice-protocol",
        ],
        // russh is in: both legs of SSH and the CA for them. The loader, which has root, never reaches it.
        never: &["aya"],
        // Proxy and CLI in one: TLS, OIDC, SSH, the recorder, the fence and the command line each bring their own.
        // sha3: a PK token's commitment (OpenPubkey) has no other hash, and ring does not have it. The last is indicatif:
        // `sluice classify` goes through a whole database, and people want to see how far it is.
        budget: 47,
    },
    Wall {
        name: "sluice-tests",
        may: &[
            "sluice-abi",
            "sluice-agent",
            "sluice-api",
            "sluice-config",
            "sluice-evidence",
            "sluice-policy",
            "sluice-protocol",
        ],
        never: &[],
        budget: 12,
    },
    Wall { name: "xtask", may: &[], never: NETWORK, budget: 9 },
];

/// Everything that is not as the walls say; empty when the house stands.
pub(crate) fn broken(workspace: &Workspace) -> Vec<String> {
    let ours: HashSet<&str> = workspace
        .packages
        .iter()
        .filter(|package| workspace.workspace_members.contains(&package.id))
        .map(|package| package.name.as_str())
        .collect();
    let mut found = Vec::new();
    for package in workspace.packages.iter().filter(|package| ours.contains(package.name.as_str())) {
        let Some(wall) = WALLS.iter().find(|wall| wall.name == package.name) else {
            found.push(format!(
                "{} is in no line of xtask/src/arrows.rs: say there whom it may import",
                package.name
            ));
            continue;
        };
        let mut outside = HashSet::new();
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if !ours.contains(name) {
                if dependency.kind.as_deref() != Some("dev") {
                    outside.insert(name);
                }
            } else if !wall.may.contains(&name) {
                found.push(format!("{} must not import {name}", package.name));
            }
        }
        if outside.len() > wall.budget {
            found.push(format!(
                "{} has {} direct dependencies, {} are allowed: drop one, or raise the budget in xtask/src/arrows.rs and say why",
                package.name, outside.len(), wall.budget
            ));
        }
        for reached in reachable(workspace, &package.id) {
            if wall.never.contains(&reached) {
                found.push(format!("{} must not reach {reached}, also not through others", package.name));
            }
        }
    }
    found
}

/// Names of all packages that the one with this id is linked with.
fn reachable<'a>(workspace: &'a Workspace, id: &str) -> HashSet<&'a str> {
    let Some(resolve) = &workspace.resolve else { return HashSet::new() };
    let names: HashMap<&str, &str> =
        workspace.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let nodes: HashMap<&str, _> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut open = vec![id];
    let mut seen = HashSet::new();
    let mut found = HashSet::new();
    while let Some(here) = open.pop() {
        let Some(node) = nodes.get(here) else { continue };
        for dependency in &node.deps {
            // Build scripts and tests are not in the binary.
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if linked && seen.insert(dependency.pkg.as_str()) {
                found.extend(names.get(dependency.pkg.as_str()).copied());
                open.push(&dependency.pkg);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crate of ours that imports what it must not is found, directly and through others.
    #[test]
    fn a_broken_wall_is_found() {
        let text = r#"{"workspace_root": "/w", "target_directory": "/t", "workspace_members": ["l", "p"],
            "packages": [
                {"id": "l", "name": "sluice-loader", "dependencies": [{"name": "sluice-protocol", "kind": null}]},
                {"id": "p", "name": "sluice-protocol", "dependencies": [{"name": "helper", "kind": null}]},
                {"id": "h", "name": "helper", "dependencies": []},
                {"id": "t", "name": "tokio", "dependencies": []}],
            "resolve": {"nodes": [
                {"id": "l", "deps": [{"pkg": "p", "dep_kinds": [{"kind": null}]}]},
                {"id": "p", "deps": [{"pkg": "h", "dep_kinds": [{"kind": null}]}]},
                {"id": "h", "deps": [{"pkg": "t", "dep_kinds": [{"kind": null}]}]}]}}"#;
        let found = broken(&serde_json::from_str(text).unwrap());
        for part in [
            "must not import sluice-protocol",
            "sluice-protocol must not reach tokio",
            "sluice-loader must not reach tokio",
        ] {
            assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
        }
    }

    /// The house as it is.
    #[test]
    fn every_wall_stands() {
        assert_eq!(broken(&Workspace::with_graph().unwrap()), Vec::<String>::new());
    }
}
