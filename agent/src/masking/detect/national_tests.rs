//! Numbers that the authorities, or the documentation of validators, publish as examples.

use super::*;

/// A number of each family, as it is written.
const GOOD: &[(Families, &[&str])] = &[
    (Families::US, &["123-45-6789", "123456789", "912-70-1234"]),
    (Families::GB, &["AB 12 34 56 C", "AB123456C"]),
    (Families::NHS, &["9434765919", "943 476 5919"]),
    (Families::DE, &["86095742719", "47 036 892 816"]),
    (Families::FR, &["255081416802538", "2 55 08 14 168 025 38"]),
    (Families::ES, &["12345678Z", "12345678-Z", "X1234567L"]),
    (Families::IT, &["RSSMRA85T10A562S"]),
    (Families::NL, &["111222333", "1112.22.333"]),
    (Families::BE, &["85.07.30-033.28", "85073003328"]),
    (Families::PL, &["44051401359"]),
    (Families::SE, &["811218-9876", "19811218-9876", "8112189876"]),
    (Families::FI, &["131052-308T", "131052A308T"]),
    (Families::PT, &["123456789"]),
    (Families::BR, &["529.982.247-25", "52998224725"]),
    (Families::AADHAAR, &["234123412346", "2341 2341 2346"]),
    (Families::PAN, &["ABCPE1234F"]),
    (Families::CN, &["11010519491231002X"]),
    (Families::KR, &["971013-9019902"]),
    (Families::TR, &["10000000146"]),
    (Families::CH, &["756.9217.0769.85", "7569217076985"]),
    (Families::DK, &["211062-5629"]),
    (Families::NO, &["15108695088", "151086 95088"]),
    (Families::CZ, &["710319/2745", "7103192745"]),
    (Families::RO, &["1630615123457"]),
    (Families::BG, &["7523169263"]),
    (Families::HR, &["33392005961"]),
    (Families::EE, &["36805280109", "33309240064"]),
    (Families::AT, &["1237010180", "1237 010180"]),
    (Families::CA, &["123 456 782", "123-456-782"]),
    (Families::AU, &["123456782"]),
    (Families::ZA, &["7503305044089"]),
    (Families::MX, &["BOXW310820HNERXN09"]),
    (Families::SG, &["S1234567D"]),
    (Families::IE, &["1234567T", "6433435F"]),
    (Families::CL, &["12531909-2", "12.531.909-2"]),
    (Families::AR, &["20-05536168-2"]),
    (Families::IL, &["039337423"]),
];

fn whole(text: &str, hints: Families) -> bool {
    at(text.as_bytes(), 0, hints)
        .is_some_and(|(length, families)| length == text.len() && families.intersects(hints))
}

#[test]
fn numbers_that_are_published() {
    for (family, numbers) in GOOD {
        for number in *numbers {
            assert!(whole(number, *family), "{number} of {:?}", family.names().collect::<Vec<_>>());
        }
    }
}

/// Each digit that a checksum covers, changed by one.
#[test]
fn numbers_with_a_digit_that_is_wrong() {
    // no checksum: only what the authority never gives out is refused
    let unchecked = Families::US | Families::GB | Families::PAN | Families::DK | Families::KR;
    for (family, numbers) in GOOD.iter().filter(|(family, _)| !family.intersects(unchecked)) {
        for number in *numbers {
            let last = number.rfind(|c: char| c.is_ascii_digit()).unwrap();
            let mut wrong = number.as_bytes().to_vec();
            wrong[last] = b'0' + (wrong[last] - b'0' + 1) % 10;
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(!whole(&wrong, *family), "{wrong} of {:?}", family.names().collect::<Vec<_>>());
        }
    }
    for number in ["000-12-3456", "666-12-3456", "123-00-4567", "123-45-0000", "900-12-3456", "111-11-1111"] {
        assert!(!whole(number, Families::US), "{number}");
    }
    for number in ["DA123456C", "GB123456A", "AB123456E"] {
        assert!(!whole(number, Families::GB), "{number}");
    }
    assert!(!whole("ABCXE1234F", Families::PAN) && !whole("311362-5629", Families::DK));
}

#[test]
fn a_number_that_may_be_anything_needs_its_label() {
    for (text, found) in [
        ("111222333", false),
        ("order 111222333", false),
        ("BSN 111222333", true),
        ("bsn: 111222333", true),
        ("his ssn is 123456789", true),
        ("{\"steuerId\":\"86095742719\"}", true),
        ("bsn is empty, order 111222333", false),
        ("using 123456782", false),
        ("SIN 123456782", true),
        ("CPR-nummer 211062-5629", true),
    ] {
        let start = text.find(|c: char| c.is_ascii_digit()).unwrap();
        assert_eq!(at(text.as_bytes(), start, Families::NONE).is_some(), found, "{text}");
    }
}

#[test]
fn what_goes_on_is_another_number() {
    for text in ["123-45-6789-1x", "123-45-67891", "123-45-6789a", "123-45-6789_1", "529.982.247-25.5x"] {
        assert!(at(text.as_bytes(), 0, Families::US).is_none_or(|(length, _)| length < text.len()), "{text}");
    }
    assert_eq!(at(b"123-45-6789 and", 0, Families::NONE), Some((11, Families::US)));
    assert_eq!(at(b"123-45-6789.", 0, Families::NONE), Some((11, Families::US)));
    assert_eq!(at(b"123-45-6789x", 0, Families::NONE), None);
}
