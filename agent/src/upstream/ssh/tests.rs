//! A russh server on loopback as the target, honest and otherwise.
use std::sync::Mutex;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg};
use russh::server::{self, Auth, PublicKeyOffer, VerifiedPublicKey};
use sluice_config::{Host, Service, SshTarget};
use tokio::net::TcpListener;

use super::*;
use crate::upstream::Secret;

/// What a target lets in.
#[derive(Clone, Default)]
struct Lets {
    user_ca: Option<String>,
    key: Option<String>,
    password: Option<&'static str>,
    /// Key id and principals of the certificate that came.
    seen: Arc<Mutex<Vec<String>>>,
}

struct Server(Lets);

impl server::Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let known = self.0.key == offer.public_key.to_openssh().ok();
        Ok(if known || self.0.user_ca.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let known = self.0.key == key.public_key.to_openssh().ok();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        shown: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let ca = russh::keys::PublicKey::new(shown.signature_key().clone(), "").to_openssh().ok();
        let named = shown.valid_principals().iter().any(|name| name == user);
        self.0.seen.lock().unwrap().push(shown.key_id().to_owned());
        let wanted = self.0.user_ca.as_deref().map(|line| line.trim_end_matches(" sluice").to_owned());
        Ok(if named && ca == wanted { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if self.0.password == Some(password) { Auth::Accept } else { Auth::reject() })
    }
}

struct Place {
    address: SocketAddr,
    lets: Lets,
}

/// A server with this host key, and perhaps a certificate for it.
async fn serve(key: &PrivateKey, certificate: Option<Certificate>, lets: Lets) -> Place {
    serve_with(key, certificate, lets, russh::Preferred::default()).await
}

/// The same with these algorithms.
async fn serve_with(
    key: &PrivateKey,
    certificate: Option<Certificate>,
    lets: Lets,
    preferred: russh::Preferred,
) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key.clone()],
        certificates: certificate.into_iter().collect(),
        auth_rejection_time: Duration::ZERO,
        preferred,
        ..server::Config::default()
    });
    let served = lets.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (config, lets) = (Arc::clone(&config), served.clone());
            tokio::spawn(async move {
                if let Ok(running) = server::run_stream(config, socket, Server(lets)).await {
                    let _ = running.await;
                }
            });
        }
    });
    Place { address, lets }
}

fn new_key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), algorithm).unwrap()
}

fn line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

fn target(host_keys: &[&PrivateKey], host_ca: &[&PrivateKey]) -> Target {
    let lines = |keys: &[&PrivateKey]| keys.iter().map(|key| line(key)).collect();
    Target {
        mode: sluice_config::Mode::Egress,
        name: "app".into(),
        hosts: vec![Host::Name("app.internal".into())],
        ports: vec![22],
        service: Service::Ssh(SshTarget {
            host_key_files: Vec::new(),
            user: "deploy".into(),
            users: Vec::new(),
            proof: SshProof::Certificate,
            host_keys: lines(host_keys),
            host_ca: lines(host_ca),
            truth: sluice_config::Truth::Off,
        }),
    }
}

fn certificate(ca: &PrivateKey, key: &PrivateKey, kind: CertType, name: &str) -> Certificate {
    certificate_for(ca, key, kind, name, -60..60)
}

/// Valid in these seconds from now; for everybody where the name is empty.
fn certificate_for(
    ca: &PrivateKey,
    key: &PrivateKey,
    kind: CertType,
    name: &str,
    valid: std::ops::Range<i64>,
) -> Certificate {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let [from, until] = [valid.start, valid.end].map(|at| now.checked_add_signed(at).unwrap());
    let mut builder =
        Builder::new_with_random_nonce(&mut safe_rng(), key.public_key().clone(), from, until).unwrap();
    builder.cert_type(kind).unwrap().key_id("x").unwrap();
    match name {
        "" => builder.all_principals_valid().unwrap(),
        name => builder.valid_principal(name).unwrap(),
    };
    builder.sign(ca).unwrap()
}

/// The word for what came of it, and whether it was an alarm.
async fn kind(target: &Target, place: &Place, proof: Proof, known: &Arc<KnownHosts>) -> (&'static str, bool) {
    let expected = Expected::new(target, place.address, Arc::clone(known), &[]).unwrap();
    let at = super::Place { address: place.address, account: "deploy" };
    match open(at, proof, expected, None).await {
        Ok(_) => ("ok", false),
        Err(error) => {
            assert!(!error.detail().contains('\u{1b}') && !error.hint().is_empty());
            (error.kind(), error.is_alarm())
        }
    }
}

