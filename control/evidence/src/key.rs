//! Keys that sign recordings. Public ones are one line of text: the verifier key of C2SP's signed notes
//! (<https://c2sp.org/signed-note>), so that tools which are not ours can take them.
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{Context, SHA256};
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::format::array;

/// Type byte of Ed25519 in signed notes.
const ED25519_TYPE: u8 = 1;

/// The first 8 bytes of SHA-256(name ‖ `\n` ‖ 1 ‖ key); the first 4 are the key hash of a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Why a text or some bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// A name is at least one character, without white space and `+`.
    #[error("a key's name must be without white space and `+`, and not empty")]
    Name,
    /// Not `name+hash+data`.
    #[error("not a public key of the form `name+hash+data`")]
    Form,
    /// The hash in the text is not that of name and key.
    #[error("the key's hash does not fit its name and data: the line was changed")]
    Hash,
    /// Another algorithm than Ed25519.
    #[error("not an Ed25519 key")]
    Algorithm,
    /// Private key bytes are not PKCS #8 of Ed25519 with the public key.
    #[error("not a private Ed25519 key in PKCS #8")]
    Private,
    /// The random number generator failed.
    #[error("the random number generator failed")]
    Random,
}

/// Who may have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    bytes: [u8; 32],
    id: KeyId,
}

impl PublicKey {
    /// # Errors
    /// [`InvalidKey::Name`].
    pub fn new(name: &str, bytes: [u8; 32]) -> Result<Self, InvalidKey> {
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(InvalidKey::Name);
        }
        let mut context = Context::new(&SHA256);
        context.update(name.as_bytes());
        context.update(&[b'\n', ED25519_TYPE]);
        context.update(&bytes);
        Ok(Self { name: name.to_owned(), bytes, id: KeyId(array(context.finish().as_ref())) })
    }

    /// The name: a host's, usually.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What files name the key by.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut data = vec![ED25519_TYPE];
        data.extend_from_slice(&self.bytes);
        let hash = u32::from_be_bytes(array(&self.id.0));
        write!(f, "{}+{hash:08x}+{}", self.name, STANDARD.encode(data))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (name, rest) = text.trim_end_matches(['\n', '\r']).split_once('+').ok_or(InvalidKey::Form)?;
        let (hash, data) = rest.split_once('+').ok_or(InvalidKey::Form)?;
        let data = STANDARD.decode(data).map_err(|_| InvalidKey::Form)?;
        let (kind, bytes) = data.split_first().ok_or(InvalidKey::Form)?;
        if *kind != ED25519_TYPE {
            return Err(InvalidKey::Algorithm);
        }
        let key = Self::new(name, bytes.try_into().map_err(|_| InvalidKey::Form)?)?;
        if format!("{:08x}", u32::from_be_bytes(array(&key.id.0))) != hash {
            return Err(InvalidKey::Hash);
        }
        Ok(key)
    }
}

/// A key that signs. No `Debug`, no way to get the private half out.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh private key in PKCS #8, to be kept where only the writer can read it.
    ///
    /// # Errors
    /// [`InvalidKey::Random`].
    pub fn generate_pkcs8(random: &dyn SecureRandom) -> Result<Vec<u8>, InvalidKey> {
        let document = Ed25519KeyPair::generate_pkcs8(random).map_err(|_| InvalidKey::Random)?;
        Ok(document.as_ref().to_vec())
    }

    /// # Errors
    /// [`InvalidKey::Private`] and [`InvalidKey::Name`].
    pub fn from_pkcs8(name: &str, pkcs8: &[u8]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| InvalidKey::Private)?;
        let public = PublicKey::new(name, array(pair.public_key().as_ref()))?;
        Ok(Self { pair, public })
    }

    /// The half that verifies.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        array(self.pair.sign(message).as_ref())
    }
}
