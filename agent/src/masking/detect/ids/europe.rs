//! Countries of Europe.

use super::super::checksum::{luhn, mod_11_10, month_day, weighted};
use super::{Digits, letter};

/// HMRC's manual NIM39110: prefixes that are never given, suffix A to D.
pub(in super::super) fn gb_nino(text: &[u8]) -> bool {
    let (a, b) = (letter(text, 0), letter(text, 1));
    let given = !b"DFIQUV".contains(&a) && !b"DFIQUVO".contains(&b);
    let never = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"].iter().any(|pair| **pair == [a, b]);
    given && !never && matches!(letter(text, 8), b'A'..=b'D')
}

/// NHS Data Dictionary: modulus 11.
pub(in super::super) fn gb_nhs(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let check = 11 - weighted(d.slice(), &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    check != 10 && check % 11 == d.last() && !d.all_equal()
}

/// § 139b AO: one digit of the first ten comes twice or three times; ISO 7064 MOD 11,10.
pub(in super::super) fn de(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let mut counts = [0_u8; 10];
    for digit in d.slice().iter().take(10) {
        if let Some(count) = counts.get_mut(usize::from(*digit)) {
            *count += 1;
        }
    }
    let repeated = counts.iter().filter(|c| **c > 1).count();
    d.at(0) != 0 && repeated == 1 && counts.iter().all(|c| *c <= 3) && mod_11_10(d.slice())
}

/// INSEE: sex, year, month, department, commune, order; key 97. Corsica's 2A and 2B count as 19 and 18.
pub(in super::super) fn fr(text: &[u8]) -> bool {
    let mut number = 0_u64;
    for (i, byte) in text.iter().take(13).enumerate() {
        match byte {
            b'0'..=b'9' => number = number * 10 + u64::from(byte - b'0'),
            b'A' if i == 6 && letter(text, 5) == b'2' => number = (number - 2) * 10 + 19,
            b'B' if i == 6 && letter(text, 5) == b'2' => number = (number - 2) * 10 + 18,
            _ => return false,
        }
    }
    // sex 1 or 2, a month, and the key
    let key = Digits::of(text.get(13..).unwrap_or_default()).number(0, 2);
    let month = Digits::of(text.get(3..5).unwrap_or_default()).number(0, 2);
    matches!(letter(text, 0), b'1' | b'2') && (1..=12).contains(&month) && key == 97 - number % 97
}

/// Ministerio del Interior: the letter is the number modulo 23; X, Y, Z of foreigners count as 0, 1, 2.
pub(in super::super) fn es(text: &[u8]) -> bool {
    let first = match letter(text, 0) {
        b'X' => 0,
        b'Y' => 1,
        b'Z' => 2,
        digit @ b'0'..=b'9' => u64::from(digit - b'0'),
        _ => return false,
    };
    let number = first * 10_000_000 + Digits::of(text.get(1..8).unwrap_or_default()).number(0, 7);
    let check = usize::try_from(number % 23).ok().and_then(|i| b"TRWAGMYFPDXBNJZSQVHLCKE".get(i));
    check == Some(&letter(text, 8)) && number != 0
}

/// Decreto ministeriale 23 December 1976: a month's letter, a day (women + 40), and a letter over all.
pub(in super::super) fn it(text: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let sum: u32 = text
        .iter()
        .take(15)
        .enumerate()
        .map(|(i, byte)| {
            let n = if byte.is_ascii_digit() { byte - b'0' } else { byte.wrapping_sub(b'A') };
            if i % 2 == 0 { ODD.get(usize::from(n)).copied().unwrap_or(0) } else { u32::from(n) }
        })
        .sum();
    let day = Digits::of(text.get(9..11).unwrap_or_default()).number(0, 2);
    b"ABCDEHLMPRST".contains(&letter(text, 8))
        && matches!(day, 1..=31 | 41..=71)
        && sum % 26 == u32::from(letter(text, 15).wrapping_sub(b'A'))
}

/// Elfproef, the last digit taken off.
pub(in super::super) fn nl(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(d.slice(), &[9, 8, 7, 6, 5, 4, 3, 2]);
    !d.all_equal() && sum >= d.last() && (sum - d.last()).is_multiple_of(11)
}

/// 97 less the first nine digits modulo 97, with a 2 in front for who was born from 2000 on. The months of those
/// whose sex is not known are 20 or 40 later.
pub(in super::super) fn be(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let (number, check) = (d.number(0, 9), d.number(9, 11));
    let month = d.number(2, 4) % 20;
    month <= 12
        && d.number(4, 6) <= 31
        && [number, number + 2_000_000_000].iter().any(|n| 97 - n % 97 == check)
}

/// Ustawa o ewidencji ludności: weights 1, 3, 7, 9; the century is in the month.
pub(in super::super) fn pl(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(d.slice(), &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    month_day(d.number(2, 4) % 20, d.number(4, 6)) && (10 - sum % 10) % 10 == d.last()
}

/// Skatteverket: date and Luhn over the last ten digits; coordination numbers add 60 to the day.
pub(in super::super) fn se(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let Some(ten) = d.len.checked_sub(10) else { return false };
    let day = d.number(ten + 4, ten + 6);
    let day = if day > 60 { day - 60 } else { day };
    let century = ten == 0 || matches!(d.number(0, 2), 18..=20);
    century && month_day(d.number(ten + 2, ten + 4), day) && luhn(d.slice().get(ten..).unwrap_or_default())
}

/// DVV: a date, a sign of the century, an individual number, a character by modulo 31.
pub(in super::super) fn fi(text: &[u8]) -> bool {
    let d = Digits::of(text.get(..6).unwrap_or_default());
    // the sign is a letter or the dash that is no part of this text
    let (century, rest) = match text.len() {
        11 => (letter(text, 6), text.get(7..)),
        _ => (b'-', text.get(6..)),
    };
    let individual = Digits::of(rest.and_then(|r| r.get(..3)).unwrap_or_default()).number(0, 3);
    let number = d.number(0, 6) * 1000 + individual;
    let check = usize::try_from(number % 31).ok().and_then(|i| b"0123456789ABCDEFHJKLMNPRSTUVWXY".get(i));
    matches!(century, b'-' | b'A'..=b'F' | b'U'..=b'Y')
        && month_day(d.number(2, 4), d.number(0, 2))
        && individual >= 2
        && check == text.last()
}

/// Autoridade Tributária: modulus 11, and the first digits of natural persons and companies.
pub(in super::super) fn pt(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let rest = weighted(d.slice(), &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if rest < 2 { 0 } else { 11 - rest };
    matches!(d.at(0), 1..=3 | 5 | 6 | 8 | 9) && check == d.last()
}

/// ZAS: 756 and the check digit of EAN-13.
pub(in super::super) fn ch(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(d.slice(), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3]);
    d.number(0, 3) == 756 && (10 - sum % 10) % 10 == d.last()
}

/// CPR-kontoret: a date; the old check digit is not kept any more.
pub(in super::super) fn dk(text: &[u8]) -> bool {
    let d = Digits::of(text);
    month_day(d.number(2, 4), d.number(0, 2))
}

/// Skatteetaten: two digits by modulus 11; D numbers add 40 to the day.
pub(in super::super) fn no(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let day = d.number(0, 2);
    let day = if day > 40 { day - 40 } else { day };
    month_day(d.number(2, 4), day)
        && weighted(d.slice(), &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
        && weighted(d.slice(), &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Czech and Slovak: divisible by 11; women's months are 50 later, a full day's 20. Until 1953 without a check digit.
pub(in super::super) fn cz(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let month = d.number(2, 4) % 50;
    let month = if month > 20 { month - 20 } else { month };
    let old = d.len == 9 && d.number(0, 2) < 54;
    month_day(month, d.number(4, 6)) && (old || d.number(0, d.len).is_multiple_of(11))
}

/// Legea 105/1996: sex and century, date, county, modulus 11.
pub(in super::super) fn ro(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let rest = weighted(d.slice(), &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    d.at(0) != 0 && d.dated(3) && (if rest == 10 { 1 } else { rest }) == d.last()
}

/// ГРАО: the century is in the month, modulus 11.
pub(in super::super) fn bg(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let rest = weighted(d.slice(), &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10;
    month_day(d.number(2, 4) % 20, d.number(4, 6)) && rest == d.last()
}

/// Zakon o OIB: ISO 7064 MOD 11,10.
pub(in super::super) fn hr(text: &[u8]) -> bool {
    mod_11_10(Digits::of(text).slice())
}

/// Estonia and Lithuania: sex and century, date, modulus 11 in two passes.
pub(in super::super) fn ee(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let first = weighted(d.slice(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11;
    let second = weighted(d.slice(), &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11 % 10;
    matches!(d.at(0), 1..=8) && d.dated(3) && (if first == 10 { second } else { first }) == d.last()
}

/// ASVG: the fourth digit is the check; the date is behind it.
pub(in super::super) fn at(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let sum = weighted(d.slice(), &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]) % 11;
    d.at(0) != 0 && matches!(d.number(6, 8), 1..=15) && matches!(d.number(4, 6), 1..=31) && sum == d.at(3)
}

/// Department of Social Protection: modulus 23, the second letter counting nine times.
pub(in super::super) fn ie(text: &[u8]) -> bool {
    let d = Digits::of(text);
    let second = match letter(text, 8) {
        0 | b'W' => 0,
        b @ b'A'..=b'I' => u32::from(b - b'A') + 1,
        _ => return false,
    };
    let sum = weighted(d.slice(), &[8, 7, 6, 5, 4, 3, 2]) + second * 9;
    usize::try_from(sum % 23).ok().and_then(|i| b"WABCDEFGHIJKLMNOPQRSTUV".get(i)) == Some(&letter(text, 7))
}