fn password(word: &str) -> Proof {
    Proof::Password(Arc::new(Secret::new(word.as_bytes().to_vec())))
}

fn lets_password() -> Lets {
    Lets { password: Some("s3cret"), ..Lets::default() }
}

fn known_hosts() -> (tempfile::TempDir, Arc<KnownHosts>) {
    let dir = tempfile::tempdir().unwrap();
    let known = Arc::new(KnownHosts::open(dir.path()).unwrap());
    (dir, known)
}

#[tokio::test]
async fn a_credential_is_taken_or_refused_in_its_own_words() {
    let (dir, known) = known_hosts();
    let host = new_key(Algorithm::Ed25519);
    let app = target(&[&host], &[]);
    let authority = SshAuthority::open(dir.path()).unwrap();
    let lets = Lets { user_ca: Some(authority.user_ca_line().trim_end().to_owned()), ..Lets::default() };
    let place = serve(&host, None, lets).await;
    let proof = |account: &str| {
        let (key, certificate) = authority.user_certificate("alice", "0199", account).unwrap();
        Proof::Certificate(key, Box::new(certificate))
    };
    assert_eq!(kind(&app, &place, proof("deploy"), &known).await.0, "ok");
    assert_eq!(kind(&app, &place, proof("root"), &known).await.0, "credential");
    assert_eq!(place.lets.seen.lock().unwrap().first().unwrap(), "alice sluice:0199");

    let own = new_key(Algorithm::Ed25519);
    let place = serve(&host, None, Lets { key: Some(line(&own)), ..Lets::default() }).await;
    let secret = |key: &PrivateKey| Secret::new(key.to_openssh(LineEnding::LF).unwrap().as_bytes().to_vec());
    let stored = private_key(&secret(&own)).unwrap();
    assert_eq!(kind(&app, &place, Proof::Key(stored), &known).await.0, "ok");
    let other = Proof::Key(Arc::new(new_key(Algorithm::Ed25519)));
    assert_eq!(kind(&app, &place, other, &known).await.0, "credential");
    assert!(matches!(private_key(&Secret::new(b"no key".to_vec())), Err(SshError::BadKey(_))));
    let locked = own.encrypt(&mut safe_rng(), "pass").unwrap();
    assert!(
        matches!(private_key(&secret(&locked)), Err(SshError::BadKey(why)) if why.contains("passphrase"))
    );

    let place = serve(&host, None, lets_password()).await;
    assert_eq!(kind(&app, &place, password("s3cret"), &known).await.0, "ok");
    assert_eq!(kind(&app, &place, password("wrong"), &known).await.0, "credential");
}

