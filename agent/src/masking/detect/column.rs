//! What is recognised because its place says what it is: the column's name, or the key in front of it.

use std::ops::Range;

use super::{Families, contact, network};

/// How certain it is where the value begins and ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The whole value of a column, or what stands between quotes or tags.
    Whole,
    /// Behind `=`.
    Assigned,
    /// Behind a colon in running text.
    Prose,
}

/// The first thing in `value` that `hints` let expect.
pub(super) fn expected(value: &[u8], hints: Families, place: Place) -> Option<(Range<usize>, Families)> {
    let blank = |b: &u8| b.is_ascii_whitespace();
    let start = value.iter().position(|b| !blank(b))?;
    let end = value.iter().rposition(|b| !blank(b))? + 1;
    let inner = value.get(start..end)?;
    if inner.iter().all(|b| *b == b'*') || nothing(inner) {
        return None;
    }
    let word = inner.iter().position(blank).map_or(inner.len(), |at| at);
    let word = if place == Place::Whole { inner } else { inner.get(..word)? };
    let (length, family) = if hints.intersects(Families::PASSWORD) && password(word, place) {
        (word.len(), Families::PASSWORD)
    } else if hints.intersects(Families::TOKEN) && token(word) {
        (word.len(), Families::TOKEN)
    } else if hints.intersects(Families::BIRTH) && date(inner) {
        (inner.len(), Families::BIRTH)
    } else if hints.intersects(Families::NAME) && name(inner, place) {
        (inner.len(), Families::NAME)
    } else if hints.intersects(Families::PHONE)
        && let Some(length) = contact::national(inner)
    {
        (length, Families::PHONE)
    } else if hints.intersects(Families::IP | Families::MAC) {
        return network::address(value, 0, hints);
    } else {
        return None;
    };
    Some((start..start + length, family))
}

/// What programs write where there is nothing.
fn nothing(value: &[u8]) -> bool {
    const WORDS: [&str; 16] = [
        "null",
        "none",
        "nil",
        "true",
        "false",
        "yes",
        "no",
        "n/a",
        "undefined",
        "unknown",
        "required",
        "optional",
        "redacted",
        "hidden",
        "\\n",
        "changeme",
    ];
    value.len() < 2 || WORDS.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn password(value: &[u8], place: Place) -> bool {
    let template = matches!(value, [b'$' | b'<' | b'{' | b'%' | b'[', ..]);
    match place {
        Place::Whole => !template || value.len() > 20,
        Place::Assigned => value.len() >= 4 && !template,
        // people write about passwords more often than they write them
        Place::Prose => {
            value.len() >= 6 && !template && !value.iter().all(|b| b.is_ascii_alphabetic() || *b == b'.')
        }
    }
}

fn token(value: &[u8]) -> bool {
    value.len() >= 12
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && value.iter().all(u8::is_ascii_graphic)
}

/// A day in any form: digits with what separates them, and at most a month's name.
fn date(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic() || **b >= 0x80).count();
    let others = value.len() - digits - letters;
    let separators = value.iter().filter(|b| b" -./:,+".contains(b)).count();
    (4..=23).contains(&digits) && letters <= 12 && others == separators
}

fn name(value: &[u8], place: Place) -> bool {
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b >= 0x80;
    let letters = value.iter().filter(|b| letter(b)).count();
    let between = value.iter().filter(|b| b" -'.,".contains(b)).count();
    let blanks = value.iter().filter(|b| **b == b' ').count();
    let capital = value.first().is_some_and(|b| b.is_ascii_uppercase() || *b >= 0x80);
    letters >= 2
        && letters + between == value.len()
        && value.len() <= 96
        && blanks <= 5
        && (place == Place::Whole || (capital && blanks <= 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str, hints: Families, place: Place) -> Option<&str> {
        expected(value.as_bytes(), hints, place).map(|(range, _)| &value[range])
    }

    #[test]
    fn by_the_columns_name() {
        let whole = |value, hints| found(value, hints, Place::Whole);
        assert_eq!(whole("hunter2", Families::PASSWORD), Some("hunter2"));
        assert_eq!(whole("correct horse", Families::PASSWORD), Some("correct horse"));
        assert_eq!(whole("null", Families::PASSWORD), None);
        assert_eq!(whole("1970-01-31", Families::BIRTH), Some("1970-01-31"));
        assert_eq!(whole("31 January 1970", Families::BIRTH), Some("31 January 1970"));
        assert_eq!(whole("Berlin", Families::BIRTH), None);
        assert_eq!(whole("Zoë O'Neill-Smith", Families::NAME), Some("Zoë O'Neill-Smith"));
        assert_eq!(whole("{\"a\": 1}", Families::NAME), None);
        assert_eq!(whole("030 1234567", Families::PHONE), Some("030 1234567"));
        assert_eq!(whole("home", Families::PHONE), None);
        assert_eq!(whole("192.0.2.7", Families::IP), Some("192.0.2.7"));
        assert_eq!(whole("550e8400-e29b-41d4-a716-446655440000", Families::TOKEN).map(str::len), Some(36));
        assert_eq!(whole("active", Families::TOKEN), None);
    }

    #[test]
    fn running_text_has_to_look_like_it() {
        assert_eq!(found("must be longer", Families::PASSWORD, Place::Prose), None);
        assert_eq!(found("hunter2 was it", Families::PASSWORD, Place::Prose), Some("hunter2"));
        assert_eq!(found("hunter rest", Families::PASSWORD, Place::Assigned), Some("hunter"));
        assert_eq!(found("${DB_PASSWORD}", Families::PASSWORD, Place::Assigned), None);
        assert_eq!(found("see below", Families::NAME, Place::Prose), None);
        assert_eq!(found("Alice Jones", Families::NAME, Place::Prose), Some("Alice Jones"));
    }
}
