//! What the name of a column (or of a key in JSON, hstore, XML or `key=value`) says about its values.
//!
//! Must hold: a name that says anything has a word of [`VOCABULARY`] in it, so that the prefilter may look for those.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::Families;
use super::vocabulary::VOCABULARY;

/// Words are no longer.
const LONGEST: usize = 32;

/// Grammar of names: what takes two words to say. Above the families' bits.
pub(super) mod word {
    /// `name`, which says something together with whose.
    pub(in super::super) const NAME: u64 = 1 << 63;
    pub(in super::super) const WHOSE: u64 = 1 << 62;
    /// `key`, which says something together with what it opens.
    pub(in super::super) const KEY: u64 = 1 << 61;
    pub(in super::super) const OPENS: u64 = 1 << 60;
    /// `national`, `tax` …, which say something together with `id` or `number`.
    pub(in super::super) const NATION: u64 = 1 << 59;
    pub(in super::super) const NUMBER: u64 = 1 << 58;
    /// Something about the thing and not itself: `password_changed_at`.
    pub(in super::super) const ABOUT: u64 = 1 << 57;
    /// `remote`, `client` …, which say something together with `addr`.
    pub(in super::super) const REMOTE: u64 = 1 << 56;
    pub(in super::super) const ADDRESS: u64 = 1 << 55;
    /// How a thing is done: a password's encryption is none of its secrets, the key of an encryption is one.
    pub(in super::super) const METHOD: u64 = 1 << 54;
    pub(in super::super) const GRAMMAR: u64 = 0x3ff << 54;
}
use word::{ABOUT, ADDRESS, KEY, METHOD, NAME, NATION, NUMBER, OPENS, REMOTE, WHOSE};

/// The families that a name lets expect. Pure; asked once a column, and once a key inside a value.
#[must_use]
pub fn hints(name: &[u8]) -> Families {
    let mut seen = 0;
    let mut rest = name;
    let mut lower = [0; LONGEST];
    while let Some(word) = next_word(&mut rest) {
        if let Some(space) = lower.get_mut(..word.len()) {
            space.copy_from_slice(word);
            space.make_ascii_lowercase();
            seen |= meaning(space);
        }
    }
    let both = |a: u64, b: u64| seen & a != 0 && seen & b != 0;
    let mut found = Families::from_bits(seen & !word::GRAMMAR);
    if both(NAME, WHOSE) {
        found |= Families::NAME;
    }
    if both(KEY, OPENS) {
        found |= Families::PASSWORD;
    }
    if both(NATION, NUMBER) {
        found |= Families::NATIONAL;
    }
    if both(REMOTE, ADDRESS) {
        found |= Families::IP;
    }
    if seen & ABOUT != 0 || seen & METHOD != 0 && seen & KEY == 0 {
        let whole = Families::PASSWORD | Families::TOKEN | Families::NAME;
        found = Families::from_bits(found.bits() & !whole.bits());
    }
    found
}

fn meaning(word: &[u8]) -> u64 {
    let at = VOCABULARY.binary_search_by(|(known, _)| known.as_bytes().cmp(word));
    at.ok().and_then(|at| VOCABULARY.get(at)).map_or(0, |(_, meaning)| *meaning)
}

/// The next word of `snake_case`, `camelCase`, `IPAddress` or prose; bytes of other alphabets are letters.
fn next_word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b >= 0x80;
    let start = rest.iter().position(letter)?;
    let from = rest.get(start..)?;
    let mut end = 1;
    while let Some(byte) = from.get(end).filter(|b| letter(b)) {
        let before_upper = from.get(end - 1).is_some_and(u8::is_ascii_uppercase);
        let then_lower = from.get(end + 1).is_some_and(u8::is_ascii_lowercase);
        if byte.is_ascii_uppercase() && (!before_upper || then_lower) {
            break;
        }
        end += 1;
    }
    *rest = from.get(end..).unwrap_or_default();
    from.get(..end)
}

/// Whether any word of the vocabulary is somewhere in `bytes`, as a part of a word or of a longer one.
pub(in super::super) fn may_name(bytes: &[u8]) -> bool {
    // words of grammar alone say nothing: one of each pair is looked for
    static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
        let needed =
            |meaning: u64| meaning & !(WHOSE | OPENS | NATION | ABOUT | REMOTE | NUMBER | METHOD) != 0;
        // a nation's word is rarer than `id`
        let words = VOCABULARY.iter().filter(|(_, meaning)| needed(*meaning) || meaning & NATION != 0);
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).prefilter(false).kind(Some(AhoCorasickKind::DFA));
        builder.build(words.map(|(word, _)| word)).ok()
    });
    WORDS.as_ref().is_none_or(|words| words.is_match(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_sorted_and_short_enough() {
        assert!(VOCABULARY.is_sorted_by(|a, b| a.0 < b.0));
        assert!(VOCABULARY.iter().all(|(word, _)| word.len() <= LONGEST));
        assert!(VOCABULARY.iter().all(|(word, _)| *word == word.to_ascii_lowercase()));
    }

    #[test]
    fn names_in_several_styles_and_languages() {
        for (name, expected) in [
            ("phone_number", Families::PHONE),
            ("customerPhone2", Families::PHONE),
            ("Téléphone", Families::PHONE),
            ("telefonnummer", Families::PHONE),
            ("dateOfBirth", Families::BIRTH),
            ("DOB", Families::BIRTH),
            ("geburtsdatum", Families::BIRTH),
            ("fecha_nacimiento", Families::BIRTH),
            ("first_name", Families::NAME),
            ("lastName", Families::NAME),
            ("Nachname", Families::NAME),
            ("customer.fullName", Families::NAME),
            ("prénom", Families::NAME),
            ("clientIPAddress", Families::IP),
            ("remote_addr", Families::IP),
            ("ipv4", Families::IP),
            ("mac_address", Families::MAC),
            ("PGPASSWORD", Families::PASSWORD),
            ("aws_secret_access_key", Families::PASSWORD),
            ("AccountKey", Families::PASSWORD),
            ("encryption_key", Families::PASSWORD),
            ("refreshToken", Families::TOKEN),
            ("patient_ssn", Families::US),
            ("BSN", Families::NL),
            ("codiceFiscale", Families::IT),
            ("tax_id", Families::NATIONAL),
            ("nationalIdNumber", Families::NATIONAL),
            ("my ssn is ", Families::US),
        ] {
            assert_eq!(hints(name.as_bytes()), expected, "{name}");
            assert!(may_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_say_nothing() {
        for name in [
            "id",
            "order_id",
            "name",
            "product_name",
            "file_name",
            "description",
            "zip",
            "shipping",
            "hotel",
            "primary_key",
            "key",
            "password_changed_at",
            "password_length",
            "password_encryption",
            "token_count",
            "using",
            "tokenizer",
            "machine",
            "sinus",
            "status",
            "address",
            "amount",
            "created_at",
            "taxable",
            "number",
            "",
        ] {
            assert_eq!(hints(name.as_bytes()), Families::NONE, "{name}");
        }
    }
}
