//! Lines of the side that sends, and answers of the other one.
use bytes::{Bytes, BytesMut};

use super::InvalidCopy;
use crate::ssh::path::escaped;

/// OpenSSH reads lines of up to 16 KiB.
const MAX_LINE: usize = 16 * 1024;

/// A line of the side that sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `C…` or `D…`.
    File { directory: bool, mode: u32, size: u64, name: Vec<u8> },
    /// `E`: the end of a directory.
    End,
    /// `T…`: times of what comes next.
    Times,
    /// It could not read something, in its words; the copy goes on, or not.
    Trouble { fatal: bool, words: String },
}

/// An answer of the side that receives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Go on.
    Good,
    /// It could not, in its words; the copy goes on with the next file, or not.
    Trouble { fatal: bool, words: String },
}

/// Takes bytes up to a newline; `None` when there is none yet.
pub(super) fn take(input: &mut BytesMut) -> Result<Option<Bytes>, InvalidCopy> {
    match memchr::memchr(b'\n', input) {
        Some(end) if end < MAX_LINE => Ok(Some(input.split_to(end + 1).freeze())),
        None if input.len() < MAX_LINE => Ok(None),
        _ => Err(InvalidCopy::Line("longer than any line".to_owned())),
    }
}

/// Takes an answer: a zero byte, or a message.
pub(super) fn take_reply(input: &mut BytesMut) -> Result<Option<(Reply, Bytes)>, InvalidCopy> {
    match input.first() {
        None => Ok(None),
        Some(0) => Ok(Some((Reply::Good, input.split_to(1).freeze()))),
        Some(first) => {
            // whatever is no mild trouble ends the copy
            let fatal = *first != 1;
            Ok(take(input)?.map(|line| (Reply::Trouble { fatal, words: words(&line) }, line)))
        }
    }
}

/// Reads a whole line.
pub(super) fn read(line: &[u8]) -> Result<Line, InvalidCopy> {
    let bad = || InvalidCopy::Line(shown(line));
    let inner = line.strip_suffix(b"\n").ok_or_else(bad)?;
    let (kind, rest) = inner.split_first().ok_or_else(bad)?;
    match kind {
        b'E' if rest.is_empty() => Ok(Line::End),
        b'T' => times(rest).ok_or_else(bad),
        1 | 2 => Ok(Line::Trouble { fatal: *kind == 2, words: words(line) }),
        b'C' | b'D' => file(*kind == b'D', rest).ok_or_else(bad)?,
        _ => Err(bad()),
    }
}

/// `0644 12 name`.
fn file(directory: bool, rest: &[u8]) -> Option<Result<Line, InvalidCopy>> {
    let mut parts = rest.splitn(3, |byte| *byte == b' ');
    let (mode, size, name) = (parts.next()?, parts.next()?, parts.next()?);
    if mode.len() != 4 || !mode.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    let mode = mode.iter().fold(0, |mode, digit| mode * 8 + u32::from(digit - b'0'));
    let size = number(size)?;
    // it would lie elsewhere, or be another name for whoever reads C strings
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Some(Err(InvalidCopy::Name(shown(name))));
    }
    Some(Ok(Line::File { directory, mode, size, name: name.to_vec() }))
}

/// `1234567890 0 1234567890 0`.
fn times(rest: &[u8]) -> Option<Line> {
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b' ').collect();
    (parts.len() == 4 && parts.iter().all(|part| number(part).is_some())).then_some(Line::Times)
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if plain {
        std::str::from_utf8(digits).ok()?.parse().ok().filter(|n| *n <= i64::MAX as u64)
    } else {
        None
    }
}

/// The message behind its first byte.
fn words(line: &[u8]) -> String {
    let text = match line.split_first() {
        Some((1 | 2, rest)) => rest,
        _ => line,
    };
    shown(text.strip_suffix(b"\n").unwrap_or(text))
}

/// For people's eyes.
fn shown(bytes: &[u8]) -> String {
    escaped(bytes.get(..bytes.len().min(200)).unwrap_or_default())
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// A message in the protocol's form, with nothing in it that ends it early.
pub(super) fn trouble(said: &str) -> Bytes {
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    Bytes::from(format!("\u{1}scp: {said}\n"))
}
