//! The text of a statement without the values of its literals.
//!
//! A lexer of the plain part of PostgreSQL's grammar (chapter 4.1 of its documentation): it knows just enough to tell
//! where a number or a plain string begins and ends, and leaves everything else alone. That its placeholders stand
//! where PostgreSQL's own scanner sees constants is held by a differential test.

/// Longer texts are not worth it, and a limit on the size of a statement must not be passed by a longer literal.
const MAX_TEXT: usize = 4096;
/// A numeral with more digits may be another kind of constant to the grammar, where it takes integers alone.
const MAX_DIGITS: usize = 9;

/// In the place of a numeral.
const NUMBER: u8 = 1;
/// In the place of a string.
const STRING: u8 = 2;

/// Appends `text` with each literal replaced by a placeholder to `out`. `false` when the text holds something that this
/// lexer leaves alone (comments, dollar quotes, prefixed strings, …): then the text itself is what is looked up.
pub fn skeleton(text: &str, out: &mut Vec<u8>) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_TEXT {
        return false;
    }
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        let end = match byte {
            b'\'' => match string(bytes, at) {
                Some(end) => {
                    out.push(STRING);
                    at = end;
                    continue;
                }
                None => return false,
            },
            b'0'..=b'9' | b'.' if byte != b'.' || next.is_ascii_digit() => match number(bytes, at) {
                Some(end) => {
                    out.push(NUMBER);
                    at = end;
                    continue;
                }
                None => return false,
            },
            b'"' => match quoted(bytes, at) {
                Some(end) => end,
                None => return false,
            },
            // `..` is a token of its own, and what stands behind it is no fraction
            b'.' if next == b'.' => return false,
            b'-' if next == b'-' => return false,
            b'/' if next == b'*' => return false,
            // a parameter keeps its number; anything else behind a dollar is a quote
            b'$' if next.is_ascii_digit() => word(bytes, at + 1),
            b'$' | b'\\' => return false,
            b if is_word(b) => {
                let end = word(bytes, at);
                // E'…', U&'…', B'…', N'…'
                if matches!(bytes.get(end), Some(b'\''))
                    || (byte | 0x20 == b'u' && bytes.get(end) == Some(&b'&'))
                {
                    return false;
                }
                end
            }
            b if b < b' ' && !b.is_ascii_whitespace() => return false,
            _ => at + 1,
        };
        out.extend_from_slice(bytes.get(at..end).unwrap_or_default());
        at = end;
    }
    true
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn word(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| is_word(**b) || b.is_ascii_digit() || **b == b'$').count()
}

/// End of a plain string; a doubled quote is one inside.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    enclosed(bytes, at, b'\'')
}

/// End of a quoted name, which stays as it is.
fn quoted(bytes: &[u8], at: usize) -> Option<usize> {
    let end = enclosed(bytes, at, b'"')?;
    // what stands in the place of literals must stand nowhere else
    let plain = bytes.get(at..end)?.iter().all(|b| *b >= b' ');
    plain.then_some(end)
}

fn enclosed(bytes: &[u8], at: usize, quote: u8) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let found = memchr::memchr(quote, bytes.get(at..)?)?;
        at += found + 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// End of a decimal numeral; `None` for one that is odd or long.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let digits =
        |at: usize| bytes.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(at);
    let mut end = at + whole;
    let mut count = whole;
    if bytes.get(end) == Some(&b'.') {
        let part = digits(end + 1);
        count += part;
        end += 1 + part;
    }
    // exponents, other bases, underscores, junk, ranges
    let odd = |b: &u8| is_word(*b) || *b == b'.' || *b == b'$';
    (count <= MAX_DIGITS && count > 0 && !bytes.get(end).is_some_and(odd)).then_some(end)
}
