//! A statement as whoever approves it is shown it: whole, and nothing of it where the eye does not go.
//!
//! Must hold: what is shown tells every character of the text; long gaps are shown by their length; a letter that only looks
//! like another one is named.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice_config::look_alike;

use super::super::terminal::{DIM, WARN, safe, safe_lines};

/// Spaces in a row that are shown as they are: more than any indentation.
const SPACES: usize = 40;
/// Empty lines in a row that are shown as they are.
const EMPTY: usize = 2;
/// More lines than a terminal shows at one time.
const LINES: usize = 20;
/// Look-alikes that are named; whoever uses more of them is seen by these.
const NAMED: usize = 12;

/// The text, indented, with how long it is where its beginning may have left the screen.
pub(super) fn statement(text: &str) -> String {
    let mut out = String::new();
    let mut empty = 0;
    for line in safe_lines(text).split('\n') {
        if line.trim().is_empty() && line.len() <= SPACES {
            empty += 1;
            continue;
        }
        blank(&mut out, &mut empty);
        let _ = writeln!(out, "    {}", gaps(line));
    }
    blank(&mut out, &mut empty);
    let lines = text.lines().count();
    if lines > LINES {
        let characters = text.chars().count();
        let _ = writeln!(
            out,
            "  {WARN}the statement has {lines} lines, {characters} characters; read it from its beginning{WARN:#}"
        );
    }
    out
}

fn blank(out: &mut String, empty: &mut usize) {
    let count = std::mem::take(empty);
    if count > EMPTY {
        let _ = writeln!(out, "    {DIM}⟨{count} empty lines⟩{DIM:#}");
    } else {
        out.push_str(&"    \n".repeat(count));
    }
}

/// Long gaps by their length: what stands behind them is past the margin of a pager, or on a line of its own.
fn gaps(line: &str) -> String {
    let (mut out, mut gap) = (String::with_capacity(line.len()), String::new());
    let flush = |gap: &mut String, out: &mut String| {
        let count = gap.chars().count();
        if count > SPACES {
            let _ = write!(out, "⟨{count} spaces⟩");
        } else {
            out.push_str(gap);
        }
        gap.clear();
    };
    for c in line.chars() {
        if matches!(c, ' ' | '\t') {
            gap.push(c);
        } else {
            flush(&mut gap, &mut out);
            out.push(c);
        }
    }
    flush(&mut gap, &mut out);
    out
}

/// Letters that only look like others, each with a word that it stands in; a line each.
pub(super) fn warnings<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let mut found: BTreeMap<char, &str> = BTreeMap::new();
    for word in texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_')) {
        // a word of another language has letters that look like nothing else; one of look-alikes alone is meant to be mistaken
        let latin = word.chars().any(|c| c.is_ascii_alphabetic());
        let alone = word.chars().filter(|c| c.is_alphabetic()).all(|c| look_alike(c).is_some());
        if latin || alone {
            for odd in word.chars().filter(|c| look_alike(*c).is_some()) {
                found.entry(odd).or_insert(word);
            }
        }
    }
    found.iter().take(NAMED).fold(String::new(), |mut out, (odd, word)| {
        let latin = look_alike(*odd).unwrap_or_default();
        let word: String = word.chars().take(40).collect();
        let code = u32::from(*odd);
        let _ = writeln!(
            out,
            "  {WARN}`{}` has U+{code:04X}, which only looks like `{latin}`{WARN:#}",
            safe(&word)
        );
        out
    })
}
