//! PK tokens (OpenPubkey; opkssh puts them into SSH certificates): an ID token that is bound to a public key.
//!
//! Enters: the compact token and the key whose possession SSH has proven. Leaves: the ID token with the nonce that it must
//! have. The binding: the ID token's `nonce` is the SHA3-256 of the client instance claims, which name the key (`upk`), and
//! that key has signed the ID token's payload under those claims. A token without the key, or with the key of somebody
//! else, is therefore worth nothing. Signature, issuer, audience and end of the ID token are checked as of any other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use russh::keys::PublicKey;
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use serde_json::{Map, Value};
use sha3::{Digest as _, Sha3_256};

/// No honest one is longer: two signatures and a payload with groups.
const MAX_TOKEN: usize = 32 << 10;

/// Why a PK token is no proof.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PkError {
    /// Not a payload and two signatures.
    #[error("the certificate carries no PK token")]
    Malformed,
    /// Guillou-Quisquater, which hides the provider's signature.
    #[error(
        "its PK token is GQ-signed, which is not accepted here: take the provider's own signature (RS256, ES256)"
    )]
    Gq,
    /// Neither the provider's nor the client's.
    #[error("its PK token carries a signature of a kind that is not accepted here")]
    Signer,
    /// The claims of the client lack something or contradict themselves.
    #[error("the client instance claims of its PK token are incomplete or contradict themselves")]
    Claims,
    /// Somebody else's certificate around it.
    #[error("its PK token is bound to another key than the certificate's")]
    Key,
    /// The client's signature is wrong.
    #[error("the client's signature in its PK token is wrong")]
    Signature,
}

/// An ID token whose holder is whoever holds the certificate's key, if it has this nonce.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) id_token: String,
    pub(super) nonce: String,
}

/// The parts of a signature's protected header that matter here.
struct Signed<'t> {
    protected: &'t str,
    header: Map<String, Value>,
    signature: &'t str,
}

impl Signed<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }
}

/// Takes a compact PK token apart and holds it against the key. A refreshed ID token behind it is not looked at: it is
/// bound to nothing.
pub(super) fn bound(compact: &str, key: &PublicKey) -> Result<Bound, PkError> {
    let tokens = compact.split('.').next().unwrap_or_default();
    if compact.len() > MAX_TOKEN {
        return Err(PkError::Malformed);
    }
    let parts: Vec<&str> = tokens.split(':').collect();
    let [payload, first_header, first, second_header, second] = parts.as_slice() else {
        return Err(PkError::Malformed);
    };
    let (mut provider, mut client) = (None, None);
    for (protected, signature) in [(first_header, first), (second_header, second)] {
        let signed = signed(protected, signature)?;
        let place = match signed.text("typ") {
            None | Some("JWT") => &mut provider,
            Some("CIC") => &mut client,
            Some(_) => return Err(PkError::Signer),
        };
        if place.replace(signed).is_some() {
            return Err(PkError::Malformed);
        }
    }
    let (Some(provider), Some(client)) = (provider, client) else { return Err(PkError::Malformed) };
    if provider.text("alg") == Some("GQ256") {
        return Err(PkError::Gq);
    }
    signed_by_key(&client, payload, key)?;
    Ok(Bound {
        id_token: format!("{}.{payload}.{}", provider.protected, provider.signature),
        nonce: commitment(client.header),
    })
}

fn signed<'t>(protected: &'t str, signature: &'t str) -> Result<Signed<'t>, PkError> {
    let json = B64.decode(protected).map_err(|_| PkError::Malformed)?;
    let header = serde_json::from_slice(&json).map_err(|_| PkError::Malformed)?;
    Ok(Signed { protected, header, signature })
}

