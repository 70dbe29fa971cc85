//! Dismisses bytes in which no detector can find anything, many at a time: nearly everything that passes.
//!
//! Must hold: whatever [`super::detect`] would recognise in any part of the bytes without the hint of a column's name,
//! [`may_hold`] says `true` of the whole, and [`Suspects::of`] names the pass that finds it. They may say so of more.

use std::ops::BitOrAssign;

use super::detect::{LABEL, may_begin, may_name, may_pair, may_stand_alone};

/// Shorter than the shortest of what is recognised: an e-mail address as short as `a@b.co`.
pub(super) const SHORTEST: usize = 6;
/// Digits of the shortest payment card (ISO/IEC 7812), and of the ids that are proven by a checksum alone.
const CARD: usize = 13;
/// Letters and digits of the shortest IBAN (ISO 13616: Norway's), and less than those of a codice fiscale.
const IBAN: usize = 15;
/// Characters of the shortest national id (Ireland's).
const SHORT: usize = 8;
/// Digits of the shortest telephone number with a country's code.
const PHONE: usize = 8;

/// Which passes of the detectors a value needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspects(u8);

impl Suspects {
    /// Has an `@`: addresses, and passwords in URLs.
    pub(super) const AT: Suspects = Suspects(1);
    /// Has enough digits.
    pub(super) const NUMBER: Suspects = Suspects(2);
    /// Has the beginning of a secret.
    pub(super) const SECRET: Suspects = Suspects(4);
    /// Has a name in front of something.
    pub(super) const PAIR: Suspects = Suspects(8);
    #[cfg(test)]
    pub(super) const ALL: Suspects = Suspects(15);

    /// Every suspicion that a value raises.
    pub(super) fn of(value: &[u8]) -> Suspects {
        let mut suspects = Suspects(0);
        if value.len() < SHORTEST {
            return suspects;
        }
        for (suspicion, raised) in [
            (Suspects::AT, has_at as fn(&[u8]) -> bool),
            (Suspects::NUMBER, may_hold_number),
            (Suspects::SECRET, may_begin),
            (Suspects::PAIR, may_pair),
        ] {
            if raised(value) {
                suspects |= suspicion;
            }
        }
        suspects
    }

    /// No pass can find anything.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This one is among them.
    pub(super) fn has(self, suspicion: Suspects) -> bool {
        self.0 & suspicion.0 != 0
    }
}

impl BitOrAssign for Suspects {
    fn bitor_assign(&mut self, other: Suspects) {
        self.0 |= other.0;
    }
}

/// Whether any detector could recognise something in any part of `bytes`.
pub(super) fn may_hold(bytes: &[u8]) -> bool {
    bytes.len() >= SHORTEST
        && (has_at(bytes) || may_hold_number(bytes) || may_pair(bytes) || may_begin(bytes))
}

fn has_at(bytes: &[u8]) -> bool {
    memchr::memchr(b'@', bytes).is_some()
}

/// What numbers are written with: digits, capital letters, and what separates their groups.
const IN_NUMBER: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_digit() || b.is_ascii_uppercase() || matches!(b, b' ' | b'-' | b'.' | b'/');
        byte += 1;
    }
    table
};

/// Looks at every 8th byte alone: a number that is long enough has one of them in it.
fn may_hold_number(bytes: &[u8]) -> bool {
    let in_number = |byte: &u8| IN_NUMBER.get(usize::from(*byte)).copied().unwrap_or(true);
    let mut at = SHORT - 1;
    while let Some(byte) = bytes.get(at) {
        if !in_number(byte) {
            at += SHORT;
            continue;
        }
        let (before, after) = bytes.split_at(at);
        let start = at - before.iter().rev().take_while(|b| in_number(b)).count();
        let end = at + after.iter().take_while(|b| in_number(b)).count();
        if end - start >= SHORT && may_be_number(bytes, start, end) {
            return true;
        }
        at = end + SHORT;
    }
    memchr::memchr_iter(b'+', bytes).any(|plus| may_be_phone(bytes.get(plus + 1..).unwrap_or_default()))
}

/// A run of digits, capitals and separators.
fn may_be_number(bytes: &[u8], start: usize, end: usize) -> bool {
    let run = bytes.get(start..end).unwrap_or_default();
    let count = |run: &[u8]| {
        run.iter().fold((0_usize, 0_usize), |(digits, letters), b| {
            (digits + usize::from(b.is_ascii_digit()), letters + usize::from(b.is_ascii_uppercase()))
        })
    };
    let (digits, letters) = count(run);
    if digits >= CARD || (letters >= 2 && digits >= 2 && letters + digits >= IBAN) {
        return true;
    }
    let run = behind_date(run);
    let (digits, letters) = count(run);
    if digits < 4 || digits + letters < SHORT {
        return false;
    }
    let label = bytes.get((end - run.len()).saturating_sub(LABEL)..end).unwrap_or_default();
    may_stand_alone(run) || may_name(label)
}

