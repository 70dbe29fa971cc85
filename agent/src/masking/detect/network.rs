//! Addresses of machines: IPv4, IPv6, MAC.
//!
//! By context alone (a column's name, a key in front). Nearly all of the addresses that an engineer meets in logs,
//! notices and host tables are those of servers, private ranges and routers; starring them would take from operations
//! what it lives on and protect nobody. Where an address is a person's, the column is called `client_ip`, `last_login_ip`
//! or `remote_addr`, and there every one is masked.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::Families;

/// The first address of the wanted families at or behind `from`.
pub(super) fn address(value: &[u8], from: usize, wanted: Families) -> Option<(Range<usize>, Families)> {
    let part = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'-');
    let mut start = from;
    while let Some(skipped) = value.get(start..)?.iter().position(part) {
        start += skipped;
        let length = value.get(start..)?.iter().take(48).take_while(|b| part(b)).count();
        let text = value.get(start..start + length)?;
        // a dot or colon at the end is the sentence's
        let text = match text {
            [.., b':', b':'] => text,
            [rest @ .., b'.' | b':' | b'-'] => rest,
            text => text,
        };
        let free = start == 0 || value.get(start - 1).is_none_or(|b| !b.is_ascii_alphanumeric());
        let ends = value.get(start + text.len()).is_none_or(|b| !b.is_ascii_alphanumeric());
        if free
            && ends
            && let Some((found, family)) = whole(text, wanted)
        {
            return Some((start..start + found, family));
        }
        start += length;
    }
    None
}

fn whole(text: &[u8], wanted: Families) -> Option<(usize, Families)> {
    if wanted.intersects(Families::MAC) && mac(text) {
        return Some((text.len(), Families::MAC));
    }
    if wanted.intersects(Families::IP) && text.len() >= 3 {
        let words = std::str::from_utf8(text).ok()?;
        if words.parse::<Ipv4Addr>().is_ok() || words.parse::<Ipv6Addr>().is_ok() {
            return Some((text.len(), Families::IP));
        }
        // with a port
        let address = words.split_once(':').map(|(address, _)| address)?;
        return address.parse::<Ipv4Addr>().ok().map(|_| (address.len(), Families::IP));
    }
    None
}

/// IEEE 802: six pairs behind colons or dashes, or three groups of four behind points.
fn mac(text: &[u8]) -> bool {
    let (length, every) = match text.get(2) {
        Some(b':' | b'-') => (17, 3),
        _ => (14, 5),
    };
    let separator = text.get(every - 1).copied();
    text.len() == length
        && text.iter().enumerate().all(|(i, b)| match i % every {
            at if at == every - 1 => Some(*b) == separator && matches!(b, b':' | b'-' | b'.'),
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let both = Families::IP | Families::MAC;
        for (text, found) in [
            ("192.0.2.7", Some(0..9)),
            ("from 192.0.2.7:5432.", Some(5..14)),
            ("2001:db8::1", Some(0..11)),
            ("[2001:db8::1]:22", Some(1..12)),
            ("00:1b:44:11:3a:b7", Some(0..17)),
            ("00-1B-44-11-3A-B7", Some(0..17)),
            ("001b.4411.3ab7", Some(0..14)),
            ("192.0.2.256", None),
            ("1.2.3", None),
            ("10:20", None),
            ("deadbeef", None),
        ] {
            assert_eq!(address(text.as_bytes(), 0, both).map(|(range, _)| range), found, "{text}");
        }
        assert_eq!(address(b"192.0.2.7", 0, Families::MAC), None);
    }
}
