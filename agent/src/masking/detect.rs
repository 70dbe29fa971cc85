//! Recognises sensitive values in what nobody has classed, and stars them out in place.
//!
//! The stars take exactly the room of the value: lengths in front of it, array headers and JSON around it stay
//! right, in text and in binary formats. A checksum is asked wherever the type has one.

use std::borrow::Cow;

use memchr::memmem;

/// Text with everything that the detectors recognise starred out.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut bytes = Cow::Borrowed(text.as_bytes());
    if let Some(found) = find(&bytes) {
        star_all(bytes.to_mut(), found);
    }
    match bytes {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        // only whole ASCII spans are starred, so that this is UTF-8 as before; lossy keeps the promise regardless
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The same on a value in place. Returns whether anything was recognised.
pub fn scrub_in_place(value: &mut [u8]) -> bool {
    match find(value) {
        None => false,
        Some(found) => {
            star_all(value, found);
            true
        }
    }
}

struct Found {
    start: usize,
    end: usize,
    /// Bytes at the end that stay readable (the last digits of a card).
    keep: usize,
}

fn star_all(value: &mut [u8], first: Found) {
    let mut next = Some(first);
    let mut from = 0;
    while let Some(Found { start, end, keep }) = next {
        let end_of_stars = end.saturating_sub(keep);
        if let Some(span) = value.get_mut(from + start..from + end_of_stars) {
            span.iter_mut().filter(|b| !matches!(b, b' ' | b'-')).for_each(|b| *b = b'*');
        }
        from += end;
        next = value.get(from..).and_then(find);
    }
}

/// The leftmost sensitive span.
fn find(value: &[u8]) -> Option<Found> {
    // each detector has a byte or two without which it can't match: most values are dismissed by these
    let mut best: Option<Found> = None;
    let mut take = |found: Option<Found>| {
        if let Some(found) = found
            && best.as_ref().is_none_or(|b| found.start < b.start)
        {
            best = Some(found);
        }
    };
    if value.len() >= 6 && memchr::memchr(b'@', value).is_some() {
        take(email(value));
    }
    if value.len() >= 12 {
        take(number(value));
        take(prefixed(value, b"eyJ", jwt));
        take(prefixed(value, b"-----BEGIN ", private_key));
        take(prefixed(value, b"AKIA", aws_key));
        take(prefixed(value, b"ghp_", token));
        take(prefixed(value, b"xox", token));
        take(prefixed(value, b"sk_live_", token));
    }
    best
}

fn prefixed(value: &[u8], needle: &[u8], length: fn(&[u8]) -> Option<usize>) -> Option<Found> {
    let mut hits = memmem::find_iter(value, needle);
    hits.find_map(|start| {
        let free = start == 0 || value.get(start - 1).is_none_or(|b| !b.is_ascii_alphanumeric());
        let length = free.then(|| value.get(start..).and_then(length)).flatten()?;
        Some(Found { start, end: start + length, keep: 0 })
    })
}

/// RFC 5321's dot-string and domain, as addresses look in databases.
fn email(value: &[u8]) -> Option<Found> {
    let local = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(b);
    let host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    memchr::memchr_iter(b'@', value).find_map(|at| {
        let before = value.get(..at)?.iter().rev().take(64).take_while(|b| local(b)).count();
        let after = value.get(at + 1..)?.iter().take(255).take_while(|b| host(b)).count();
        let mut domain = value.get(at + 1..at + 1 + after)?;
        while let Some((b'.' | b'-', rest)) = domain.split_last() {
            domain = rest;
        }
        let dot = memchr::memrchr(b'.', domain)?;
        let top = domain.get(dot + 1..)?;
        let plausible = before > 0 && dot > 0 && top.len() >= 2 && top.iter().all(u8::is_ascii_alphabetic);
        plausible.then_some(Found { start: at - before, end: at + 1 + domain.len(), keep: 0 })
    })
}

/// Payment cards and IBANs: runs of digits and letters with a checksum.
fn number(value: &[u8]) -> Option<Found> {
    let mut i = 0;
    while i < value.len() {
        let at_word = i == 0 || value.get(i - 1).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'.');
        let byte = value.get(i).copied()?;
        if at_word {
            let rest = value.get(i..)?;
            if byte.is_ascii_digit()
                && let Some(length) = card(rest)
            {
                return Some(Found { start: i, end: i + length, keep: 4 });
            }
            if byte.is_ascii_uppercase()
                && let Some(length) = iban(rest)
            {
                return Some(Found { start: i, end: i + length, keep: 0 });
            }
        }
        i += 1;
    }
    None
}

/// ISO/IEC 7812: an issuer's range, its lengths, Luhn; separators every few digits or none. What comes behind a
/// separator may be another thing: the longest run of groups that is a card is one.
fn card(rest: &[u8]) -> Option<usize> {
    let mut digits = [0_u8; 19];
    let (mut count, mut length, mut separator, mut found) = (0, 0, None, None);
    let card = |digits: &[u8; 19], count: usize| digits.get(..count).is_some_and(|d| issued(d) && luhn(d));
    for (i, byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let Some(digit) = digits.get_mut(count) else { return found };
                *digit = byte - b'0';
                count += 1;
                length = i + 1;
            }
            b' ' | b'-' if i == length && count % 2 == 0 && separator.is_none_or(|s| s == *byte) => {
                separator = Some(*byte);
                if card(&digits, count) {
                    found = Some(length);
                }
            }
            b'.' if rest.get(i + 1).is_some_and(u8::is_ascii_digit) => return found,
            b if b.is_ascii_alphanumeric() || *b == b'_' => return found,
            _ => break,
        }
    }
    if card(&digits, count) { Some(length) } else { found }
}

