//! Dismisses bytes in which no detector can find anything, many at a time: nearly everything that passes.
//!
//! Must hold: whatever [`super::detect`] would recognise in any part of the bytes, [`may_hold`] says `true` of the
//! whole. It may say `true` of more.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::detect::PREFIXED;

/// Shorter than the shortest of what is recognised: an e-mail address as short as `a@b.co`.
pub(super) const SHORTEST: usize = 6;
/// Digits of the shortest payment card (ISO/IEC 7812).
const CARD: usize = 13;
/// Letters and digits of the shortest IBAN (ISO 13616: Norway's).
const IBAN: usize = 15;

/// `None` would be a defect, which a test rules out; everything is then looked at in full.
static NEEDLES: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(PREFIXED.map(|(needle, _)| needle)).ok());

/// What numbers are written with: digits, capital letters, and what separates their groups.
const IN_NUMBER: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_digit() || b.is_ascii_uppercase() || b == b' ' || b == b'-';
        byte += 1;
    }
    table
};

/// Whether any detector could recognise something in any part of `bytes`.
pub(super) fn may_hold(bytes: &[u8]) -> bool {
    if bytes.len() < SHORTEST {
        return false;
    }
    memchr::memchr(b'@', bytes).is_some()
        || may_hold_number(bytes)
        || NEEDLES.as_ref().is_none_or(|needles| needles.is_match(bytes))
}

/// Looks at every 13th byte alone: a number that is long enough has one of them in it.
fn may_hold_number(bytes: &[u8]) -> bool {
    let in_number = |byte: &u8| IN_NUMBER.get(usize::from(*byte)).copied().unwrap_or(true);
    let mut at = CARD - 1;
    while let Some(byte) = bytes.get(at) {
        if !in_number(byte) {
            at += CARD;
            continue;
        }
        let (before, after) = bytes.split_at(at);
        let start = at - before.iter().rev().take_while(|b| in_number(b)).count();
        let end = at + after.iter().take_while(|b| in_number(b)).count();
        if end - start >= CARD {
            let run = bytes.get(start..end).unwrap_or_default();
            let digits = run.iter().filter(|b| b.is_ascii_digit()).count();
            let letters = run.iter().filter(|b| b.is_ascii_uppercase()).count();
            if digits >= CARD || (letters >= 2 && digits >= 2 && letters + digits >= IBAN) {
                return true;
            }
        }
        at = end + CARD;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::detect::recognises;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_are_needles() {
        assert!(NEEDLES.is_some());
    }

    #[test]
    fn what_most_rows_look_like_is_dismissed() {
        for text in [
            "8400000\t13919\treturn\tsession 0cc175b9c0f1b6a831c399e269772661 page 92eb5ffee6ae2fec3ad71c777531578f\t2025-01-01 00:00:01+00\n",
            "THE QUICK BROWN FOX JUMPS",
            "2026-11-24 09:00:00.123456+01",
            "1234-5678",
        ] {
            assert!(!may_hold(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        /// The one thing that must hold, with plenty of what is recognised, in any surroundings.
        #[test]
        fn nothing_that_is_recognised_is_dismissed(
            before in "[ a-zA-Z0-9,;\\t-]{0,30}",
            hit in prop_oneof![
                Just("4111111111111111".to_owned()), Just("4111 1111 1111 1111".to_owned()),
                Just("3782-822463-10005".to_owned()), Just("4222222222222".to_owned()),
                Just("NO9386011117947".to_owned()), Just("DE89 3704 0044 0532 0130 00".to_owned()),
                Just("a@b.co".to_owned()), Just("AKIAIOSFODNN7EXAMPLE".to_owned()),
                Just("ghp_0123456789abcdefghijklmnop".to_owned()),
            ],
            after in "[ a-zA-Z0-9,;\\t-]{0,30}",
        ) {
            let text = format!("{before}{hit}{after}");
            prop_assert!(!recognises(text.as_bytes()) || may_hold(text.as_bytes()));
            let alone = format!("{before}\t{hit}\t{after}");
            prop_assert!(recognises(alone.as_bytes()) && may_hold(alone.as_bytes()));
        }

        #[test]
        fn nor_in_any_bytes(bytes in proptest::collection::vec(prop_oneof![
            Just(b'@'), Just(b'.'), Just(b' '), Just(b'-'), 0x30_u8..0x3a, 0x41_u8..0x5b, any::<u8>()
        ], 0..120)) {
            prop_assert!(!recognises(&bytes) || may_hold(&bytes));
        }
    }
}
