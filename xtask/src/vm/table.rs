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
";

/// Writes the table: a column a machine, in the order in which they ran.
pub(super) fn write(path: &Path, seen: &[(bool, Found)]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in seen.iter().flat_map(|(_, found)| &found.rows) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = HEAD.to_owned();
    let mut line = |cells: &[String]| text.push_str(&format!("| {} |\n", cells.join(" | ")));
    let column = |(lsm, found): &(bool, Found)| {
        let version = found.version.split('-').next().unwrap_or_default();
        format!("{version}{}", if *lsm { ", LSM" } else { "" })
    };
    line(&[vec!["Row".to_owned()], seen.iter().map(column).collect()].concat());
    line(&vec!["---".to_owned(); seen.len() + 1]);
    for name in names {
        let cell = |(_, found): &(bool, Found)| {
            let said = found.rows.iter().find(|(row, _)| row == name);
            said.map_or_else(|| "–".to_owned(), |(_, verdict)| verdict.clone())
        };
        line(&[vec![name.replace(" | ", ", ")], seen.iter().map(cell).collect()].concat());
    }
    let text = text.replacen("\n| Row", "\n\n| Row", 1);
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    say(&format!("written: {}", path.display()));
    Ok(())
}
