//! What is offered, best first.
//!
//! Post-quantum key exchange where the other side has it; AES-GCM first where we choose, since every machine that
//! serves has it in hardware; strict key exchange (CVE-2023-48795) on both legs; no compression.
use std::borrow::Cow;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Names, Preferred, cipher, compression, kex, mac};

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G18_SHA512,
    kex::DH_G16_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];
const COMPRESSION: &[compression::Name] = &[compression::NONE];

/// Host keys, best first. RSA signs by SHA-2 alone.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Towards clients: our host key is Ed25519.
pub fn server() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
    }
}

/// Towards targets. `known` are the kinds of keys that the target is known by: they come first, so that a target with
/// several keys shows the one that is known; the others stay on offer, so that a key of another kind is seen and refused
/// with an alarm. `certificates`: host certificates are asked for.
pub fn client(known: &[Algorithm], certificates: bool) -> Preferred {
    let is_known = |key: &&Algorithm| known.iter().any(|known| same_kind(known, key));
    let mut keys: Vec<Algorithm> = KEYS.iter().filter(is_known).cloned().collect();
    keys.extend(KEYS.iter().filter(|key| !is_known(key)).cloned());
    let certified = if certificates { KEYS } else { &[] };
    Preferred { key: Cow::Owned(keys), host_key_certificates: Cow::Borrowed(certified), ..server() }
}

/// Without strict key exchange somebody in between can take packets out of the beginning unseen, where the cipher is
/// ChaCha20-Poly1305 or the MAC is over the ciphertext (CVE-2023-48795). AES-GCM is not concerned.
///
/// # Errors
/// What was chosen, in words.
pub fn check_strict(names: &Names) -> Result<(), String> {
    if names.strict_kex() || names.cipher == cipher::AES_256_GCM {
        return Ok(());
    }
    if names.cipher == cipher::CHACHA20_POLY1305 {
        return Err(names.cipher.as_ref().to_owned());
    }
    let open = [mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];
    match [names.client_mac, names.server_mac].iter().find(|mac| open.contains(mac)) {
        Some(mac) => Err(format!("{} with {}", names.cipher.as_ref(), mac.as_ref())),
        None => Ok(()),
    }
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    match (a, b) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_kind_comes_first_and_none_is_left_out() {
        let rsa = Algorithm::Rsa { hash: None };
        let preferred = client(&[rsa], false);
        assert_eq!(preferred.key.first(), Some(&Algorithm::Rsa { hash: Some(HashAlg::Sha512) }));
        assert_eq!(preferred.key.len(), KEYS.len());
        assert!(!preferred.key.contains(&Algorithm::Rsa { hash: None }), "SHA-1 is never on offer");
    }
}
