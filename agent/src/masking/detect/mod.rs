//! Recognises sensitive values in what nobody has classed, and stars them out in place.
//!
//! The stars take exactly the room of the value: lengths in front of it, array headers and JSON around it stay
//! right, in text and in binary formats. A checksum is asked wherever the type has one; what a checksum alone does not
//! prove (a number of nine to eleven digits, a date, a name) is recognised where a word says what it is: the name of
//! the column ([`hints`]), the key or the label in front of it. The table is in `docs/masking.md`.
//!
//! One file a family: [`contact`], [`payment`], [`national`] with the checks in [`ids`], [`network`], [`secrets`];
//! [`context`] reads names, [`pairs`] finds them inside of values, [`column`] judges what stands behind them.

use std::borrow::Cow;
use std::ops::Range;

use super::prefilter::Suspects;

mod checksum;
mod column;
mod contact;
mod context;
mod families;
mod ids;
mod national;
mod network;
mod pairs;
mod payment;
mod secrets;
mod vocabulary;

pub use context::hints;
pub use families::Families;

pub(super) use context::may_name;
#[cfg(test)]
pub(super) use national::short_forms;
pub(super) use national::{LABEL, may_stand_alone};
pub(super) use pairs::may_pair;
pub(super) use secrets::may_begin;

/// Text with everything that the detectors recognise starred out.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let suspects = Suspects::of(text.as_bytes());
    if suspects.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut bytes = text.as_bytes().to_vec();
    if passes(&mut bytes, suspects, Families::NONE).is_empty() {
        return Cow::Borrowed(text);
    }
    // only whole spans of characters are starred, so that this is UTF-8 as before; lossy keeps the promise regardless
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same on a value in place. Returns whether anything was recognised.
pub fn scrub_in_place(value: &mut [u8]) -> bool {
    !scrub_hinted(value, Families::NONE).is_empty()
}

/// The same on a value of a column whose name says what to expect. Returns what was recognised.
pub fn scrub_hinted(value: &mut [u8], hints: Families) -> Families {
    let mut suspects = Suspects::of(value);
    if !hints.is_empty() {
        let found = by_column(value, hints);
        if !found.is_empty() {
            return found;
        }
        if hints.intersects(Families::NATIONAL) {
            suspects |= Suspects::NUMBER;
        }
    }
    if suspects.is_empty() { Families::NONE } else { passes(value, suspects, hints) }
}

/// One pass a kind of suspicion. What one has starred is nothing to the next.
fn passes(value: &mut [u8], suspects: Suspects, hints: Families) -> Families {
    let mut found = Families::NONE;
    if suspects.has(Suspects::SECRET) {
        found |= each(value, |value, from| Some((secrets::prefixed(value, from)?, Families::SECRET)));
    }
    if suspects.has(Suspects::PAIR) {
        found |= named(value);
    }
    if suspects.has(Suspects::AT) {
        found |= each(value, |value, from| Some((secrets::url_password(value, from)?, Families::PASSWORD)));
        found |= each(value, |value, from| Some((contact::email(value, from)?, Families::EMAIL)));
    }
    if suspects.has(Suspects::NUMBER) {
        found |= numbers(value, hints);
    }
    found
}

/// Stars everything that `next` finds.
fn each(value: &mut [u8], next: impl Fn(&[u8], usize) -> Option<(Range<usize>, Families)>) -> Families {
    let (mut from, mut found) = (0, Families::NONE);
    while let Some((range, family)) = next(value, from) {
        from = range.end;
        found |= family;
        star(value, range);
    }
    found
}

fn star(value: &mut [u8], range: Range<usize>) {
    if let Some(span) = value.get_mut(range) {
        span.iter_mut().filter(|b| !matches!(b, b' ' | b'-')).for_each(|b| *b = b'*');
    }
}

/// What the column's name lets expect. Quotes around the whole value are CSV's.
fn by_column(value: &mut [u8], hints: Families) -> Families {
    let quoted = matches!(value, [b'"', .., b'"']);
    let (start, end) = if quoted { (1, value.len() - 1) } else { (0, value.len()) };
    let mut found = Families::NONE;
    let mut from = start;
    while let Some((range, family)) =
        value.get(from..end).and_then(|inner| column::expected(inner, hints, column::Place::Whole))
    {
        found |= family;
        star(value, from + range.start..from + range.end);
        // addresses come in lists
        if !(Families::IP | Families::MAC).intersects(family) {
            break;
        }
        from += range.end;
    }
    found
}

/// What the names inside of the value let expect.
fn named(value: &mut [u8]) -> Families {
    let (mut from, mut found) = (0, Families::NONE);
    while let Some((pair, next_from)) = pairs::next(value, from) {
        from = next_from;
        let inner = value.get(pair.value.clone()).unwrap_or_default();
        if let Some((range, family)) = column::expected(inner, pair.hints, pair.place) {
            found |= family;
            let start = pair.value.start;
            star(value, start + range.start..start + range.end);
        }
    }
    found
}

/// Cards, accounts, telephone numbers and national ids: what begins with a digit, a capital letter or a plus.
fn numbers(value: &mut [u8], hints: Families) -> Families {
    let (mut i, mut found) = (0, Families::NONE);
    while let Some(byte) = value.get(i).copied() {
        let before = i.checked_sub(1).and_then(|at| value.get(at)).copied().unwrap_or(b' ');
        let starts = byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b'+';
        if starts
            && !before.is_ascii_alphanumeric()
            && before != b'.'
            && let Some((length, keep, family)) = number(value, i, hints)
        {
            found |= family;
            star(value, i..i + length - keep);
            i += length;
        } else {
            i += 1;
        }
    }
    found
}

/// The number that begins here: its length, how much of it stays readable, what it is.
fn number(value: &[u8], at: usize, hints: Families) -> Option<(usize, usize, Families)> {
    let rest = value.get(at..)?;
    let first = rest.first()?;
    if *first == b'+' {
        return contact::international(rest).map(|length| (length, 0, Families::PHONE));
    }
    if first.is_ascii_digit() {
        if let Some(length) = payment::card(rest) {
            return Some((length, 4, Families::CARD));
        }
    } else if let Some(length) = payment::iban(rest) {
        return Some((length, 0, Families::IBAN));
    }
    national::at(value, at, hints).map(|(length, family)| (length, 0, family))
}

/// Whether anything is recognised, asked without the prefilter: what that one is held to.
#[cfg(test)]
pub(super) fn recognises(value: &[u8]) -> bool {
    !passes(&mut value.to_vec(), Suspects::ALL, Families::NONE).is_empty()
}

/// Every pass, whatever the prefilter says.
#[cfg(test)]
pub(super) fn scrub_all(value: &mut [u8]) {
    passes(value, Suspects::ALL, Families::NONE);
}

#[cfg(test)]
mod tests;
