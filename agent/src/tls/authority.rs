//! The agent's own CA, for the client leg.
//!
//! A client that asks for TLS gets a certificate for the name it asked for, signed by a CA that exists on this
//! host alone. `ca.pem` is what people give to `sslrootcert`. The CA may sign for the configured targets' names
//! and addresses and for nothing else (RFC 5280 name constraints), so that trusting it does not mean trusting
//! this host for the whole internet.
//!
//! The key is made once. When the configuration gains a target, the certificate is issued anew with the same key
//! and subject: copies of the old `ca.pem` go on serving the targets that they were made for.
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData as _, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{names::Names, provider};

/// How long a leaf is good for, and when the next one is made.
const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const LEAF_RENEWED_AFTER: Duration = Duration::from_secs(4 * 24 * 3600);
/// Clocks of clients that are behind ours by less than this still accept a fresh leaf.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A CA that ends within this is issued anew at the next start.
const CA_RENEWED_BEFORE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Addresses of a wide network that clients asked for; then the cache starts afresh.
const MAX_CACHED: usize = 1024;
/// The one application protocol that the client leg of PostgreSQL speaks (RFC 7301, IANA's registry).
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// Why the agent has no CA, or no certificate for a target.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the CA.
    #[error("failed to {act} `{path}`")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The CA's key is there and is not a key; it is not replaced, since clients trust it.
    #[error("`{path}` is not a P-256 private key; restore it, or remove the directory to make a new CA")]
    Key {
        /// The key file.
        path: PathBuf,
        /// The parser's word.
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("failed to issue a certificate for `{target}`")]
    Issue {
        /// For which target, or the CA itself.
        target: String,
        /// The signer's word.
        source: rcgen::Error,
    },
    /// rustls refused what was made.
    #[error("failed to set up TLS for `{target}`")]
    Tls {
        /// For which target.
        target: String,
        /// Why not.
        source: rustls::Error,
    },
}

/// The agent's CA with the TLS settings that it has already signed for.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: Mutex<CaCertificate>,
    cache: Mutex<HashMap<(String, Option<IpAddr>), Cached>>,
}

struct CaCertificate {
    pem: String,
    covers: Names,
}

struct Cached {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Authority {
    /// The CA in `dir`, made now if there is none: `ca.key` (0600) and `ca.pem` (0644). `targets` are the names
    /// that it may sign for.
    ///
    /// # Errors
    /// [`AuthorityError`]; a damaged key is an error and not a reason for a new CA.
    pub fn open(dir: &Path, targets: &[Names]) -> Result<Self, AuthorityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(|source| file_error("create", dir, source))?;
        let key = load_or_make_key(&dir.join("ca.key"))?;
        let issuer = Issuer::new(ca_params(&key), key);
        let path = dir.join("ca.pem");
        let kept = fs::read_to_string(&path).ok().and_then(|pem| read_certificate(pem, &issuer));
        let authority = Self {
            dir: dir.to_owned(),
            issuer,
            certificate: Mutex::new(
                kept.unwrap_or(CaCertificate { pem: String::new(), covers: Names::default() }),
            ),
            cache: Mutex::default(),
        };
        authority.cover(targets)?;
        Ok(authority)
    }

    /// After a reload: widens the CA's certificate when `targets` have names that it may not sign for yet, and
    /// forgets the leaves. `true` when `ca.pem` is a new one.
    ///
    /// # Errors
    /// [`AuthorityError`]; the CA stays as it was.
    pub fn cover(&self, targets: &[Names]) -> Result<bool, AuthorityError> {
        self.cache.lock().clear();
        let mut certificate = self.certificate.lock();
        if !certificate.pem.is_empty() && targets.iter().all(|names| certificate.covers.includes(names)) {
            return Ok(false);
        }
        let mut covers = certificate.covers.clone();
        targets.iter().for_each(|names| covers.add(names));
        let mut params = ca_params(self.issuer.key());
        params.name_constraints = Some(constraints(&covers));
        let issued = params
            .self_signed(self.issuer.key())
            .map_err(|source| AuthorityError::Issue { target: "the CA".to_owned(), source })?;
        let pem = issued.pem();
        write_file(&self.dir.join("ca.pem"), pem.as_bytes(), 0o644)?;
        *certificate = CaCertificate { pem, covers };
        Ok(true)
    }

