//! Payment cards and bank accounts.

use super::checksum::luhn;

/// ISO/IEC 7812: an issuer's range, its lengths, Luhn; separators every few digits or none. What comes behind a
/// separator may be another thing: the longest run of groups that is a card is one.
pub(super) fn card(rest: &[u8]) -> Option<usize> {
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
                || matches!(head(2), 51..=55 | 62 | 65)
                || matches!(head(4), 2221..=2720 | 3528..=3589 | 6011)
                || matches!(head(3), 644..=649)
        }
        17..=19 => matches!(head(2), 62) || (digits.len() == 19 && head(1) == 4),
        _ => false,
    }
}

/// ISO 13616: country, two check digits, as many letters or digits as the country has; modulo 97.
pub(super) fn iban(rest: &[u8]) -> Option<usize> {
    let [a, b, c, d, ..] = rest else { return None };
    if !(c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let row = LENGTHS.binary_search_by(|(country, _)| country.as_slice().cmp(&[*a, *b])).ok()?;
    let wanted = usize::from(LENGTHS.get(row)?.1);
    let spaced = rest.get(4) == Some(&b' ');
    let (mut count, mut length, mut head, mut body) = (0_usize, 0, 0_u32, 0_u32);
    for (i, byte) in rest.iter().enumerate().take(42) {
        let spread = |r: u32| match byte {
            b'0'..=b'9' => (r * 10 + u32::from(byte - b'0')) % 97,
            _ => (r * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
        };
        match byte {
            b' ' if spaced && count % 4 == 0 && i == length => {}
            b'0'..=b'9' | b'A'..=b'Z' => {
                // country and check digits count behind the account
                if count < 4 {
                    head = spread(head);
                } else {
                    body = spread(body);
                }
                count += 1;
                length = i + 1;
                if count == wanted {
                    break;
                }
            }
            _ => return None,
        }
    }
    // two letters and two digits shift what is in front of them by six places
    let ends = rest.get(length).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    (count == wanted && ends && (body * (1_000_000 % 97) + head) % 97 == 1).then_some(length)
}

/// SWIFT's IBAN registry, in the order of countries.
const LENGTHS: &[([u8; 2], u8)] = &[
    (*b"AD", 24),
    (*b"AE", 23),
    (*b"AL", 28),
    (*b"AT", 20),
    (*b"AZ", 28),
    (*b"BA", 20),
    (*b"BE", 16),
    (*b"BG", 22),
    (*b"BH", 22),
    (*b"BI", 27),
    (*b"BR", 29),
    (*b"BY", 28),
    (*b"CH", 21),
    (*b"CR", 22),
    (*b"CY", 28),
    (*b"CZ", 24),
    (*b"DE", 22),
    (*b"DJ", 27),
    (*b"DK", 18),
    (*b"DO", 28),
    (*b"EE", 20),
    (*b"EG", 29),
    (*b"ES", 24),
    (*b"FI", 18),
    (*b"FK", 18),
    (*b"FO", 18),
    (*b"FR", 27),
    (*b"GB", 22),
    (*b"GE", 22),
    (*b"GI", 23),
    (*b"GL", 18),
    (*b"GR", 27),
    (*b"GT", 28),
    (*b"HN", 28),
    (*b"HR", 21),
    (*b"HU", 28),
    (*b"IE", 22),
    (*b"IL", 23),
    (*b"IQ", 23),
    (*b"IS", 26),
    (*b"IT", 27),
    (*b"JO", 30),
    (*b"KW", 30),
    (*b"KZ", 20),
    (*b"LB", 28),
    (*b"LC", 32),
    (*b"LI", 21),
    (*b"LT", 20),
    (*b"LU", 20),
    (*b"LV", 21),
    (*b"LY", 25),
    (*b"MC", 27),
    (*b"MD", 24),
    (*b"ME", 22),
    (*b"MK", 19),
    (*b"MN", 20),
    (*b"MR", 27),
    (*b"MT", 31),
    (*b"MU", 30),
    (*b"NI", 28),
    (*b"NL", 18),
    (*b"NO", 15),
    (*b"OM", 23),
    (*b"PK", 24),
    (*b"PL", 28),
    (*b"PS", 29),
    (*b"PT", 25),
    (*b"QA", 29),
    (*b"RO", 24),
    (*b"RS", 22),
    (*b"RU", 33),
    (*b"SA", 24),
    (*b"SC", 31),
    (*b"SD", 18),
    (*b"SE", 24),
    (*b"SI", 19),
    (*b"SK", 24),
    (*b"SM", 27),
    (*b"SO", 23),
    (*b"ST", 25),
    (*b"SV", 28),
    (*b"TL", 23),
    (*b"TN", 24),
    (*b"TR", 26),
    (*b"UA", 29),
    (*b"VA", 22),
    (*b"VG", 24),
    (*b"XK", 20),
    (*b"YE", 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sorted_and_of_possible_lengths() {
        assert!(LENGTHS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(LENGTHS.iter().all(|(_, length)| (15..=34).contains(length)));
    }

    #[test]
    fn ibans_of_the_registry() {
        for text in [
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "CH9300762011623852957",
            "NL91ABNA0417164300",
            "ES9121000418450200051332",
            "SA0380000000608010167519",
            "DE89 3704 0044 0532 0130 00",
            "BE68 5390 0754 7034",
        ] {
            assert_eq!(iban(text.as_bytes()), Some(text.len()), "{text}");
        }
        for text in [
            "DE89370400440532013001",
            "DE8937040044053201300",
            "DE893704004405320130001",
            "XX89370400440532013000",
            "DE89-3704",
            "DE00",
            "GB29NWBK60161331926818",
        ] {
            assert_eq!(iban(text.as_bytes()), None, "{text}");
        }
        // what comes behind is another thing
        assert_eq!(iban(b"BE68 5390 0754 7034 TOTAL"), Some(19));
    }

    #[test]
    fn cards_by_issuer() {
        for text in [
            "4111111111111111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
            "38520000023237",
            "3530111333300000",
            "6200000000000005",
            "4222222222222",
        ] {
            assert_eq!(card(text.as_bytes()), Some(text.len()), "{text}");
        }
        for text in ["4111111111111112", "1234567812345670", "0000000000000000", "9999999999999995"] {
            assert_eq!(card(text.as_bytes()), None, "{text}");
        }
    }
}
