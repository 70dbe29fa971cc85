//! docs/kernels.md: row × kernel × verdict, as the machines said it.

use std::fs;
use std::path::Path;

use super::Found;
use crate::shell::{Result, say};

const HEAD: &str = "\
# What holds on which kernel

Written by `cargo xtask vm`, which boots each kernel as a whole host under guard, without and with BPF-LSM programs
(`lsm=…,bpf`), and tries every row there; not to be edited. `closed`: nothing arrived at the service. `refused`: EPERM, with
an event. `open`: it was done. `–`: not tried, since the layer that would refuse it is not there. Rows of root's acts are
tried under `guard.self_protection` off (`unprotected`), on with `packet_sockets = \"deny\"` (`protected`), and `strict`.
`test:` rows are end-to-end tests of `tests/` as they are (`cargo xtask vm --tests`): `passed`, or `failed`.
";

/// A column: the machine, and its rows.
type Column = (String, Vec<(String, String)>);
/// What rows of end-to-end tests begin with.
const TESTS: &str = "test: ";
const UNKNOWN: &str = "–";

/// Writes the table: a column a machine. Those that did not run this time, or did not come up, stay as they are.
pub(super) fn write(path: &Path, seen: &[(bool, Found)]) -> Result<()> {
    let mut columns = read(&fs::read_to_string(path).unwrap_or_default());
    for (lsm, found) in seen {
        let version = found.version.split('-').next().unwrap_or_default();
        let name = format!("{version}{}", if *lsm { ", LSM" } else { "" });
        let rows: Vec<_> =
            found.rows.iter().map(|(row, said)| (row.replace(" | ", ", "), said.clone())).collect();
        match columns.iter_mut().find(|(known, _)| *known == name) {
            _ if rows.is_empty() => {}
            // claims and tests come from machines of their own
            Some((_, old)) => {
                let tests = rows.iter().any(|(row, _)| row.starts_with(TESTS));
                old.retain(|(row, _)| {
                    if tests { !rows.iter().any(|(new, _)| new == row) } else { row.starts_with(TESTS) }
                });
                old.extend(rows);
            }
            None => columns.push((name, rows)),
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|(_, rows)| rows) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = format!("{HEAD}\n");
    let mut line = |cells: Vec<String>| text.push_str(&format!("| {} |\n", cells.join(" | ")));
    line(std::iter::once("Row".to_owned()).chain(columns.iter().map(|(name, _)| name.clone())).collect());
    line(vec!["---".to_owned(); columns.len() + 1]);
    for name in names {
        let cell = |(_, rows): &Column| {
            rows.iter()
                .find(|(row, _)| row == name)
                .map_or_else(|| UNKNOWN.to_owned(), |(_, said)| said.clone())
        };
        line(std::iter::once(name.to_owned()).chain(columns.iter().map(cell)).collect());
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    say(&format!("written: {}", path.display()));
    Ok(())
}

/// The columns of a table that was written before.
fn read(text: &str) -> Vec<Column> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let Some(head) = lines.next() else { return Vec::new() };
    let mut columns: Vec<Column> =
        head.split(" | ").skip(1).map(|name| (name.to_owned(), Vec::new())).collect();
    for line in lines.skip(1) {
        let mut cells = line.split(" | ");
        let Some(name) = cells.next() else { continue };
        for ((_, rows), said) in columns.iter_mut().zip(cells).filter(|(_, said)| *said != UNKNOWN) {
            rows.push((name.to_owned(), said.to_owned()));
        }
    }
    columns.retain(|(_, rows)| !rows.is_empty());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_run_stays() {
        let path = std::env::temp_dir().join(format!("sluice-kernels-{}", std::process::id()));
        let found = |version: &str, rows: &[(&str, &str)]| Found {
            version: version.to_owned(),
            rows: rows.iter().map(|(row, said)| ((*row).to_owned(), (*said).to_owned())).collect(),
            costs: Vec::new(),
        };
        write(&path, &[(false, found("6.1.0-1", &[("a", "open"), ("b | c", "closed")]))]).unwrap();
        write(&path, &[(true, found("6.1.0-1", &[("a", "refused")])), (false, found("6.1.0-1", &[]))])
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text.contains("| Row | 6.1.0 | 6.1.0, LSM |\n"), "{text}");
        assert!(text.contains("| a | open | refused |\n| b, c | closed | – |\n"), "{text}");
    }
}
