//! JSON Web Tokens (RFC 7519, RFC 8725): what is checked, and what becomes of the claims.

use std::time::{Duration, SystemTime};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use sluice_policy::Principal;

use super::Verified;

/// No honest token is longer.
const MAX_TOKEN: usize = 16 << 10;
/// No honest claim that becomes a name is longer.
const MAX_NAME: usize = 256;
/// More groups than this is a provider's mistake.
const MAX_GROUPS: usize = 1000;

/// Why a token is no proof.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not three parts of base64url JSON, or too long.
    #[error("it is no JSON Web Token")]
    Malformed,
    /// Its algorithm is not on the list.
    #[error("its signature algorithm is not accepted here")]
    Algorithm,
    /// No key of the provider has made it.
    #[error("no key of the provider fits it")]
    UnknownKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("it is another issuer's")]
    Issuer,
    /// For somebody else.
    #[error("it is made out to another audience")]
    Audience,
    /// Over.
    #[error("it has expired")]
    Expired,
    /// Not begun.
    #[error("it is not valid yet")]
    NotYet,
    /// Another login's.
    #[error("it belongs to another login")]
    Nonce,
    /// A claim is missing or is not what it should be.
    #[error("its claim `{0}` is missing or malformed")]
    Claim(&'static str),
}

/// A token that holds.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) principal: Principal,
    pub(super) expires_at: SystemTime,
    factor_s: Option<i64>,
}

impl Accepted {
    /// The person whom it proves.
    pub(super) fn verified(self) -> Verified<Principal> {
        Verified { value: self.principal, factor_s: self.factor_s }
    }
}

/// What the token says of its own signature; nothing of it is believed beyond the choice of a key.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

/// Reads the header and holds its algorithm against the configured list.
pub(super) fn header(token: &str, settings: &sluice_config::Identity) -> Result<Header, TokenError> {
    if token.len() > MAX_TOKEN || token.bytes().filter(|b| *b == b'.').count() != 2 {
        return Err(TokenError::Malformed);
    }
    // jsonwebtoken knows no `none`: such a header does not parse, and the answer to it is the honest one
    let header = jsonwebtoken::decode_header(token).map_err(|e| match e.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) | jsonwebtoken::errors::ErrorKind::InvalidAlgorithmName => {
            TokenError::Algorithm
        }
        _ => TokenError::Malformed,
    })?;
    if !settings.algorithms.iter().any(|a| a.name() == format!("{:?}", header.alg)) {
        return Err(TokenError::Algorithm);
    }
    Ok(Header { algorithm: header.alg, key_id: header.kid })
}

/// A key may make signatures of this algorithm: its type decides, never the token.
pub(super) fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let signs = key.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let named = key.common.key_algorithm.is_none_or(|a| format!("{a:?}") == format!("{algorithm:?}"));
    let shaped = match (&key.algorithm, algorithm) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => true,
        (AlgorithmParameters::EllipticCurve(p), Algorithm::ES256) => p.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(p), Algorithm::ES384) => p.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(p), Algorithm::EdDSA) => p.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    signs && named && shaped
}

/// Checks signature and claims against the keys that may have made it.
pub(super) fn accept(
    token: &str,
    header: &Header,
    keys: &[Jwk],
    settings: &sluice_config::Identity,
    nonce: Option<&str>,
) -> Result<Accepted, TokenError> {
    let mut validation = Validation::new(header.algorithm);
    validation.leeway = settings.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&settings.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let mut last = TokenError::UnknownKey;
    for key in keys.iter().filter(|k| fits(k, header.algorithm)) {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(data) => return principal(&data.claims, settings, nonce),
            Err(error) => last = reason(error.kind()),
        }
        // only a wrong signature makes another key worth a try
        if last != TokenError::Signature {
            break;
        }
    }
    Err(last)
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> TokenError {
    use jsonwebtoken::errors::ErrorKind as Kind;
    match kind {
        Kind::InvalidSignature => TokenError::Signature,
        Kind::ExpiredSignature => TokenError::Expired,
        Kind::ImmatureSignature => TokenError::NotYet,
        Kind::InvalidIssuer => TokenError::Issuer,
        Kind::InvalidAudience => TokenError::Audience,
        Kind::InvalidSubject => TokenError::Claim("sub"),
        Kind::InvalidAlgorithm => TokenError::Algorithm,
        Kind::MissingRequiredClaim(name) => TokenError::Claim(match name.as_str() {
            "exp" => "exp",
            "iss" => "iss",
            "aud" => "aud",
            _ => "sub",
        }),
        _ => TokenError::Malformed,
    }
}