    /// The CA's certificate, as `ca.pem` has it.
    pub fn certificate_pem(&self) -> String {
        self.certificate.lock().pem.clone()
    }

    /// TLS settings for a client of the target `names` that connected to the address `asked`. Made once per
    /// target (and per address, where the target is a network) and kept for four days.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`], [`AuthorityError::Tls`].
    pub fn server_config(&self, names: &Names, asked: IpAddr) -> Result<Arc<ServerConfig>, AuthorityError> {
        let asked = names.has_network_of(asked).then_some(asked.to_canonical());
        let key = (names.target.clone(), asked);
        let now = SystemTime::now();
        if let Some(cached) = self.cache.lock().get(&key)
            && now < cached.renew_at
            // A clock that went back by more than the backdating: clients would see a certificate of the future.
            && cached.renew_at < now + LEAF_RENEWED_AFTER + BACKDATED
        {
            return Ok(cached.config.clone());
        }
        let config = Arc::new(self.issue(names, asked, now)?);
        let mut cache = self.cache.lock();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, Cached { config: config.clone(), renew_at: now + LEAF_RENEWED_AFTER });
        Ok(config)
    }

    fn issue(
        &self,
        names: &Names,
        asked: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<ServerConfig, AuthorityError> {
        let issue_error = |source| AuthorityError::Issue { target: names.target.clone(), source };
        let mut params = CertificateParams::default();
        // With blanks, so that no client takes it for a host name; the names stand in subjectAltName alone.
        params.distinguished_name.push(DnType::CommonName, format!("Sluice for {}", names.target));
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFETIME).into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in &names.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(issue_error)?));
        }
        let addresses = names.single_addresses().chain(asked);
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(issue_error)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(issue_error)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls_error = |source| AuthorityError::Tls { target: names.target.clone(), source };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(tls_error)?;
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        Ok(config)
    }
}

/// The CA's own certificate, but for the names. The subject comes from the key, so that it can be written again.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    let short = hex::encode(digest.as_ref().get(..4).unwrap_or_default());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Sluice");
    params.distinguished_name.push(DnType::CommonName, format!("Sluice host CA {short}"));
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + CA_LIFETIME).into();
    // Leaves only: no CA below this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Permits what `covers` has. A kind of name without any entry gets one that nobody has: a kind that is not
/// mentioned would be unconstrained.
fn constraints(covers: &Names) -> NameConstraints {
    let mut permitted: Vec<GeneralSubtree> =
        covers.dns.iter().cloned().map(GeneralSubtree::DnsName).collect();
    if permitted.is_empty() {
        permitted.push(GeneralSubtree::DnsName("sluice.invalid".to_owned()));
    }
    let mut excluded = Vec::new();
    if covers.networks.is_empty() {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    permitted.extend(
        covers.networks.iter().map(|&(address, prefix)| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, prefix))
        }),
    );
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