/// The claims name the certificate's key, and that key has signed the payload under them.
fn signed_by_key(client: &Signed<'_>, payload: &str, key: &PublicKey) -> Result<(), PkError> {
    let upk = client.header.get("upk").and_then(Value::as_object).ok_or(PkError::Claims)?;
    let named = client.text("alg").filter(|alg| upk.get("alg").and_then(Value::as_str) == Some(alg));
    // without a random value the claims of a key could be guessed, and the nonce with them
    if client.text("rz").is_none_or(str::is_empty) {
        return Err(PkError::Claims);
    }
    let algorithm = match named {
        Some("ES256") => Algorithm::ES256,
        Some("EdDSA") => Algorithm::EdDSA,
        _ => return Err(PkError::Claims),
    };
    if !is_key(upk, key) {
        return Err(PkError::Key);
    }
    let jwk: Jwk = serde_json::from_value(Value::Object(upk.clone())).map_err(|_| PkError::Claims)?;
    if !super::token::fits(&jwk, algorithm) {
        return Err(PkError::Claims);
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| PkError::Claims)?;
    let message = format!("{}.{payload}", client.protected);
    match jsonwebtoken::crypto::verify(client.signature, message.as_bytes(), &key, algorithm) {
        Ok(true) => Ok(()),
        _ => Err(PkError::Signature),
    }
}

/// The same key, point for point. Of the kinds that opkssh makes.
fn is_key(upk: &Map<String, Value>, key: &PublicKey) -> bool {
    let text = |name: &str| upk.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = |name: &str| B64.decode(text(name)).unwrap_or_default();
    match key.key_data() {
        KeyData::Ed25519(own) => {
            text("kty") == "OKP" && text("crv") == "Ed25519" && bytes("x") == own.as_ref()
        }
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(own)) => {
            let point = [vec![0x04], bytes("x"), bytes("y")].concat();
            text("kty") == "EC" && text("crv") == "P-256" && point == own.as_bytes()
        }
        _ => false,
    }
}

