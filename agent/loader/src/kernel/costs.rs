//! What the verifier makes of each program (`sluice-loader costs`): instructions that it had to look at, which is what its
//! limit counts, and what a change may raise without anybody noticing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Guard;

/// Says a line a program: name, instructions looked at, bound. Programs that this kernel refuses, and all of them on one
/// that does not tell (before 5.16), are left out.
///
/// # Errors
/// In words: a program is above its bound, or has none.
pub(crate) fn run(object: &Path, cgroup: &Path, pins: &Path, bounds: Option<&Path>) -> Result<(), String> {
    let bounds = bounds.map(read).transpose()?;
    let guard = Guard::load(object, cgroup, pins).map_err(|error| super::words(&error));
    let told = guard.map(|guard| costs(&guard));
    // the tables that were made for this are nobody's
    let _ = fs::remove_dir_all(pins);
    let mut wrong = Vec::new();
    for (name, cost) in told? {
        let bound = bounds.as_ref().map(|bounds| bounds.get(&name).copied());
        println!(
            "{name}\t{cost}\t{}",
            bound.flatten().map_or_else(|| "-".to_owned(), |bound| bound.to_string())
        );
        match bound {
            Some(None) => wrong.push(format!("{name} has no bound")),
            Some(Some(bound)) if cost > bound => {
                wrong.push(format!("{name} costs {cost} instructions, its bound is {bound}"));
            }
            _ => {}
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn costs(guard: &Guard) -> BTreeMap<String, u32> {
    let told = |program: &aya::programs::Program| program.info().ok()?.verified_instruction_count();
    guard
        .ebpf
        .programs()
        .filter_map(|(name, program)| Some((name.to_owned(), told(program)?)))
        .filter(|(_, cost)| *cost > 0)
        .collect()
}

/// A table: name and bound a line, `#` begins a comment.
fn read(path: &Path) -> Result<BTreeMap<String, u32>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let line = |line: &str| {
        let (name, bound) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), bound.trim().parse().ok()?))
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
}
