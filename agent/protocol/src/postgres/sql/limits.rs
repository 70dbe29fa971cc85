//! What is refused before it reaches the parser: length, NUL bytes, nesting.

/// The longest text that is analysed, in bytes. Longer ones are `unknown`: a verdict costs
/// memory in proportion to the text (some 50 bytes a byte).
pub const MAX_TEXT: usize = 1 << 20;

/// Brackets open at once, anywhere in the text. libpg_query has a limit of its own against
/// overflow of the stack; this one answers before the work is done.
pub const MAX_NESTING: usize = 500;

/// Why `text` will not be given to the parser, or `None`.
///
/// The count does not know strings or comments; it can only be too high, never too low
/// by what matters (closing brackets inside a string could lower it, so it never goes below
/// the level that the parser could have: a bracket closed in a string is not subtracted twice).
pub(super) fn refusal(text: &str) -> Option<String> {
    if text.len() > MAX_TEXT {
        return Some(format!("the statement is {} bytes long; at most {MAX_TEXT} are judged", text.len()));
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Some("the statement holds a NUL byte".to_owned());
    }
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest > MAX_NESTING).then(|| format!("the statement nests more than {MAX_NESTING} brackets"))
}
