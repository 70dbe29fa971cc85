//! National ids: their written forms, and which of them need a word beside them.
//!
//! A form stands alone where a random string of the same shape would pass for one less than once in a thousand times:
//! then a column of order numbers stays readable. All others need a label in front of them in the text, or a column's
//! name that says what they are.

use super::{Families, context, ids};

/// The longest form is 21 characters.
const LONGEST: usize = 24;
/// How far in front of a number its label may begin.
pub(in super::super) const LABEL: usize = 40;

struct Id {
    /// `9` for a digit, `A` for a capital letter, separators as they are.
    form: &'static str,
    family: Families,
    /// Needs no label.
    alone: bool,
    /// Takes the digits and letters without the separators.
    check: fn(&[u8]) -> bool,
}

const fn alone(form: &'static str, family: Families, check: fn(&[u8]) -> bool) -> Id {
    Id { form, family, alone: true, check }
}

const fn labelled(form: &'static str, family: Families, check: fn(&[u8]) -> bool) -> Id {
    Id { form, family, alone: false, check }
}

const IDS: &[Id] = &[
    alone("999-99-9999", Families::US, ids::us),
    labelled("999 99 9999", Families::US, ids::us),
    labelled("999999999", Families::US, ids::us),
    alone("AA 99 99 99 A", Families::GB, ids::gb_nino),
    labelled("AA999999A", Families::GB, ids::gb_nino),
    labelled("AA 999999 A", Families::GB, ids::gb_nino),
    labelled("9999999999", Families::NHS, ids::gb_nhs),
    labelled("999 999 9999", Families::NHS, ids::gb_nhs),
    labelled("99999999999", Families::DE, ids::de),
    labelled("99 999 999 999", Families::DE, ids::de),
    alone("999999999999999", Families::FR, ids::fr),
    alone("9 99 99 99 999 999 99", Families::FR, ids::fr),
    alone("999999A99999999", Families::FR, ids::fr),
    alone("9 99 99 9A 999 999 99", Families::FR, ids::fr),
    labelled("99999999A", Families::ES, ids::es),
    labelled("99999999-A", Families::ES, ids::es),
    labelled("A9999999A", Families::ES, ids::es),
    labelled("A-9999999-A", Families::ES, ids::es),
    alone("AAAAAA99A99A999A", Families::IT, ids::it),
    labelled("999999999", Families::NL, ids::nl),
    labelled("9999.99.999", Families::NL, ids::nl),
    alone("99.99.99-999.99", Families::BE, ids::be),
    labelled("99999999999", Families::BE, ids::be),
    labelled("99999999999", Families::PL, ids::pl),
    labelled("999999-9999", Families::SE, ids::se),
    labelled("99999999-9999", Families::SE, ids::se),
    labelled("9999999999", Families::SE, ids::se),
    labelled("999999999999", Families::SE, ids::se),
    alone("999999-999A", Families::FI, ids::fi),
    alone("999999A999A", Families::FI, ids::fi),
    labelled("999999-9999", Families::FI, ids::fi),
    labelled("999999A9999", Families::FI, ids::fi),
    labelled("999999999", Families::PT, ids::pt),
    labelled("999 999 999", Families::PT, ids::pt),
    alone("999.999.999-99", Families::BR, ids::br),
    labelled("99999999999", Families::BR, ids::br),
    labelled("999999999999", Families::AADHAAR, ids::aadhaar),
    labelled("9999 9999 9999", Families::AADHAAR, ids::aadhaar),
    labelled("9999-9999-9999", Families::AADHAAR, ids::aadhaar),
    labelled("AAAAA9999A", Families::PAN, ids::pan),
    alone("999999999999999999", Families::CN, ids::cn),
    alone("99999999999999999A", Families::CN, ids::cn),
    labelled("999999-9999999", Families::KR, ids::kr),
    labelled("9999999999999", Families::KR, ids::kr),
    labelled("99999999999", Families::TR, ids::tr),
    alone("999.9999.9999.99", Families::CH, ids::ch),
    alone("9999999999999", Families::CH, ids::ch),
    labelled("999999-9999", Families::DK, ids::dk),
    labelled("9999999999", Families::DK, ids::dk),
    labelled("99999999999", Families::NO, ids::no),
    labelled("999999 99999", Families::NO, ids::no),
    labelled("999999/9999", Families::CZ, ids::cz),
    labelled("999999/999", Families::CZ, ids::cz),
    labelled("9999999999", Families::CZ, ids::cz),
    labelled("9999999999999", Families::RO, ids::ro),
    labelled("9999999999", Families::BG, ids::bg),
    labelled("99999999999", Families::HR, ids::hr),
    labelled("99999999999", Families::EE, ids::ee),
    labelled("9999999999", Families::AT, ids::at),
    labelled("9999 999999", Families::AT, ids::at),
    labelled("999999999", Families::CA, ids::ca),
    labelled("999 999 999", Families::CA, ids::ca),
    labelled("999-999-999", Families::CA, ids::ca),
    labelled("999999999", Families::AU, ids::au),
    labelled("999 999 999", Families::AU, ids::au),
    labelled("9999999999999", Families::ZA, ids::za),
    alone("AAAA999999AAAAAA99", Families::MX, ids::mx),
    alone("AAAA999999AAAAAAA9", Families::MX, ids::mx),
    labelled("A9999999A", Families::SG, ids::sg),
    labelled("9999999A", Families::IE, ids::ie),
    labelled("9999999AA", Families::IE, ids::ie),
    labelled("99.999.999-9", Families::CL, ids::cl),
    labelled("99.999.999-A", Families::CL, ids::cl),
    labelled("9.999.999-9", Families::CL, ids::cl),
    labelled("9.999.999-A", Families::CL, ids::cl),
    labelled("99999999-9", Families::CL, ids::cl),
    labelled("99-99999999-9", Families::AR, ids::ar),
    labelled("99999999999", Families::AR, ids::ar),
    labelled("999999999", Families::IL, ids::il),
];

