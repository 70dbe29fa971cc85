//! How people are reached: e-mail addresses and telephone numbers.

use std::ops::Range;

/// Digits of the shortest number with a country's code that is looked for, and of the longest (ITU-T E.164).
const PHONE: std::ops::RangeInclusive<usize> = 8..=15;

/// The first address at or behind `from`: RFC 5321's dot-string and domain, as addresses look in databases.
pub(super) fn email(value: &[u8], from: usize) -> Option<Range<usize>> {
    // a star is what a mask has put there
    let local = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'+/=?^_`{|}~.-".contains(b);
    let host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    memchr::memchr_iter(b'@', value.get(from..)?).find_map(|at| {
        let at = from + at;
        let before = value.get(from..at)?.iter().rev().take(64).take_while(|b| local(b)).count();
        let after = value.get(at + 1..)?.iter().take(255).take_while(|b| host(b)).count();
        let mut domain = value.get(at + 1..at + 1 + after)?;
        while let Some((b'.' | b'-', rest)) = domain.split_last() {
            domain = rest;
        }
        let dot = memchr::memrchr(b'.', domain)?;
        let top = domain.get(dot + 1..)?;
        let plausible = before > 0 && dot > 0 && top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic);
        plausible.then_some(at - before..at + 1 + domain.len())
    })
}

/// ITU-T E.164 behind a plus: a country's code that is assigned, and as many digits as there may be.
pub(super) fn international(rest: &[u8]) -> Option<usize> {
    let number = rest.strip_prefix(b"+")?;
    let (length, digits) = run(number, *PHONE.end())?;
    let written = number.get(..length).unwrap_or_default();
    (PHONE.contains(&digits) && assigned(number) && !is_amount(written)).then_some(length + 1)
}

/// A number with its sign: `+16397.038491`, where the only separator is a dot that does not stand behind a country's code
/// (as in EPP's `+49.3012345678`); and `+4 5 6 7 . 0`, digit by digit.
fn is_amount(number: &[u8]) -> bool {
    let mut groups = number.split(|b| !b.is_ascii_digit()).filter(|group| !group.is_empty());
    let first = groups.next().map_or(0, <[u8]>::len);
    let singles = usize::from(first == 1) + groups.filter(|group| group.len() == 1).count();
    let mut separators = number.iter().filter(|b| !b.is_ascii_digit());
    let one_dot = separators.next() == Some(&b'.') && separators.next().is_none();
    one_dot && first > 3 || singles > 4
}

/// A number as people write it at home, in a place that is said to hold one.
pub(super) fn national(value: &[u8]) -> Option<usize> {
    let number = value.strip_prefix(b"+").unwrap_or(value);
    let (length, digits) = run(number, 17)?;
    (digits >= 6).then_some(length + value.len() - number.len())
}

/// Groups of at most so many digits, and what people put between them; an extension may follow.
fn run(number: &[u8], most: usize) -> Option<(usize, usize)> {
    let (mut digits, mut length, mut between) = (0, 0, 0);
    let mut group = (0, 0);
    for (i, byte) in number.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                if digits > most {
                    // what is behind the last separator is another number
                    return (group.0 > 0).then_some(group);
                }
                length = i + 1;
                between = 0;
            }
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' if between < 3 => {
                // the zero that is not dialled from abroad
                if between == 0 && *byte != b')' {
                    group = (length, digits);
                }
                between += 1;
            }
            b'x' if between < 2 && digits > 0 => {
                let more = number.get(i + 1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
                if (1..=6).contains(&more) {
                    length = i + 1 + more;
                }
                break;
            }
            b if b.is_ascii_alphabetic() && between == 0 && length == i || *b == b'_' || *b == b':' => {
                return None;
            }
            _ => break,
        }
    }
    (length > 0).then_some((length, digits))
}

/// Country codes of E.164's list that are in use.
fn assigned(number: &[u8]) -> bool {
    let mut digits = number.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0');
    let (Some(a), Some(b), Some(c)) = (digits.next(), digits.next(), digits.next()) else { return false };
    match (a, b) {
        (1 | 7, _) => true,
        (2, 0 | 7) | (3, 0..=4 | 6 | 9) | (4, 0 | 1 | 3..=9) | (5, 1..=8) => true,
        (6, 0..=6) | (8, 1 | 2 | 4 | 6) | (9, 0..=5 | 8) => true,
        (2, 1) => matches!(c, 1..=3 | 6 | 8),
        (2, 2..=6 | 9) | (3, 5 | 7 | 8) | (5, 0 | 9) | (6, 7..=9) => true,
        (4, 2) => matches!(c, 0 | 1 | 3),
        (8, 0 | 5 | 7 | 8) | (9, 6 | 7 | 9) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_country() {
        for text in [
            "+49 30 123456",
            "+14155552671",
            "+1 (415) 555-2671",
            "+44(0)1234 567890",
            "+33 (0)1 23 45 67 89",
            "+351 912 345 678",
            "+1-415-555-2671x1234",
            "+81 3-1234-5678",
            "+358401234567",
            "+49.3012345678",
            "+1.415.555.2671",
            "+33 6 12 34 56 78",
        ] {
            assert_eq!(international(text.as_bytes()), Some(text.len()), "{text}");
        }
        for text in [
            "+00",
            "+01 00",
            "+1",
            "+999 12",
            "+02:00",
            "+1234567",
            "+1e10",
            "+0123456789",
            "+12345678901234567",
            "+7799461.4119",
            "+16397.038491",
            "+93901.57763026",
            "+7 7 9 9 4 6 1 . 4 1 1 9",
            "+4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9",
        ] {
            assert_eq!(international(text.as_bytes()), None, "{text}");
        }
        assert_eq!(international(b"+49 30 12345678 at noon"), Some(15));
        assert_eq!(international(b"+4930123456, or"), Some(11));
    }

    #[test]
    fn numbers_as_written_at_home() {
        for text in
            ["030 1234567", "(415) 555-2671", "001-415-555-2671x123", "06 12 34 56 78", "0171/1234567"]
        {
            assert_eq!(national(text.as_bytes()), Some(text.len()), "{text}");
        }
        assert_eq!(national(b"12"), None);
        assert_eq!(national(b"yes"), None);
    }
}
