//! Options before the operands of a program, as getopt_long with a leading `+` reads them.
use super::word::Word;

/// The options that a program has and that are known to change nothing about what it runs.
pub(super) struct Options {
    /// Letters that stand alone.
    pub(super) flags: &'static str,
    /// Letters with a value.
    pub(super) valued: &'static str,
    /// Long ones that stand alone, or have a value behind `=`.
    pub(super) long: &'static [&'static str],
    /// Long ones with a value.
    pub(super) long_valued: &'static [&'static str],
}

impl Options {
    /// None.
    pub(super) const NONE: Options = Options { flags: "", valued: "", long: &[], long_valued: &[] };
}

/// Where the operands begin.
///
/// # Errors
/// An option that is not known.
pub(super) fn skip(words: &[Word], options: &Options) -> Result<usize, String> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Word::Literal(text) = word else {
            return Err("an option or program that is not known before it runs".to_owned());
        };
        let unknown = || format!("the option {text} is not known here");
        if text == "--" {
            return Ok(at + 1);
        } else if text.starts_with("--") {
            let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
            at += match value {
                Some(_) if options.long.contains(&name) || options.long_valued.contains(&name) => 1,
                None if options.long.contains(&name) => 1,
                None if options.long_valued.contains(&name) => 2,
                _ => return Err(unknown()),
            };
        } else if let Some(cluster) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            at += 1;
            for (index, letter) in cluster.char_indices() {
                if options.valued.contains(letter) {
                    at += usize::from(index + letter.len_utf8() == cluster.len());
                    break;
                }
                if !options.flags.contains(letter) {
                    return Err(unknown());
                }
            }
        } else {
            return Ok(at);
        }
    }
    if at > words.len() { Err("an option without its value".to_owned()) } else { Ok(at) }
}
