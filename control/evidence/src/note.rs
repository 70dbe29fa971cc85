//! Signed notes (<https://c2sp.org/signed-note>): a text that people and tools can read, with signatures below it.
//!
//! What Sluice says about itself (a coverage report) is kept in this form, so that it can be checked by tools that are
//! not ours.
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::key::{PublicKey, SigningKey};

/// What a signature line begins with: an em dash and a blank.
const MARK: &str = "\u{2014} ";
/// Bytes of the key's hash in front of a signature.
const HASH: usize = 4;
/// More is no note: nobody has so many signers.
const MAX_SIGNATURES: usize = 100;

/// Why a note proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// No text, a blank line, signatures.
    #[error("not a signed note: there must be a text, an empty line and signature lines")]
    Form,
    /// Nobody whose key was given has signed it.
    #[error("none of the given keys has signed it (signed by: {0})")]
    Unknown(String),
    /// It says that a known key has signed it, and that is not so.
    #[error("the signature of `{0}` does not fit: the text was changed, or the signature was made up")]
    Forged(String),
}

/// The text with a signature. A text that does not end in a line feed gets one.
pub fn sign(text: &str, key: &SigningKey) -> String {
    let mut note = text.to_owned();
    if !note.ends_with('\n') {
        note.push('\n');
    }
    let mut signature = key.public().id().0[..HASH].to_vec();
    signature.extend_from_slice(&key.sign(note.as_bytes()));
    note.push_str(&format!("\n{MARK}{} {}\n", key.public().name(), STANDARD.encode(signature)));
    note
}

/// The text of a note, and the name of the key that vouches for it. Signatures by unknown keys are ignored, as the
/// specification wants; one by a known key that does not fit is an error, whatever the others say.
///
/// # Errors
/// [`InvalidNote`]; the text must not be believed then.
pub fn open<'a>(note: &'a str, keys: &'a [PublicKey]) -> Result<(&'a str, &'a str), InvalidNote> {
    // the last empty line: a text may have some of its own
    let split = note.rfind("\n\n").ok_or(InvalidNote::Form)?;
    let (text, below) = (note.get(..=split), note.get(split + 2..));
    let (Some(text), Some(below)) = (text, below) else { return Err(InvalidNote::Form) };
    let foreign = |c: char| c.is_ascii_control() && c != '\n';
    if text.chars().any(foreign) || below.is_empty() || !below.ends_with('\n') {
        return Err(InvalidNote::Form);
    }
    let mut found = None;
    let mut names = Vec::new();
    for line in below.lines() {
        if names.len() == MAX_SIGNATURES {
            return Err(InvalidNote::Form);
        }
        let (name, signature) =
            line.strip_prefix(MARK).and_then(|rest| rest.split_once(' ')).ok_or(InvalidNote::Form)?;
        let signature = STANDARD.decode(signature).map_err(|_| InvalidNote::Form)?;
        let (hash, signature) = signature.split_at_checked(HASH).ok_or(InvalidNote::Form)?;
        let known = keys.iter().find(|key| key.name() == name && key.id().0[..HASH] == *hash);
        match known {
            Some(key) if key.signed(text.as_bytes(), signature) => found = found.or(Some(key.name())),
            Some(key) => return Err(InvalidNote::Forged(key.name().to_owned())),
            None => {}
        }
        names.push(name);
    }
    found.map(|name| (text, name)).ok_or_else(|| InvalidNote::Unknown(names.join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_pkcs8(name, &SigningKey::generate_pkcs8(&SystemRandom::new()).unwrap()).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_opens() {
        // golang.org/x/mod/sumdb/note, package documentation
        let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let keys = [verifier.parse().unwrap()];
        let (text, name) = open(note, &keys).unwrap();
        assert_eq!(name, "PeterNeumann");
        assert!(text.ends_with("problem is.\n"));
    }

    #[test]
    fn what_was_signed_opens_and_nothing_else() {
        let (ours, other) = (key("host/sluice"), key("host/sluice"));
        let keys = [ours.public().clone()];
        let note = sign("{\n  \"a\": 1\n}", &ours);
        assert_eq!(open(&note, &keys), Ok(("{\n  \"a\": 1\n}\n", "host/sluice")));
        assert_eq!(open(&note.replace('1', "2"), &keys), Err(InvalidNote::Forged("host/sluice".into())));
        assert_eq!(
            open(&sign("{}", &other), &keys),
            Err(InvalidNote::Unknown("host/sluice".into())),
            "the same name with another key"
        );
        assert_eq!(open("{}\n", &keys), Err(InvalidNote::Form));
        assert_eq!(open("", &keys), Err(InvalidNote::Form));
    }

    proptest! {
        #[test]
        fn no_changed_byte_passes(at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let ours = key("k");
            let note = sign("first\n\nsecond \u{2014} third", &ours);
            let mut bytes = note.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = with;
            let keys = [ours.public().clone()];
            if let Ok(changed) = String::from_utf8(bytes) && changed != note {
                let opened = open(&changed, &keys);
                prop_assert!(opened.is_err(), "{opened:?}");
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC*", lines in "(\\PC|\n|\u{2014} ){0,80}") {
            let ours = key("k");
            let _ = open(&format!("{text}\n\n{lines}"), &[ours.public().clone()]);
        }
    }
}