#[tokio::test]
async fn a_host_key_is_the_configured_one_or_nothing_is_sent() {
    let (_dir, known) = known_hosts();
    let (host, other) = (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
    let ecdsa = new_key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    let place = serve(&host, None, lets_password()).await;
    let ask = async |target: &Target| kind(target, &place, password("s3cret"), &known).await;
    assert_eq!(ask(&target(&[&host], &[])).await, ("ok", false));
    assert_eq!(ask(&target(&[&other, &host], &[])).await, ("ok", false));
    assert_eq!(ask(&target(&[&other], &[])).await, ("host_key_unknown", true));
    assert_eq!(ask(&target(&[&ecdsa], &[])).await, ("host_key_unknown", true));
    assert_eq!(ask(&target(&[], &[&other])).await, ("host_key_unknown", true));
    assert_eq!(known.kind("app", place.address), None, "a configured key is not remembered");
}

#[tokio::test]
async fn a_host_certificate_is_for_the_target_and_of_a_known_ca() {
    let (_dir, known) = known_hosts();
    let (ca, host) = (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
    let app = target(&[], &[&ca]);
    for (signer, what, name, expected) in [
        (&ca, CertType::Host, "app.internal", "ok"),
        (&ca, CertType::Host, "127.0.0.1", "ok"),
        (&ca, CertType::Host, "other.internal", "host_key_unknown"),
        (&ca, CertType::User, "app.internal", "host_key_unknown"),
        (&host, CertType::Host, "app.internal", "host_key_unknown"),
    ] {
        let shown = certificate(signer, &host, what, name);
        let place = serve(&host, Some(shown), lets_password()).await;
        assert_eq!(kind(&app, &place, password("s3cret"), &known).await.0, expected, "{name}");
    }
    // the very key that is listed is good with a certificate of somebody else's around it
    let shown = certificate(&host, &host, CertType::Host, "app.internal");
    let place = serve(&host, Some(shown), lets_password()).await;
    assert_eq!(kind(&target(&[&host], &[&ca]), &place, password("s3cret"), &known).await.0, "ok");
}

#[tokio::test]
async fn c10_a_host_certificate_that_is_over_or_for_everybody_is_none() {
    let (_dir, known) = known_hosts();
    let (ca, host) = (new_key(Algorithm::Ed25519), new_key(Algorithm::Ed25519));
    let app = target(&[], &[&ca]);
    for (name, valid, expected) in [
        ("app.internal", -60..60, "ok"),
        ("app.internal", -120..-60, "host_key_unknown"),
        ("app.internal", 600..1200, "host_key_unknown"),
        ("", -60..60, "host_key_unknown"),
        ("*", -60..60, "host_key_unknown"),
    ] {
        let shown = certificate_for(&ca, &host, CertType::Host, name, valid.clone());
        let place = serve(&host, Some(shown), lets_password()).await;
        assert_eq!(kind(&app, &place, password("s3cret"), &known).await.0, expected, "{name} {valid:?}");
    }
}

#[tokio::test]
async fn c10_a_target_without_strict_key_exchange_is_open_to_terrapin_unless_it_has_gcm() {
    use russh::{cipher, kex, mac};
    let (_dir, known) = known_hosts();
    let host = new_key(Algorithm::Ed25519);
    let app = target(&[&host], &[]);
    let strict = vec![kex::CURVE25519, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER];
    let lax = vec![kex::CURVE25519];
    for (kex, cipher, mac, expected) in [
        (&lax, cipher::CHACHA20_POLY1305, mac::HMAC_SHA256, "terrapin"),
        (&lax, cipher::AES_256_CTR, mac::HMAC_SHA256_ETM, "terrapin"),
        (&lax, cipher::AES_256_CTR, mac::HMAC_SHA256, "ok"),
        (&lax, cipher::AES_256_GCM, mac::HMAC_SHA256_ETM, "ok"),
        (&strict, cipher::CHACHA20_POLY1305, mac::HMAC_SHA256, "ok"),
        (&strict, cipher::AES_256_CTR, mac::HMAC_SHA256_ETM, "ok"),
        (&strict, cipher::AES_256_CBC, mac::HMAC_SHA256, "algorithms"),
        (&strict, cipher::AES_256_CTR, mac::HMAC_SHA1, "algorithms"),
        (&vec![kex::DH_G1_SHA1], cipher::AES_256_GCM, mac::HMAC_SHA256, "algorithms"),
    ] {
        let preferred = russh::Preferred {
            kex: kex.clone().into(),
            cipher: vec![cipher].into(),
            mac: vec![mac].into(),
            ..russh::Preferred::default()
        };
        let place = serve_with(&host, None, lets_password(), preferred).await;
        let found = kind(&app, &place, password("s3cret"), &known).await.0;
        assert_eq!(found, expected, "{kex:?} {cipher:?} {mac:?}");
    }
}

#[tokio::test]
async fn the_first_key_is_remembered_and_another_is_an_alarm() {
    let (_dir, known) = known_hosts();
    let app = target(&[], &[]);
    let host = new_key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    let place = serve(&host, None, lets_password()).await;
    assert_eq!(kind(&app, &place, password("s3cret"), &known).await.0, "ok");
    assert_eq!(kind(&app, &place, password("s3cret"), &known).await.0, "ok");
    // the same place with another key: of the same kind, and of one that we would like better
    for algorithm in [Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }, Algorithm::Ed25519] {
        let false_host = new_key(algorithm);
        let error = {
            let expected = Expected::new(&app, place.address, Arc::clone(&known), &[]).unwrap();
            expected.check(&false_host.public_key().clone().into()).unwrap_err()
        };
        assert!(error.is_alarm());
        let seen = false_host.fingerprint(HashAlg::Sha256).to_string();
        assert!(error.detail().contains(&seen), "{}", error.detail());
    }
}

#[tokio::test]
async fn nobody_listens_or_speaks_something_else() {
    let (_dir, known) = known_hosts();
    let app = target(&[], &[]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let place = Place { address: closed, lets: Lets::default() };
    assert_eq!(kind(&app, &place, password("x"), &known).await.0, "unreachable");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place { address: listener.local_addr().unwrap(), lets: Lets::default() };
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    assert_eq!(kind(&app, &place, password("x"), &known).await.0, "closed");
}