/// What a kept `ca.pem` may sign for; `None` when it is not ours, ends soon, or can't be read: then it is issued
/// anew.
fn read_certificate(pem: String, issuer: &Issuer<'static, KeyPair>) -> Option<CaCertificate> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = block.parse_x509().ok()?;
    let expected = issuer.key().subject_public_key_info();
    let ends = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let renew_at = SystemTime::UNIX_EPOCH + Duration::from_secs(ends).checked_sub(CA_RENEWED_BEFORE)?;
    if certificate.public_key().raw != expected.as_slice() || SystemTime::now() >= renew_at {
        return None;
    }
    let covers = Names::from_constraints(certificate.name_constraints().ok()??.value);
    Some(CaCertificate { pem, covers })
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(pem) => {
            let pem = zeroize::Zeroizing::new(pem);
            KeyPair::from_pem(&pem).map_err(|source| AuthorityError::Key { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|source| AuthorityError::Issue { target: "the CA".to_owned(), source })?;
            write_file(path, zeroize::Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
            Ok(key)
        }
        Err(source) => Err(file_error("read", path, source)),
    }
}

/// Whole or not at all: written beside `path`, synced, renamed.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let beside = path.with_extension("new");
    let write = || {
        // A rest of an earlier try may have another mode.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        // The mode of open(2) is cut by the umask; that of ca.pem is meant for everybody.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| file_error("write", path, source))
}

fn file_error(act: &'static str, path: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File { act, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
    use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

    use super::*;

    fn names(target: &str, dns: &[&str], networks: &[&str]) -> Names {
        let network = |text: &&str| {
            let (address, prefix) = text.split_once('/').unwrap();
            (address.parse().unwrap(), prefix.parse().unwrap())
        };
        Names {
            target: target.to_owned(),
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            networks: networks.iter().map(network).collect(),
        }
    }

    fn handshake(ca_pem: &str, server: Arc<ServerConfig>, name: &str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn clients_accept_the_targets_names_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let shop = names("shop", &["db.internal"], &["10.0.0.5/32", "10.1.0.0/16"]);
        let ca = Authority::open(dir.path(), std::slice::from_ref(&shop)).unwrap();
        let pem = ca.certificate_pem();
        let asked: IpAddr = "10.1.2.3".parse().unwrap();
        for name in ["db.internal", "10.0.0.5", "10.1.2.3"] {
            handshake(&pem, ca.server_config(&shop, asked).unwrap(), name).unwrap();
        }
        for name in ["10.1.2.4", "other.internal"] {
            handshake(&pem, ca.server_config(&shop, asked).unwrap(), name).unwrap_err();
        }
        // Also a leaf that this host would sign for somebody else's name is worth nothing.
        for (evil, name) in [
            (names("evil", &["bank.example"], &[]), "bank.example"),
            (names("evil", &[], &["192.0.2.1/32"]), "192.0.2.1"),
            (names("evil", &[], &["2001:db8::1/128"]), "2001:db8::1"),
        ] {
            handshake(&pem, ca.server_config(&evil, asked).unwrap(), name).unwrap_err();
        }
    }

    #[test]
    fn the_ca_survives_a_restart_and_widens_under_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let shop = names("shop", &["db.internal"], &[]);
        let crm = names("crm", &["crm.internal"], &["2001:db8::/32"]);
        let asked: IpAddr = "2001:db8::7".parse().unwrap();
        let first = Authority::open(dir.path(), std::slice::from_ref(&shop)).unwrap().certificate_pem();
        let ca = Authority::open(dir.path(), std::slice::from_ref(&shop)).unwrap();
        assert_eq!(ca.certificate_pem(), first);
        assert!(ca.cover(&[shop.clone(), crm.clone()]).unwrap());
        assert!(!ca.cover(&[shop.clone(), crm.clone()]).unwrap());
        let second = fs::read_to_string(dir.path().join("ca.pem")).unwrap();
        assert_ne!(first, second);
        handshake(&first, ca.server_config(&shop, asked).unwrap(), "db.internal").unwrap();
        handshake(&first, ca.server_config(&crm, asked).unwrap(), "crm.internal").unwrap_err();
        handshake(&second, ca.server_config(&crm, asked).unwrap(), "crm.internal").unwrap();
        handshake(&second, ca.server_config(&crm, asked).unwrap(), "2001:db8::7").unwrap();
        let again = Authority::open(dir.path(), &[shop, crm]).unwrap();
        assert_eq!(again.certificate_pem(), second);
    }

    #[test]
    fn the_key_is_for_its_owner_alone_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(Authority::open(dir.path(), &[]).unwrap());
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));
        fs::write(dir.path().join("ca.key"), "rubbish").unwrap();
        assert!(matches!(Authority::open(dir.path(), &[]), Err(AuthorityError::Key { .. })));
    }

    #[test]
    fn settings_are_made_once_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let shop = names("shop", &["db.internal"], &["10.1.0.0/16"]);
        let ca = Authority::open(dir.path(), std::slice::from_ref(&shop)).unwrap();
        let config = |asked: &str| ca.server_config(&shop, asked.parse().unwrap()).unwrap();
        assert!(Arc::ptr_eq(&config("192.0.2.1"), &config("192.0.2.2")));
        assert!(Arc::ptr_eq(&config("10.1.0.1"), &config("::ffff:10.1.0.1")));
        assert!(!Arc::ptr_eq(&config("10.1.0.1"), &config("10.1.0.2")));
    }
}
