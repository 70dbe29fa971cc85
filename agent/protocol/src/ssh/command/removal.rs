//! `rm -rf /`, in the forms that it has.
use super::word::Word;

/// Whether `base` with these arguments removes everything from the root on. `at_root`: the line has changed there
/// before.
pub(super) fn of_root(base: &str, arguments: &[Word], at_root: bool) -> bool {
    let letters = |letter: char| {
        arguments
            .iter()
            .filter_map(Word::literal)
            .any(|text| text.starts_with('-') && !text.starts_with("--") && text.contains(letter))
    };
    let says = |option: &str| arguments.iter().any(|word| word.literal() == Some(option));
    match base {
        "rm" => {
            let recursive = letters('r') || letters('R') || abbreviates(arguments, "--recursive", "--r");
            abbreviates(arguments, "--no-preserve-root", "--n")
                || (recursive && arguments.iter().any(|word| everything(word, at_root)))
        }
        "find" => {
            let removes = says("-delete") || says("rm");
            removes && arguments.first().is_some_and(|start| everything(start, at_root))
        }
        _ => false,
    }
}

/// Whether `path` is the root: `/`, `//`, `/./`, `/..`, `/etc/..`.
pub(super) fn is_root(path: &str) -> bool {
    path.starts_with('/') && plain(path).is_empty()
}

/// Whether a change to `path` may lead to the root: it is the root, or goes nowhere but up.
pub(super) fn leads_to_root(path: &str) -> bool {
    is_root(path) || (path.contains("..") && path.split('/').all(|part| ["", ".", ".."].contains(&part)))
}

/// The parts of an absolute path that are left.
fn plain(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts
}

/// The root, or a pattern for all that is in it.
fn everything(word: &Word, at_root: bool) -> bool {
    match word {
        Word::Literal(path) => is_root(path) || (at_root && [".", "./", ".."].contains(&path.as_str())),
        Word::Pattern(pattern) => {
            let first = match pattern.strip_prefix('/') {
                Some(_) => plain(pattern).first().copied().unwrap_or_default().to_owned(),
                None if at_root => plain(pattern).first().copied().unwrap_or_default().to_owned(),
                None => return false,
            };
            first.contains(['*', '?', '[', '{'])
        }
        Word::Computed(_) => false,
    }
}

/// Whether `option` is there, written out or as much of it as getopt needs.
fn abbreviates(arguments: &[Word], option: &str, least: &str) -> bool {
    arguments.iter().filter_map(Word::literal).any(|text| text.starts_with(least) && option.starts_with(text))
}
