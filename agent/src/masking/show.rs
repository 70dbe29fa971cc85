//! What is shown in place of a classed value.

use ring::hmac;
use sluice_config::MaskKind;

use super::{ColumnPlan, Treatment};

/// In place of a value of which nothing may be left.
const REDACTED: &[u8] = b"***";

/// Key of the joinable mask: equal values stay equal on this host, and nobody can guess values without it.
#[derive(Clone)]
pub struct MaskKey(hmac::Key);

impl MaskKey {
    /// From 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// What a type of PostgreSQL can hold in place of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Any text.
    Text,
    /// A JSON string; with a version byte in front in jsonb's binary format.
    Json { version_byte: bool },
    /// An array of texts, in its text form.
    TextArray,
    /// Nothing that a driver would still read: NULL.
    Nothing,
}

pub(super) fn holds(type_oid: u32, binary: bool) -> Holds {
    match type_oid {
        // "char" (18) holds one byte and gets none
        19 | 25 | 705 | 1042 | 1043 => Holds::Text,
        114 => Holds::Json { version_byte: false },
        3802 => Holds::Json { version_byte: binary },
        1009 | 1014 | 1015 if !binary => Holds::TextArray,
        _ => Holds::Nothing,
    }
}

/// Writes what is shown for a classed value; `false`: NULL has to be sent.
pub(super) fn show(plan: &ColumnPlan, value: &[u8], key: &MaskKey, out: &mut Vec<u8>) -> bool {
    let Treatment::Mask { kind, class, derived } = &plan.treatment else {
        out.extend_from_slice(value);
        return true;
    };
    super::counts::classed();
    let kind = if *derived { MaskKind::Redact } else { *kind };
    if kind == MaskKind::Null {
        return false;
    }
    match holds(plan.type_oid, plan.binary) {
        Holds::Nothing => return false,
        Holds::Text => masked_text(kind, class, value, key, out),
        Holds::TextArray => out.extend_from_slice(b"{***}"),
        Holds::Json { version_byte } => {
            if version_byte {
                out.push(1);
            }
            out.extend_from_slice(b"\"***\"");
        }
    }
    true
}

fn masked_text(kind: MaskKind, class: &str, value: &[u8], key: &MaskKey, out: &mut Vec<u8>) {
    match kind {
        MaskKind::Hash => {
            let tag = hmac::sign(&key.0, value);
            out.extend_from_slice(b"h:");
            out.extend_from_slice(hex::encode(tag.as_ref().get(..8).unwrap_or_default()).as_bytes());
        }
        MaskKind::Partial => partial(class, value, out),
        MaskKind::Redact | MaskKind::Null => out.extend_from_slice(REDACTED),
    }
}

/// A recognisable part: what people need to tell two rows apart, and no more.
fn partial(class: &str, value: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(value) else {
        out.extend_from_slice(REDACTED);
        return;
    };
    if class.contains("email")
        && let Some((local, domain)) = text.rsplit_once('@')
    {
        out.extend(local.chars().next().map(|c| c.to_string()).unwrap_or_default().bytes());
        out.extend_from_slice(b"***@***");
        if let Some((_, top)) = domain.rsplit_once('.') {
            out.push(b'.');
            out.extend_from_slice(top.as_bytes());
        }
        return;
    }
    // the last digits identify a card, a phone or an id to its owner; short values show nothing
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let shown = match digits {
        12.. => 4,
        8.. => 2,
        _ => 0,
    };
    if shown == 0 {
        out.extend_from_slice(REDACTED);
        return;
    }
    let mut left = digits - shown;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if left > 0 => {
                left -= 1;
                out.push(b'*');
            }
            b'0'..=b'9' | b' ' | b'-' | b'+' | b'(' | b')' | b'/' | b'.' => out.push(byte),
            _ => out.push(b'*'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: MaskKind, class: &str, type_oid: u32, binary: bool, value: &str) -> Option<String> {
        let treatment = Treatment::Mask { kind, class: class.into(), derived: false };
        let plan = ColumnPlan { treatment, type_oid, binary, hints: Default::default() };
        let mut out = Vec::new();
        show(&plan, value.as_bytes(), &MaskKey::new(&[7; 32]), &mut out)
            .then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn parts_are_recognisable_and_no_more() {
        let partial = |class, value| shown(MaskKind::Partial, class, 25, false, value).unwrap();
        assert_eq!(partial("pii.email", "alice.jones@example.com"), "a***@***.com");
        assert_eq!(partial("pii.email", "no address"), "***");
        assert_eq!(partial("pci.card", "4111 1111 1111 1111"), "**** **** **** 1111");
        assert_eq!(partial("pii.national_id", "AB-1234567"), "***");
        assert_eq!(partial("pii.national_id", "12345678"), "******78");
        assert_eq!(partial("pii.name", "Zoë"), "***");
    }

    #[test]
    fn a_type_that_cannot_hold_the_mask_becomes_null() {
        assert_eq!(shown(MaskKind::Redact, "x", 23, false, "42"), None);
        assert_eq!(shown(MaskKind::Partial, "x", 1082, false, "2020-01-01"), None);
        assert_eq!(shown(MaskKind::Redact, "x", 1009, true, "\0\0\0\u{1}"), None);
        assert_eq!(shown(MaskKind::Redact, "x", 3802, true, "\u{1}{}").as_deref(), Some("\u{1}\"***\""));
        assert_eq!(shown(MaskKind::Redact, "x", 1009, false, "{a,b}").as_deref(), Some("{***}"));
    }

    #[test]
    fn hashes_join_and_tell_nothing() {
        let hash = |v| shown(MaskKind::Hash, "x", 25, false, v).unwrap();
        assert_eq!(hash("a@b.c"), hash("a@b.c"));
        assert_ne!(hash("a@b.c"), hash("a@b.d"));
    }
}