/// The id that begins at `start`, the longest if there are several: its length and its families.
pub(super) fn at(value: &[u8], start: usize, hints: Families) -> Option<(usize, Families)> {
    let rest = value.get(start..)?;
    let mut written = Written::default();
    let mut label = None;
    let mut found = None;
    for byte in rest.iter().take(LONGEST + 1) {
        let separates = matches!(byte, b' ' | b'-' | b'.' | b'/');
        if !separates && !byte.is_ascii_digit() && !byte.is_ascii_uppercase() {
            break;
        }
        if separates {
            if written.after_separator() {
                break;
            }
            let decimal = *byte == b'.' && rest.get(written.form_len + 1).is_some_and(u8::is_ascii_digit);
            // a form that goes on behind a point is another form, or a decimal number
            if !decimal {
                found = written.judge(value, start, hints, &mut label).or(found);
            }
        }
        if written.push(*byte).is_none() {
            return found;
        }
    }
    let ends =
        rest.get(written.form_len).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_' && *b < 0x80);
    if ends && !written.after_separator() {
        found = written.judge(value, start, hints, &mut label).or(found);
    }
    found
}

/// What was read: as it is written, and without what separates.
#[derive(Default)]
struct Written {
    form: [u8; LONGEST],
    form_len: usize,
    text: [u8; LONGEST],
    text_len: usize,
}

impl Written {
    fn push(&mut self, byte: u8) -> Option<()> {
        let class = match byte {
            b'0'..=b'9' => b'9',
            b'A'..=b'Z' => b'A',
            other => other,
        };
        *self.form.get_mut(self.form_len)? = class;
        self.form_len += 1;
        if byte.is_ascii_alphanumeric() {
            *self.text.get_mut(self.text_len)? = byte;
            self.text_len += 1;
        }
        Some(())
    }

    fn after_separator(&self) -> bool {
        let last = self.form_len.checked_sub(1).and_then(|at| self.form.get(at));
        last.is_some_and(|b| !b.is_ascii_alphanumeric())
    }

    fn judge(
        &self,
        value: &[u8],
        start: usize,
        hints: Families,
        label: &mut Option<Families>,
    ) -> Option<(usize, Families)> {
        let form = self.form.get(..self.form_len)?;
        let text = self.text.get(..self.text_len)?;
        let mut families = Families::NONE;
        for id in IDS.iter().filter(|id| id.form.as_bytes() == form) {
            if (id.check)(text)
                && (id.alone
                    || (hints | *label.get_or_insert_with(|| labels(value, start))).intersects(id.family))
            {
                families |= id.family;
            }
        }
        (!families.is_empty()).then_some((self.form_len, families))
    }
}

/// What the words in front of a number say of it, as far as they are with it.
fn labels(value: &[u8], start: usize) -> Families {
    let before = value.get(start.saturating_sub(LABEL)..start).unwrap_or_default();
    let other = |b: &u8| matches!(b, b'\n' | b'\r' | b'\t' | b',' | b';' | b'{' | b'}' | b'|');
    let from = before.iter().rposition(other).map_or(0, |at| at + 1);
    let words = before.get(from..).unwrap_or_default();
    // a word that is cut says nothing
    let cut = from == 0 && start > LABEL;
    let words = match words.iter().position(|b| !b.is_ascii_alphanumeric()).filter(|_| cut) {
        Some(at) => words.get(at..).unwrap_or_default(),
        None => words,
    };
    context::hints(words)
}

/// Whether one of the short forms that stand alone may be somewhere in `run`, whatever is around it: digits, capitals
/// and separators alone are looked at. For the prefilter.
pub(in super::super) fn may_stand_alone(run: &[u8]) -> bool {
    let fits = |at: &[u8], form: &[u8]| {
        at.len() >= form.len()
            && at.iter().zip(form).all(|(b, class)| match class {
                b'9' => b.is_ascii_digit(),
                b'A' => b.is_ascii_uppercase(),
                separator => b == separator,
            })
    };
    // the parts that nothing else has: of SSN, CPF, rijksregisternummer, HETU, NINO
    const PARTS: [&[u8]; 6] =
        [b"9-99-9999", b"9.999-99", b"99-999.99", b"99-999A", b"999A999A", b"99 99 99 A"];
    (0..run.len()).any(|at| PARTS.iter().any(|part| run.get(at..).is_some_and(|rest| fits(rest, part))))
}

/// Forms that stand alone and have less digits than a card: what [`may_stand_alone`] has to know.
#[cfg(test)]
pub(in super::super) fn short_forms() -> impl Iterator<Item = &'static str> {
    IDS.iter().filter(|id| id.alone && id.form.matches('9').count() < 13).map(|id| id.form)
}

#[cfg(test)]
#[path = "national_tests.rs"]
mod tests;