fn principal(
    claims: &Map<String, Value>,
    settings: &sluice_config::Identity,
    nonce: Option<&str>,
) -> Result<Accepted, TokenError> {
    if nonce.is_some() && claims.get("nonce").and_then(Value::as_str) != nonce {
        return Err(TokenError::Nonce);
    }
    let subject = text(claims, "sub")?.filter(|s| !s.is_empty()).ok_or(TokenError::Claim("sub"))?;
    let several = matches!(claims.get("aud"), Some(Value::Array(list)) if list.len() > 1);
    let azp = text(claims, "azp")?;
    // OpenID Connect Core, section 3.1.3.7: with several audiences the authorized party must be one of ours
    if several
        && azp.as_ref().is_none_or(|azp| !settings.audiences.contains(azp) && *azp != settings.client_id)
    {
        return Err(TokenError::Audience);
    }
    let client = text(claims, "client_id")?.or(azp);
    let name = text(claims, &settings.name_claim)?;
    // client credentials (RFC 9068, section 2.2): the subject is the client itself
    let service = client.as_ref().is_some_and(|client| *client == subject);
    let email = text(claims, "email")?.unwrap_or_default();
    let shown = name.or(text(claims, "name")?).filter(|n| !n.is_empty());
    let fallback = if email.is_empty() { subject.clone() } else { email.clone() };
    let exp = claims.get("exp").and_then(seconds).ok_or(TokenError::Claim("exp"))?;
    if let Some(issued) = claims.get("iat") {
        let issued = seconds(issued).ok_or(TokenError::Claim("iat"))?;
        if issued > now_s().saturating_add(settings.leeway.as_secs()) {
            return Err(TokenError::NotYet);
        }
    }
    Ok(Accepted {
        principal: Principal {
            issuer: settings.issuer.clone(),
            subject,
            name: shown.unwrap_or(fallback),
            email,
            groups: groups(claims.get(&settings.groups_claim))?,
            service,
        },
        expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(exp),
        factor_s: second_factor(claims, settings),
    })
}

/// When a second factor was seen: `auth_time`, where `amr` (RFC 8176) or a configured `acr` says that there was one. A
/// token that does not say when is none that says it was lately.
fn second_factor(claims: &Map<String, Value>, settings: &sluice_config::Identity) -> Option<i64> {
    const KNOWN: [&str; 3] = ["pwd", "pin", "kba"];
    const HAD: [&str; 11] = ["otp", "hwk", "swk", "sms", "tel", "sc", "pop", "fpt", "face", "iris", "retina"];
    let listed = claims.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let methods: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    let any = |of: &[&str]| methods.iter().any(|method| of.contains(method));
    let acr = claims.get("acr").and_then(Value::as_str);
    let seen = methods.contains(&"mfa")
        || any(&KNOWN) && any(&HAD)
        || acr.is_some_and(|acr| settings.mfa_acr.iter().any(|known| known == acr));
    let at = claims.get("auth_time").and_then(seconds).filter(|_| seen)?;
    let future = at > now_s().saturating_add(settings.leeway.as_secs());
    i64::try_from(at).ok().filter(|_| !future)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// NumericDate may have a fraction (RFC 7519, section 2).
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|f| f.is_finite() && *f >= 0.0).map(|f| f as u64))
}

