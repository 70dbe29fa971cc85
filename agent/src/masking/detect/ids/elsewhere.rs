//! Countries elsewhere.

use super::super::checksum::{luhn, verhoeff, weighted};
use super::{Digits, letter};

/// Social Security Administration: no area 000, 666; 9xx only as the revenue service's ITIN; no group 00, serial 0000.
pub(in super::super) fn us(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let (area, group, serial) = (d.number(0, 3), d.number(3, 5), d.number(5, 9));
    let itin = area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    (itin || !matches!(area, 0 | 666 | 900..)) && group != 0 && serial != 0 && !d.all_equal()
}

/// Receita Federal: two digits by modulus 11.
pub(in super::super) fn br(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let digit = |sum: u32| if sum % 11 < 2 { 0 } else { 11 - sum % 11 };
    !d.all_equal()
        && digit(weighted(d.slice(), &[10, 9, 8, 7, 6, 5, 4, 3, 2])) == d.at(9)
        && digit(weighted(d.slice(), &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])) == d.at(10)
}

/// UIDAI: first digit 2 to 9, Verhoeff.
pub(in super::super) fn aadhaar(text: &[u8]) -> bool {
    let d = Digits::of(text);
    d.at(0) >= 2 && !d.all_equal() && verhoeff(d.slice())
}

/// Income Tax Department: the fourth letter is the holder's kind.
pub(in super::super) fn pan(text: &[u8]) -> bool {
    b"ABCFGHJLPT".contains(&letter(text, 3))
}

/// GB 11643: province, date, ISO 7064 MOD 11-2.
pub(in super::super) fn cn(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(
        d.slice().get(..17).unwrap_or_default(),
        &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2],
    );
    let check = usize::try_from(sum % 11).ok().and_then(|i| b"10X98765432".get(i));
    matches!(d.number(0, 2), 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81 | 82)
        && matches!(d.number(6, 8), 19 | 20)
        && d.dated(10)
        && check == text.last()
}

/// Date, a digit of century and sex. Who was registered from October 2020 on has no checksum any more.
pub(in super::super) fn kr(text: &[u8]) -> bool {
    let d = Digits::of(text);
    d.dated(2) && d.at(6) != 0
}

/// Two digits over the first nine and the first ten.
pub(in super::super) fn tr(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = |places: &[usize]| places.iter().map(|p| d.at(*p)).sum::<u32>();
    let (odd, even) = (sum(&[0, 2, 4, 6, 8]), sum(&[1, 3, 5, 7]));
    d.at(0) != 0 && (odd * 7 + 100 - even) % 10 == d.at(9) && (odd + even + d.at(9)) % 10 == d.at(10)
}

/// Service Canada: Luhn; no number begins with 8.
pub(in super::super) fn ca(text: &[u8]) -> bool {
    let d = Digits::of(text);
    !matches!(d.at(0), 0 | 8) && luhn(d.slice())
}

/// Australian Taxation Office: modulus 11.
pub(in super::super) fn au(text: &[u8]) -> bool {
    let d = Digits::of(text);
    !d.all_equal() && weighted(d.slice(), &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

/// Date, sequence, citizenship, Luhn.
pub(in super::super) fn za(text: &[u8]) -> bool {
    let d = Digits::of(text);
    d.dated(2) && d.at(10) <= 2 && luhn(d.slice())
}

/// RENAPO: date, sex, and a digit over the alphabet with Ñ.
pub(in super::super) fn mx(text: &[u8]) -> bool {
    let position = |b: u8| match b {
        b'0'..=b'9' => u32::from(b - b'0'),
        b'A'..=b'N' => u32::from(b - b'A') + 10,
        _ => u32::from(b.saturating_sub(b'A')) + 11,
    };
    let sum: u32 = text.iter().take(17).zip((2..=18).rev()).map(|(b, w)| position(*b) * w).sum();
    let d = Digits::of(text);
    d.dated(2) && matches!(letter(text, 10), b'H' | b'M' | b'X') && (10 - sum % 10) % 10 == d.last()
}

/// ICA: weights 2, 7, 6, 5, 4, 3, 2 and a letter by series.
pub(in super::super) fn sg(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(d.slice(), &[2, 7, 6, 5, 4, 3, 2]);
    let (add, letters): (u32, &[u8; 11]) = match letter(text, 0) {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"KLJNPQRTUWX"),
        _ => return false,
    };
    usize::try_from((sum + add) % 11).ok().and_then(|i| letters.get(i)) == Some(&letter(text, 8))
}

/// Registro Civil: modulus 11 from the right, K for ten.
pub(in super::super) fn cl(text: &[u8]) -> bool {
    let Some((check, number)) = text.split_last() else { return false };
    let sum: u32 = number
        .iter()
        .rev()
        .zip([2, 3, 4, 5, 6, 7, 2, 3])
        .map(|(b, w)| u32::from(b.wrapping_sub(b'0')) * w)
        .sum();
    match 11 - sum % 11 {
        11 => *check == b'0',
        10 => *check == b'K',
        n => u32::from(check.wrapping_sub(b'0')) == n,
    }
}

/// AFIP: a kind, the document's number, modulus 11.
pub(in super::super) fn ar(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let check = (11 - weighted(d.slice(), &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    matches!(d.number(0, 2), 20 | 23 | 24 | 27 | 30 | 33 | 34) && check == d.last()
}

/// Population registry: Luhn from the left, over nine digits the same as from the right.
pub(in super::super) fn il(text: &[u8]) -> bool {
    luhn(Digits::of(text).slice())
}
