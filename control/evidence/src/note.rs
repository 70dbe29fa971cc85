//! A text and who has signed it: the signed notes of C2SP (<https://c2sp.org/signed-note>), which tools that are not ours
//! read as well.
//!
//! The text, an empty line, and for each signature `— NAME BASE64`, where the bytes are the first four of the key's id and
//! the Ed25519 signature over the text. Must hold: what verifies is exactly the text that is given back.
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{KeyId, PublicKey, SigningKey};

/// Larger is no note of ours.
const LARGEST: usize = 16 << 20;
/// What a line with a signature begins with: an em dash and a blank.
const BEGINS: &str = "\u{2014} ";

/// Why a note proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNote {
    /// No empty line with signatures behind it, or a line that is none.
    #[error("this is no signed note: a text, an empty line, and signatures")]
    Form,
    /// None of the keys that are trusted has signed it.
    #[error("it is signed by none of the keys that are trusted here")]
    Unknown,
    /// A key that is trusted is named, and the text is not what it has signed.
    #[error("the signature does not fit: the text, or the signature, was changed")]
    Signature,
}

/// The note: `text`, which has to end with a line's end, with this key's signature.
pub fn sign(key: &SigningKey, text: &str) -> String {
    let mut bytes = key.public().id().0.get(..4).unwrap_or_default().to_vec();
    bytes.extend_from_slice(&key.sign(text.as_bytes()));
    format!("{text}\n{BEGINS}{} {}\n", key.public().name(), STANDARD.encode(bytes))
}

/// The text, and the key that has signed it. Signatures of others are passed over.
///
/// # Errors
/// [`InvalidNote`].
pub fn verify<'n>(note: &'n str, keys: &[PublicKey]) -> Result<(&'n str, KeyId), InvalidNote> {
    if note.len() > LARGEST {
        return Err(InvalidNote::Form);
    }
    let at = note.rfind("\n\n").ok_or(InvalidNote::Form)?;
    let (text, signatures) = (note.get(..=at).unwrap_or_default(), note.get(at + 2..).unwrap_or_default());
    let signatures =
        signatures.strip_suffix('\n').filter(|lines| !lines.is_empty()).ok_or(InvalidNote::Form)?;
    let mut outcome = Err(InvalidNote::Unknown);
    for line in signatures.split('\n') {
        let (name, encoded) =
            line.strip_prefix(BEGINS).and_then(|line| line.split_once(' ')).ok_or(InvalidNote::Form)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidNote::Form)?;
        let (hash, signature) = bytes.split_at_checked(4).ok_or(InvalidNote::Form)?;
        let named = keys.iter().find(|key| key.name() == name && key.id().0.starts_with(hash));
        let Some(key) = named else { continue };
        if !key.signed(text.as_bytes(), signature) {
            return Err(InvalidNote::Signature);
        }
        outcome = Ok((text, key.id()));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    fn key(name: &str) -> SigningKey {
        let pkcs8 = SigningKey::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(name, &pkcs8).unwrap()
    }

    /// The example of the specification, made by other tools: <https://pkg.go.dev/golang.org/x/mod/sumdb/note>.
    #[test]
    fn a_note_of_others_verifies() {
        let key: PublicKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let (text, id) = verify(note, std::slice::from_ref(&key)).unwrap();
        assert!(text.ends_with("problem is.\n") && id == key.id());
    }

    #[test]
    fn whatever_is_changed_does_not_verify() {
        let (ours, other) = (key("bastion/sluice"), key("bastion/sluice"));
        let trusted = [ours.public().clone()];
        let note = sign(&ours, "{\n  \"a\": 1\n}\n");
        assert_eq!(verify(&note, &trusted).unwrap().0, "{\n  \"a\": 1\n}\n");
        assert_eq!(verify(&note, &[other.public().clone()]), Err(InvalidNote::Unknown));
        assert_eq!(verify(&sign(&other, "x\n"), &trusted), Err(InvalidNote::Unknown));
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            assert!(verify(&changed, &trusted).is_err(), "byte {at}");
        }
        for cut in 0..note.len() - 1 {
            assert!(note.get(..cut).is_none_or(|part| verify(part, &trusted).is_err()), "cut at {cut}");
        }
        assert!(verify(&format!("more\n{note}"), &trusted).is_err());
        assert!(verify(&format!("{note}more\n"), &trusted).is_err());
    }
}