/// A text that may be shown and compared: no control characters, not endless.
fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if s.len() <= MAX_NAME && !s.chars().any(char::is_control) => {
            Ok(Some(s.clone()))
        }
        Some(_) => Err(TokenError::Claim(match name {
            "sub" => "sub",
            "email" => "email",
            "azp" => "azp",
            "client_id" => "client_id",
            _ => "name",
        })),
    }
}

/// An array of texts, or one text with spaces or commas between the names.
fn groups(value: Option<&Value>) -> Result<Vec<String>, TokenError> {
    let fault = TokenError::Claim("groups");
    let names: Vec<String> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(list)) => {
            list.split([' ', ',']).filter(|g| !g.is_empty()).map(str::to_owned).collect()
        }
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|g| g.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(TokenError::Claim("groups"))?
        }
        Some(_) => return Err(fault),
    };
    let odd = |g: &String| g.is_empty() || g.len() > MAX_NAME || g.chars().any(char::is_control);
    if names.len() > MAX_GROUPS || names.iter().any(odd) { Err(fault) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    use jsonwebtoken::{EncodingKey, Header as JwtHeader, encode};
    use proptest::prelude::*;
    use serde_json::json;

    const ISSUER: &str = "https://id.example.com";

    struct Key {
        pair: rcgen::KeyPair,
        jwk: Jwk,
    }

    fn key(id: &str) -> Key {
        let pair = rcgen::KeyPair::generate().unwrap();
        let point = pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": id, "x": B64.encode(x), "y": B64.encode(y), "use": "sig"});
        Key { pair, jwk: serde_json::from_value(jwk).unwrap() }
    }

    fn settings() -> sluice_config::Identity {
        sluice_config::Identity {
            issuer: ISSUER.into(),
            client_id: "sluice".into(),
            client_secret_file: None,
            audiences: vec!["sluice".into()],
            algorithms: vec![sluice_config::Algorithm::Rs256, sluice_config::Algorithm::Es256],
            groups_claim: "groups".into(),
            name_claim: "preferred_username".into(),
            scopes: Vec::new(),
            ca_file: None,
            leeway: Duration::from_secs(30),
            keys_max_age: Duration::from_secs(60),
            login_lifetime: Duration::from_secs(60),
            openpubkey: false,
            mfa_acr: vec!["urn:company:two".into()],
        }
    }

    fn claims() -> Value {
        json!({"iss": ISSUER, "aud": "sluice", "sub": "u1", "preferred_username": "alice",
               "email": "alice@example.com", "groups": ["dba"], "exp": now_s() + 600, "iat": now_s()})
    }

    fn sign(key: &Key, claims: &Value) -> String {
        let mut header = JwtHeader::new(Algorithm::ES256);
        header.kid = Some("k1".into());
        encode(&header, claims, &EncodingKey::from_ec_pem(key.pair.serialize_pem().as_bytes()).unwrap())
            .unwrap()
    }

    fn verdict(token: &str, keys: &[Jwk]) -> Result<Principal, TokenError> {
        let settings = settings();
        let header = header(token, &settings)?;
        accept(token, &header, keys, &settings, None).map(|a| a.principal)
    }

    fn with(changes: Value) -> Value {
        let mut all = claims();
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    }

    #[test]
    fn a_good_token_names_its_person() {
        let key = key("k1");
        let principal = verdict(&sign(&key, &claims()), std::slice::from_ref(&key.jwk)).unwrap();
        assert_eq!((principal.subject.as_str(), principal.name.as_str()), ("u1", "alice"));
        assert_eq!(principal.groups, ["dba"]);
        assert!(!principal.service);
        let machine = with(json!({"sub": "ci", "client_id": "ci", "groups": "a b,c"}));
        let principal = verdict(&sign(&key, &machine), std::slice::from_ref(&key.jwk)).unwrap();
        assert!(principal.service);
        assert_eq!(principal.groups, ["a", "b", "c"]);
    }

    #[test]
    fn a_second_factor_is_one_that_the_token_dates() {
        let key = key("k1");
        let at = |changes: Value| {
            let token = sign(&key, &with(changes));
            let settings = settings();
            let header = header(&token, &settings).unwrap();
            accept(&token, &header, std::slice::from_ref(&key.jwk), &settings, None).unwrap().factor_s
        };
        let now = now_s();
        let then = Some(i64::try_from(now).unwrap());
        assert_eq!(at(json!({"amr": ["mfa"], "auth_time": now})), then);
        assert_eq!(at(json!({"amr": ["pwd", "otp"], "auth_time": now})), then);
        assert_eq!(at(json!({"acr": "urn:company:two", "auth_time": now})), then);
        for changes in [
            json!({"auth_time": now}),
            json!({"amr": ["pwd"], "auth_time": now}),
            json!({"amr": ["otp"], "auth_time": now}),
            json!({"amr": "mfa", "auth_time": now}),
            json!({"amr": ["mfa"]}),
            json!({"amr": ["mfa"], "auth_time": now + 600}),
            json!({"acr": "urn:company:one", "auth_time": now}),
        ] {
            assert_eq!(at(changes.clone()), None, "{changes}");
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = key("k1");
        let keys = [good.jwk.clone()];
        let past = now_s() - 600;
        for (changes, fault) in [
            (json!({"exp": past}), TokenError::Expired),
            (json!({"nbf": now_s() + 600}), TokenError::NotYet),
            (json!({"iat": now_s() + 600}), TokenError::NotYet),
            (json!({"iss": "https://evil.example.com"}), TokenError::Issuer),
            (json!({"aud": "other"}), TokenError::Audience),
            (json!({"aud": ["sluice", "other"]}), TokenError::Audience),
            (json!({"sub": ""}), TokenError::Claim("sub")),
            (json!({"sub": "a\u{1b}[2J"}), TokenError::Claim("sub")),
            (json!({"groups": 7}), TokenError::Claim("groups")),
        ] {
            assert_eq!(verdict(&sign(&good, &with(changes.clone())), &keys).unwrap_err(), fault, "{changes}");
        }
        let foreign = key("k1");
        assert_eq!(verdict(&sign(&foreign, &claims()), &keys).unwrap_err(), TokenError::Signature);
        assert_eq!(verdict(&sign(&good, &claims()), &[]).unwrap_err(), TokenError::UnknownKey);
    }

    #[test]
    fn algorithms_come_from_the_configuration() {
        let good = key("k1");
        let keys = [good.jwk.clone()];
        let part = |v: Value| B64.encode(v.to_string());
        let none = format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(claims()));
        assert_eq!(verdict(&none, &keys).unwrap_err(), TokenError::Algorithm);
        // HS256 with the public key as its secret: the classic confusion
        let public = good.pair.public_key_pem();
        let mut header = JwtHeader::new(Algorithm::HS256);
        header.kid = Some("k1".into());
        let confused = encode(&header, &claims(), &EncodingKey::from_secret(public.as_bytes())).unwrap();
        assert_eq!(verdict(&confused, &keys).unwrap_err(), TokenError::Algorithm);
        // a key of another type than the header's algorithm
        let lying = sign(&good, &claims())
            .split_once('.')
            .map(|(_, rest)| format!("{}.{rest}", part(json!({"alg": "RS256", "kid": "k1"}))));
        assert_eq!(verdict(&lying.unwrap(), &keys).unwrap_err(), TokenError::UnknownKey);
    }

    proptest! {
        #[test]
        fn no_text_panics(token in "\\PC{0,120}") {
            prop_assert!(verdict(&token, &[]).is_err());
        }

        #[test]
        fn no_changed_token_is_accepted(at in 0_usize..400, bit in 0_u8..6) {
            let key = key("k1");
            let mut token = sign(&key, &claims()).into_bytes();
            let at = at % token.len();
            let before = token[at];
            token[at] ^= 1 << bit;
            // the last character of base64 has bits that mean nothing
            prop_assume!(token[at].is_ascii() && at + 1 < token.len() && token[at] != before);
            let token = String::from_utf8(token).unwrap();
            prop_assert!(verdict(&token, std::slice::from_ref(&key.jwk)).is_err(), "{token}");
        }
    }
}
