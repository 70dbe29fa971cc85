//! What is offered, best first.
//!
//! Post-quantum key exchange where the other side has it; AES-GCM before all else, since every machine that serves has
//! it in hardware; strict key exchange on both legs, and without it nothing that CVE-2023-48795 concerns; no compression.
use std::borrow::Cow;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Names, Preferred, cipher, compression, kex, mac};

use super::offer::Offer;

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
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_128_CTR,
];
/// What no missing packet goes unnoticed with, strict key exchange or not, and each with a MAC of its own.
const GCM: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM];
/// The same with a MAC over the plain text.
const COUNTER: &[cipher::Name] = &[cipher::AES_256_CTR, cipher::AES_128_CTR];
const WITHOUT_GCM: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];
const PLAIN_MACS: &[mac::Name] = &[mac::HMAC_SHA512, mac::HMAC_SHA256];
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

/// Towards a client that offers this; our host key is Ed25519. Whoever has AES-GCM is served by that alone, since most
/// clients would choose something slower, and a connection by it can't be cut unseen. Of the rest, ChaCha20-Poly1305 and
/// MACs over the ciphertext are for those with strict key exchange.
///
/// # Errors
/// In words for the client: without strict key exchange there is nothing that it could be served by.
pub fn server(offer: &Offer) -> Result<Preferred, String> {
    let (cipher, mac) = match (knows(&offer.ciphers, GCM), offer.strict) {
        (true, _) => (GCM, MACS),
        (false, true) => (WITHOUT_GCM, MACS),
        (false, false) => (COUNTER, PLAIN_MACS),
    };
    let counter = knows(&offer.ciphers, COUNTER);
    let plain = counter && offer.macs.iter().all(|macs| knows(macs, PLAIN_MACS));
    let open = offer.ciphers.iter().any(|name| name == cipher::CHACHA20_POLY1305.as_ref())
        || (counter && offer.macs.iter().any(|macs| knows(macs, MACS)));
    // others have nothing in common with us at all, which key exchange says in its own words
    if cipher == COUNTER && !plain && open {
        return Err(format!(
            "this client lacks strict key exchange, without which connections by ChaCha20-Poly1305 or MACs over the \
             ciphertext can be cut unseen (CVE-2023-48795): update it, or have it use {} or {} with {}",
            cipher::AES_256_GCM.as_ref(),
            cipher::AES_256_CTR.as_ref(),
            mac::HMAC_SHA256.as_ref(),
        ));
    }
    Ok(Preferred { cipher: Cow::Borrowed(cipher), mac: Cow::Borrowed(mac), ..all() })
}

fn knows<N: AsRef<str>>(offered: &[String], ours: &[N]) -> bool {
    ours.iter().any(|name| offered.iter().any(|offered| offered == name.as_ref()))
}

fn all() -> Preferred {
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
    Preferred { key: Cow::Owned(keys), host_key_certificates: Cow::Borrowed(certified), ..all() }
}

/// Without strict key exchange somebody in between can take packets out of the beginning unseen, where the cipher is
/// ChaCha20-Poly1305 or the MAC is over the ciphertext (CVE-2023-48795). AES-GCM is not concerned.
///
/// # Errors
/// What was chosen, in words.
pub fn check_strict(names: &Names) -> Result<(), String> {
    if names.strict_kex() || GCM.contains(&names.cipher) {
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

    fn offer(strict: bool, ciphers: &str, macs: &str) -> Offer {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Offer { strict, ciphers: list(ciphers), macs: [list(macs), list(macs)] }
    }

    #[test]
    fn without_strict_key_exchange_nothing_is_offered_that_can_be_cut() {
        let (chacha, etm) = (cipher::CHACHA20_POLY1305, mac::HMAC_SHA256_ETM);
        let strict = server(&offer(true, chacha.as_ref(), etm.as_ref())).unwrap();
        assert!(strict.cipher.contains(&chacha) && strict.mac.contains(&etm));
        for (ciphers, macs) in [
            (chacha.as_ref(), "hmac-sha2-256"),
            (chacha.as_ref(), etm.as_ref()),
            ("aes256-ctr", etm.as_ref()),
        ] {
            let said = server(&offer(false, ciphers, macs)).unwrap_err();
            assert!(said.contains("CVE-2023-48795"), "{said}");
        }
        for ciphers in ["aes256-ctr", "chacha20-poly1305@openssh.com aes128-ctr", "none of ours"] {
            let preferred =
                server(&offer(false, ciphers, "hmac-sha2-512 hmac-sha2-256-etm@openssh.com")).unwrap();
            assert_eq!(
                (preferred.cipher.as_ref(), preferred.mac.as_ref()),
                (COUNTER, PLAIN_MACS),
                "{ciphers}"
            );
        }
        assert_eq!(
            server(&Offer::default()).unwrap().cipher.as_ref(),
            COUNTER,
            "nobody could read its offer"
        );
    }

    #[test]
    fn whoever_has_gcm_is_served_by_it() {
        for strict in [true, false] {
            let most = "chacha20-poly1305@openssh.com aes128-ctr aes128-gcm@openssh.com";
            let preferred = server(&offer(strict, most, "hmac-sha2-256-etm@openssh.com")).unwrap();
            assert_eq!(preferred.cipher.as_ref(), GCM);
        }
    }
}