/// What the nonce commits to: the claims as Go's encoding/json writes a map, which is sorted by name.
fn commitment(claims: Map<String, Value>) -> String {
    let mut json = String::new();
    canonical(&Value::Object(claims), &mut json);
    B64.encode(Sha3_256::digest(json.as_bytes()))
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (at, (name, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(&Value::String(name.clone()), out);
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        Value::String(_) => {
            // it escapes what HTML would take for its own
            for c in value.to_string().chars() {
                match c {
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                        out.push_str(&format!("\\u{:04x}", u32::from(c)));
                    }
                    c => out.push(c),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    struct Key {
        pair: rcgen::KeyPair,
        public: PublicKey,
        upk: Value,
    }

    fn key() -> Key {
        let pair = rcgen::KeyPair::generate().unwrap();
        let point = pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        let upk =
            json!({"alg": "ES256", "crv": "P-256", "kty": "EC", "x": B64.encode(x), "y": B64.encode(y)});
        let public = EcdsaPublicKey::from_sec1_bytes(point).unwrap();
        Key { pair, public: PublicKey::from(KeyData::Ecdsa(public)), upk }
    }

    fn claims(key: &Key) -> Value {
        json!({"typ": "CIC", "alg": "ES256", "upk": key.upk, "rz": "5f3a"})
    }

    fn part(value: &Value) -> String {
        B64.encode(value.to_string())
    }

    /// `claims`, signed by `signer` over a payload with `nonce`; the provider's signature is not this room's to check.
    fn compact(claims: &Value, signer: &Key, nonce: &str) -> String {
        let payload = part(&json!({"sub": "u1", "nonce": nonce}));
        let protected = part(claims);
        let pem = signer.pair.serialize_pem();
        let pem = jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        let message = format!("{protected}.{payload}");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &pem, Algorithm::ES256).unwrap();
        let provider = part(&json!({"alg": "RS256", "kid": "k", "typ": "JWT"}));
        format!("{payload}:{provider}:c2ln:{protected}:{signature}")
    }

    #[test]
    fn a_token_of_the_key_gives_its_id_token_and_the_nonce_that_it_must_have() {
        let key = key();
        let token = compact(&claims(&key), &key, "n");
        let bound = bound(&token, &key.public).unwrap();
        let parts: Vec<_> = bound.id_token.split('.').collect();
        assert_eq!((parts.len(), parts[2]), (3, "c2ln"));
        // whatever order the claims were written in
        let written = format!(
            r#"{{"alg":"ES256","rz":"5f3a","typ":"CIC","upk":{{"alg":"ES256","crv":"P-256","kty":"EC","x":{},"y":{}}}}}"#,
            key.upk["x"], key.upk["y"]
        );
        assert_eq!(bound.nonce, B64.encode(Sha3_256::digest(written.as_bytes())));
        assert_eq!(super::bound(&format!("{token}.a.b.c"), &key.public).unwrap().nonce, bound.nonce);
    }

    #[test]
    fn what_is_hashed_is_what_go_writes() {
        let mut out = String::new();
        canonical(&json!({"b": ["<&>", 1, null], "a": {"d": true, "c": "\u{2028}\"\n"}}), &mut out);
        assert_eq!(out, r#"{"a":{"c":"\u2028\"\n","d":true},"b":["\u003c\u0026\u003e",1,null]}"#);
    }

    #[test]
    fn each_fault_has_its_name() {
        let (own, other) = (key(), key());
        let fault = |token: &str| bound(token, &own.public).unwrap_err();
        // stolen: the certificate of another key around it
        assert_eq!(fault(&compact(&claims(&other), &other, "n")), PkError::Key);
        // claims that name our key, signed by another
        assert_eq!(fault(&compact(&claims(&own), &other, "n")), PkError::Signature);
        let good = compact(&claims(&own), &own, "n");
        let (_, rest) = good.split_once(':').unwrap();
        let payload = part(&json!({"sub": "admin", "nonce": "n"}));
        assert_eq!(fault(&format!("{payload}:{rest}")), PkError::Signature);
        let gq = part(&json!({"alg": "GQ256", "typ": "JWT"}));
        let provider = part(&json!({"alg": "RS256", "kid": "k", "typ": "JWT"}));
        assert_eq!(fault(&good.replace(&provider, &gq)), PkError::Gq);
        let cosigned = part(&json!({"alg": "RS256", "typ": "COS"}));
        assert_eq!(fault(&good.replace(&provider, &cosigned)), PkError::Signer);
        for (name, value) in
            [("rz", json!(null)), ("alg", json!("RS256")), ("alg", json!("none")), ("upk", json!("x"))]
        {
            let mut claims = claims(&own);
            claims[name] = value;
            assert_eq!(fault(&compact(&claims, &own, "n")), PkError::Claims, "{name}");
        }
        for token in ["", "a", "a:b:c", "a:b:c:d", ":::::", "a:b:c:d:e:f:g"] {
            assert_eq!(fault(token), PkError::Malformed, "{token}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(token in "\\PC{0,40}(:\\PC{0,20}){0,5}") {
            prop_assert!(bound(&token, &key().public).is_err());
        }

        #[test]
        fn no_changed_client_signature_or_claim_holds(at in 0_usize..2000, bit in 0_u8..6) {
            let key = key();
            let token = compact(&claims(&key), &key, "n");
            prop_assert!(bound(&token, &key.public).is_ok());
            let own = token.rfind(":").unwrap();
            let from = token[..own].rfind(":").unwrap() + 1;
            let at = from + at % (token.len() - from);
            let mut changed = token.clone().into_bytes();
            changed[at] ^= 1 << bit;
            // the last characters of base64 have bits that mean nothing
            prop_assume!(changed[at].is_ascii() && at + 1 != own && at + 1 < token.len());
            let changed = String::from_utf8(changed).unwrap();
            prop_assert!(bound(&changed, &key.public).is_err(), "{changed}");
        }
    }
}