fn issued(digits: &[u8]) -> bool {
    let head = |n: usize| digits.iter().take(n).fold(0_u32, |a, d| a * 10 + u32::from(*d));
    match digits.len() {
        13 => head(1) == 4,
        14 => matches!(head(3), 300..=305) || matches!(head(2), 36 | 38 | 39),
        15 => matches!(head(2), 34 | 37),
        16 => {
            head(1) == 4
                || matches!(head(2), 51..=55 | 65)
                || matches!(head(4), 2221..=2720 | 3528..=3589 | 6011)
                || matches!(head(3), 644..=649)
                || matches!(head(2), 62)
        }
        17..=19 => matches!(head(2), 62) || (digits.len() == 19 && head(1) == 4),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (i % 2, u32::from(*d)) {
            (1, d) if d > 4 => 2 * d - 9,
            (1, d) => 2 * d,
            (_, d) => d,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|d| *d != 0)
}

/// ISO 13616: country, two check digits, up to 30 letters or digits; modulo 97.
fn iban(rest: &[u8]) -> Option<usize> {
    let [a, b, c, d, ..] = rest else { return None };
    if !(a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let spaced = rest.get(4) == Some(&b' ');
    let mut text = Vec::with_capacity(34);
    let mut length = 0;
    for (i, byte) in rest.iter().enumerate().take(42) {
        match byte {
            b' ' if spaced && text.len() % 4 == 0 && i == length => {}
            b if b.is_ascii_uppercase() || b.is_ascii_digit() => {
                text.push(*b);
                length = i + 1;
            }
            _ => break,
        }
    }
    if !(15..=34).contains(&text.len()) {
        return None;
    }
    text.rotate_left(4);
    let remainder = text.iter().fold(0_u32, |r, b| match b {
        b'0'..=b'9' => (r * 10 + u32::from(b - b'0')) % 97,
        _ => (r * 100 + u32::from(b - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(length)
}

/// RFC 7519 in its compact form: three parts of base64url.
fn jwt(rest: &[u8]) -> Option<usize> {
    let part =
        |from: &[u8]| from.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
    let head = part(rest);
    let body = part(rest.get(head + 1..).filter(|_| rest.get(head) == Some(&b'.'))?);
    let tail_at = head + 1 + body;
    let tail = part(rest.get(tail_at + 1..).filter(|_| rest.get(tail_at) == Some(&b'.'))?);
    (head >= 10 && body >= 10).then_some(tail_at + 1 + tail)
}

/// RFC 7468: from the begin line to the end line, or to the end of the value.
fn private_key(rest: &[u8]) -> Option<usize> {
    let line = rest.get(..64.min(rest.len()))?;
    memmem::find(line, b"PRIVATE KEY-----")?;
    let end = memmem::find(rest, b"-----END ")
        .and_then(|at| memmem::find(rest.get(at + 9..)?, b"-----").map(|more| at + 9 + more + 5));
    Some(end.unwrap_or(rest.len()))
}

fn aws_key(rest: &[u8]) -> Option<usize> {
    let length = rest.iter().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count();
    (length == 20).then_some(20)
}

fn token(rest: &[u8]) -> Option<usize> {
    let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
    (length >= 24).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_sensitive_is_starred() {
        for (text, shown) in [
            ("mail alice.jones@example.com now", "mail *********************** now"),
            ("a@b.co,c@d.org.", "******,*******."),
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("card=4111111111111111;", "card=************1111;"),
            ("paid by 4111111111111111 today", "paid by ************1111 today"),
            ("paid by 4111 1111 1111 1111 today", "paid by **** **** **** 1111 today"),
            ("4111-1111-1111-1111 12/27", "****-****-****-1111 12/27"),
            ("4111 1111 1111 1111 737", "**** **** **** 1111 737"),
            ("IBAN DE89370400440532013000", "IBAN **********************"),
            ("DE89 3704 0044 0532 0130 00", "**** **** **** **** **** **"),
            ("AKIAIOSFODNN7EXAMPLE", "********************"),
        ] {
            assert_eq!(scrub(text), shown, "{text}");
        }
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P";
        assert!(!scrub(jwt).contains("eyJ"));
        let key = "x -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- y";
        assert!(!scrub(key).contains("MIIE"));
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "user@localhost",
            "4111111111111112",
            "1234567812345670",
            "order 1000000000000000",
            "@",
            "a@b",
            "DE00370400440532013000",
            "3.141592653589793238",
            "4111111111111111x",
            "4111111111111111_1",
            "2026-11-24 09:00:00.123456",
            "AKIA",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_the_length(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let before = bytes.len();
            scrub_in_place(&mut bytes);
            prop_assert_eq!(bytes.len(), before);
        }

        #[test]
        fn text_stays_text(text in "\\PC{0,80}") {
            prop_assert_eq!(scrub(&text).len(), text.len());
        }

        #[test]
        fn an_address_is_found_wherever_it_stands(before in "[ a-z,;]{0,20}", after in "[ ,;:]{0,20}") {
            let text = format!("{before} bob@mail.example.org{after}");
            prop_assert!(!scrub(&text).contains("bob@"));
        }
    }
}
