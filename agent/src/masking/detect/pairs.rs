//! Names in front of values inside of a value: JSON and JSONB at any depth, hstore, XML, connection strings, command
//! lines, logs. The name is read as a column's name is.

use std::ops::Range;

use super::column::Place;
use super::{Families, context};

/// Names are no longer.
const KEY: usize = 40;

/// A name that says something, and the value behind it.
pub(super) struct Pair {
    pub(super) hints: Families,
    pub(super) value: Range<usize>,
    pub(super) place: Place,
}

/// The first pair whose separator is at or behind `from`, and where to look for the next.
pub(super) fn next(bytes: &[u8], from: usize) -> Option<(Pair, usize)> {
    memchr::memchr3_iter(b'=', b':', b'>', bytes.get(from..)?).find_map(|at| {
        let separator = from + at;
        let hints = context::hints(key(bytes, separator)?);
        let values = Families::PASSWORD
            | Families::TOKEN
            | Families::BIRTH
            | Families::NAME
            | Families::PHONE
            | Families::IP
            | Families::MAC;
        if !hints.intersects(values) {
            return None;
        }
        let (value, place) = behind(bytes, separator);
        Some((Pair { hints, value, place }, separator + 1))
    })
}

/// Whether a pair may be somewhere in `bytes`, whatever is around it. For the prefilter.
pub(in super::super) fn may_pair(bytes: &[u8]) -> bool {
    memchr::memchr3_iter(b'=', b':', b'>', bytes)
        .any(|separator| key(bytes, separator).is_some_and(context::may_name))
}

/// What stands in front of a separator, when it can be a name. Times of day are dismissed by one byte.
fn key(bytes: &[u8], separator: usize) -> Option<&[u8]> {
    let before = bytes.get(..separator)?;
    let around =
        before.iter().rev().take(4).take_while(|b| matches!(b, b'"' | b'\'' | b'\\' | b' ' | b']')).count();
    let before = before.get(..before.len() - around)?;
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b >= 0x80;
    if !before.iter().rev().take(2).any(letter) {
        return None;
    }
    let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || *b >= 0x80;
    let length = before.iter().rev().take(KEY).take_while(|b| part(b)).count();
    before.get(before.len() - length..).filter(|key| key.len() >= 2)
}

/// Where the value is, and how certain that is.
fn behind(bytes: &[u8], separator: usize) -> (Range<usize>, Place) {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let mut at = separator + 1;
    let assigned = byte(separator) == b'=';
    // hstore's arrow
    if assigned && byte(at) == b'>' {
        at += 1;
    }
    while at < separator + 4 && byte(at) == b' ' {
        at += 1;
    }
    // JSON inside of a string, and inside of CSV
    let escaped = byte(at) == b'\\';
    if escaped {
        at += bytes.iter().skip(at).take(3).take_while(|b| **b == b'\\').count();
    }
    let quote = byte(at);
    if matches!(quote, b'"' | b'\'') {
        at += 1;
        if byte(at) == quote && !matches!(byte(at + 1), 0 | b',' | b'}' | b']' | b' ' | b'\n' | b'\t') {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && byte(at) != quote {
            match byte(at) {
                b'\\' if escaped => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        return (start..at.min(bytes.len()), Place::Whole);
    }
    let ends = |b: &u8| {
        matches!(
            b,
            b',' | b';'
                | b'&'
                | b'|'
                | b')'
                | b'}'
                | b']'
                | b'<'
                | b'>'
                | b'"'
                | b'\''
                | b'\n'
                | b'\r'
                | b'\t'
                | 0
        )
    };
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().take(1024).position(ends).unwrap_or(rest.len().min(1024));
    // `Authorization: Bearer …`
    let scheme = ["bearer ", "basic ", "token "].into_iter().find(|scheme| {
        rest.get(..scheme.len()).is_some_and(|word| word.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let skipped = scheme.map_or(0, str::len).min(length);
    let place = match byte(separator) {
        b'=' => Place::Assigned,
        b'>' => Place::Whole,
        _ => Place::Prose,
    };
    (at + skipped..at + length, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<&str> {
        let (mut from, mut found) = (0, Vec::new());
        while let Some((pair, next_from)) = next(text.as_bytes(), from) {
            found.push(&text[pair.value]);
            from = next_from;
        }
        found
    }

    #[test]
    fn names_and_values_in_what_people_keep_in_columns() {
        for (text, found) in [
            (r#"{"a": {"phone": "030 1", "x": 1}}"#, "030 1"),
            (r#"{"password":"a\"b"}"#, r#"a\"b"#),
            (r#"{\"password\":\"hunter2\"}"#, "hunter2"),
            (r#""{""password"":""hunter2""}""#, "hunter2"),
            (r#""phone"=>"030 1234567", "a"=>"b""#, "030 1234567"),
            ("<person><dob>1970-01-31</dob></person>", "1970-01-31"),
            ("host=db password=hunter2 user=x", "hunter2 user=x"),
            ("Server=db;Pwd=hunter2;Timeout=3", "hunter2"),
            ("sv=2022&sig=abc%2Bdef&se=1", "abc%2Bdef"),
            ("export DB_PASSWORD='x y'", "x y"),
            ("Authorization: Bearer abc", "abc"),
        ] {
            assert_eq!(values(text).first(), Some(&found), "{text}");
            assert!(may_pair(text.as_bytes()), "{text}");
        }
        for text in ["2025-01-01 00:00:01+00", "a=b", "order: 7", "x => y", "::", "=", ">"] {
            assert_eq!(values(text), Vec::<&str>::new(), "{text}");
            assert!(!may_pair(text.as_bytes()), "{text}");
        }
    }
}