/// What is left of a run that begins with a date: no id has a form that begins so, except with its last part.
fn behind_date(run: &[u8]) -> &[u8] {
    let blanks = run.iter().take_while(|b| **b == b' ').count();
    let from = run.get(blanks..).unwrap_or_default();
    let date = from.len() >= 10
        && from.get(..10).unwrap_or_default().iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            _ => b.is_ascii_digit(),
        })
        && from.get(10).is_none_or(|b| !b.is_ascii_alphanumeric());
    if date { from.get(8..).unwrap_or_default() } else { run }
}

/// Behind a plus. The offset of a time zone has too few digits.
fn may_be_phone(rest: &[u8]) -> bool {
    let part = |b: &&u8| b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')');
    rest.iter().take_while(part).take(64).filter(|b| b.is_ascii_digit()).take(PHONE).count() == PHONE
}

#[cfg(test)]
mod tests {
    use super::super::detect::{recognises, short_forms};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_most_rows_look_like_is_dismissed() {
        for text in [
            "8400000\t13919\treturn\tsession 0cc175b9c0f1b6a831c399e269772661 page 92eb5ffee6ae2fec3ad71c777531578f\t2025-01-01 00:00:01+00\n",
            "THE QUICK BROWN FOX JUMPS",
            "2026-11-24 09:00:00.123456+01",
            "1234-5678",
            "order 123456782 of 1732441234",
            "10.1.2.3 - - [24/Nov/2026:09:00:00 +0000] GET /a/b.html 200",
        ] {
            assert!(!may_hold(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_short_forms_that_stand_alone_are_seen() {
        for form in short_forms().filter(|form| form.len() < 15) {
            let text: String = form.chars().map(|c| if c == '9' { '1' } else { c }).collect();
            assert!(may_stand_alone(text.as_bytes()), "{form}");
        }
    }

    const HITS: &[&str] = &[
        "4111111111111111",
        "4111 1111 1111 1111",
        "3782-822463-10005",
        "4222222222222",
        "NO9386011117947",
        "DE89 3704 0044 0532 0130 00",
        "a@b.co",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijklmnop",
        "+49 30 12345678",
        "+14155552671",
        "123-45-6789",
        "529.982.247-25",
        "85.07.30-033.28",
        "131052-308T",
        "AB 12 34 56 C",
        "RSSMRA85T10A562S",
        "255081416802538",
        "11010519491231002X",
        "756.9217.0769.85",
        "bsn 111222333",
        "ssn: 123456789",
        "pesel=44051401359",
        "\"dni\": \"12345678Z\"",
        "pwd=abc1",
        "\"password\":\"hunter2\"",
        "<dob>1970-01-01</dob>",
        "client_ip=192.0.2.7",
        "postgres://u:p@h/d",
        "\"first_name\": \"Zoe\"",
        "pps 1234567T",
    ];

    #[test]
    fn the_samples_are_recognised() {
        for hit in HITS {
            assert!(recognises(hit.as_bytes()), "{hit}");
        }
    }

    proptest! {
        /// The one thing that must hold, with plenty of what is recognised, in any surroundings: what is in front and
        /// behind may be another value, or a length in binary.
        #[test]
        fn nothing_that_is_recognised_is_dismissed(
            before in "[ a-zA-Z0-9,;:=\\t./+-]{0,30}",
            hit in proptest::sample::select(HITS),
            after in "[ a-zA-Z0-9,;:=\\t./+-]{0,30}",
        ) {
            let text = format!("{before}{hit}{after}");
            prop_assert!(may_hold(text.as_bytes()));
            let alone = format!("{before}\t{hit}\t{after}");
            prop_assert!(recognises(alone.as_bytes()) && may_hold(alone.as_bytes()));
            prop_assert!(!Suspects::of(alone.as_bytes()).is_empty());
        }

        #[test]
        fn nor_in_any_bytes(bytes in proptest::collection::vec(prop_oneof![
            Just(b'@'), Just(b'.'), Just(b' '), Just(b'-'), Just(b'+'), Just(b'='), 0x30_u8..0x3a, 0x30_u8..0x3a,
            0x41_u8..0x5b, any::<u8>()
        ], 0..120)) {
            prop_assert!(!recognises(&bytes) || may_hold(&bytes));
        }

        /// The passes that are left out would have found nothing.
        #[test]
        fn each_value_gets_the_passes_that_it_needs(
            parts in proptest::collection::vec(prop_oneof![
                proptest::sample::select(HITS).prop_map(str::to_owned), "[ a-zA-Z0-9,;:=\\t./+\"-]{0,12}"
            ], 0..5),
        ) {
            let text = parts.concat();
            let mut some = text.clone().into_bytes();
            super::super::detect::scrub_in_place(&mut some);
            let mut all = text.clone().into_bytes();
            super::super::detect::scrub_all(&mut all);
            prop_assert_eq!(String::from_utf8_lossy(&some), String::from_utf8_lossy(&all), "{}", text);
        }
    }
}
