//! The agent's own SSH authorities: one whose host certificates clients trust in the place of the targets', one whose
//! user certificates the targets trust.
//!
//! Both keys and the host key are made once and kept in the state directory, 0600. Host certificates are for one
//! target's names and the address that was asked for; user certificates for one account, one session and some minutes.
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, Certificate, PrivateKey};
use sluice_config::{Host, Target};

/// How long a host certificate is good for, and when the next one is made, in seconds.
const HOST_LIFETIME: u64 = 7 * 86_400;
const HOST_RENEWED_AFTER: u64 = 4 * 86_400;
/// Clocks of clients that are behind ours by less still accept a fresh one.
const HOST_BACKDATED: u64 = 86_400;
/// How far a target's clock may be off, and how long a user certificate is good for: it is used at once, and once.
const USER_BACKDATED: u64 = 5 * 60;
const USER_LIFETIME: u64 = 5 * 60;
/// Addresses of a wide network that clients asked for; then the cache starts afresh.
const MAX_CACHED: usize = 1024;
/// What the gate judges stands in the certificate, or the target would refuse it whatever the gate says. Not in it:
/// `permit-user-rc`, since nobody asks for it.
const EXTENSIONS: [&str; 4] =
    ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"];

/// Why there are no keys, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SshAuthorityError {
    /// A file.
    #[error("failed to {act} `{}`", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A key is there and is none; it is not replaced, since others trust it.
    #[error("`{}` is no private key; restore it, or remove it to have a new one", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// The parser's word.
        source: ssh_key::Error,
    },
    /// A certificate could not be made.
    #[error("failed to issue an SSH certificate for `{0}`")]
    Issue(String, #[source] ssh_key::Error),
}

/// The authorities of this host. One a process.
pub struct SshAuthority {
    host_ca: PrivateKey,
    user_ca: PrivateKey,
    host_key: PrivateKey,
    cache: Mutex<HashMap<(String, IpAddr), (Certificate, u64)>>,
}

impl SshAuthority {
    /// The keys in `dir`, made now where there are none.
    ///
    /// # Errors
    /// [`SshAuthorityError`]; a damaged key is an error and not a reason for a new one.
    pub fn open(dir: &Path) -> Result<Self, SshAuthorityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(|source| SshAuthorityError::File { act: "create", path: dir.to_owned(), source })?;
        Ok(Self {
            host_ca: key(&dir.join("ssh-host-ca.key"))?,
            user_ca: key(&dir.join("ssh-user-ca.key"))?,
            host_key: key(&dir.join("ssh-host.key"))?,
            cache: Mutex::default(),
        })
    }

    /// What Sluice shows to clients in place of a target's host key.
    pub fn host_key(&self) -> &PrivateKey {
        &self.host_key
    }

    /// After a reload: names may have changed.
    pub fn forget(&self) {
        self.cache.lock().clear();
    }

    /// A host certificate for the target's names and the address that was asked for. Kept for some days.
    ///
    /// # Errors
    /// [`SshAuthorityError::Issue`].
    pub fn host_certificate(&self, target: &Target, asked: IpAddr) -> Result<Certificate, SshAuthorityError> {
        let asked = asked.to_canonical();
        let now = now();
        let place = (target.name.clone(), asked);
        if let Some((certificate, renew)) = self.cache.lock().get(&place)
            && now < *renew
            // a clock that went back: clients would see a certificate of the future
            && now + HOST_BACKDATED > certificate.valid_after()
        {
            return Ok(certificate.clone());
        }
        let issue = || {
            let mut builder = Builder::new_with_random_nonce(
                &mut safe_rng(),
                self.host_key.public_key().clone(),
                now.saturating_sub(HOST_BACKDATED),
                now + HOST_LIFETIME,
            )?;
            builder.cert_type(CertType::Host)?.key_id(format!("sluice for {}", target.name))?;
            for name in principals(target, asked) {
                builder.valid_principal(name)?;
            }
            builder.sign(&self.host_ca)
        };
        let certificate = issue().map_err(|e| SshAuthorityError::Issue(target.name.clone(), e))?;
        let mut cache = self.cache.lock();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(place, (certificate.clone(), now + HOST_RENEWED_AFTER));
        Ok(certificate)
    }

    /// A fresh key with a certificate by which Sluice is `account` at a target for some minutes. `subject` and `session`
    /// stand in its key id, which the target logs.
    ///
    /// # Errors
    /// [`SshAuthorityError::Issue`].
    pub fn user_certificate(
        &self,
        subject: &str,
        session: &str,
        account: &str,
    ) -> Result<(Arc<PrivateKey>, Certificate), SshAuthorityError> {
        let issue = || {
            let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)?;
            let now = now();
            let mut builder = Builder::new_with_random_nonce(
                &mut safe_rng(),
                key.public_key().clone(),
                now.saturating_sub(USER_BACKDATED),
                now + USER_LIFETIME,
            )?;
            builder.cert_type(CertType::User)?.key_id(key_id(subject, session))?.valid_principal(account)?;
            for extension in EXTENSIONS {
                builder.extension(extension, "")?;
            }
            Ok((Arc::new(key), builder.sign(&self.user_ca)?))
        };
        issue().map_err(|e| SshAuthorityError::Issue(account.to_owned(), e))
    }

    /// The line for ssh_known_hosts by which clients trust Sluice in the place of these targets.
    pub fn known_hosts_line<'t>(&self, targets: impl Iterator<Item = &'t Target>) -> String {
        let mut patterns: Vec<String> = Vec::new();
        for target in targets.filter(|target| target.ssh().is_some()) {
            for (host, port) in target.hosts.iter().flat_map(|h| target.ports.iter().map(move |p| (h, p))) {
                let host = pattern(host);
                // ssh looks other ports up in this form
                let pattern = if *port == 22 { host } else { format!("[{host}]:{port}") };
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        if patterns.is_empty() {
            return String::new();
        }
        format!("@cert-authority {} {}\n", patterns.join(","), public(&self.host_ca))
    }

    /// The key for a target's TrustedUserCAKeys.
    pub fn user_ca_line(&self) -> String {
        format!("{}\n", public(&self.user_ca))
    }
}

/// Names that clients may have typed: those of the configuration, and the address that was asked for.
fn principals(target: &Target, asked: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for host in &target.hosts {
        match host {
            Host::Name(name) => names.push(name.clone()),
            Host::Network(net) if net.prefix_len() == net.max_prefix_len() => {
                names.push(net.addr().to_string())
            }
            Host::Network(_) => {}
        }
    }
    let asked = asked.to_string();
    if !names.contains(&asked) {
        names.push(asked);
    }
    names
}

/// As ssh_known_hosts has it. It knows no CIDR: a network becomes the next wider pattern, which is no more than where
/// clients look; what the certificate is for stands in the certificate.
fn pattern(host: &Host) -> String {
    match host {
        Host::Name(name) => name.clone(),
        Host::Network(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        Host::Network(net) => match net.addr() {
            IpAddr::V4(address) => {
                let whole = usize::from(net.prefix_len() / 8);
                let octets = address.octets();
                let kept: Vec<String> = octets.iter().take(whole).map(u8::to_string).collect();
                if kept.is_empty() { "*".to_owned() } else { format!("{}.*", kept.join(".")) }
            }
            IpAddr::V6(address) => {
                let whole = usize::from(net.prefix_len() / 16);
                let parts = address.segments();
                let kept: Vec<String> = parts.iter().take(whole).map(|part| format!("{part:x}")).collect();
                if kept.is_empty() { "*".to_owned() } else { format!("{}:*", kept.join(":")) }
            }
        },
    }
}

/// One line in the target's log: nothing in it may look like another line or another word of it.
fn key_id(subject: &str, session: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() || c == '"' { '_' } else { c };
    let subject: String = subject.chars().map(plain).take(200).collect();
    format!("{subject} sluice:{session}")
}

fn public(key: &PrivateKey) -> String {
    let mut public = key.public_key().clone();
    public.set_comment("sluice");
    public.to_openssh().unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn key(path: &Path) -> Result<PrivateKey, SshAuthorityError> {
    let file = |act| move |source| SshAuthorityError::File { act, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = zeroize::Zeroizing::new(bytes);
            PrivateKey::from_openssh(&*bytes)
                .map_err(|source| SshAuthorityError::Key { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)
                .and_then(|key| Ok((key.to_openssh(LineEnding::LF)?, key)));
            let (text, key) =
                made.map_err(|source| SshAuthorityError::Key { path: path.to_owned(), source })?;
            write(path, text.as_bytes()).map_err(file("write"))?;
            Ok(key)
        }
        Err(error) => Err(file("read")(error)),
    }
}

/// Whole under another name first: a crash must not leave half a key that later counts.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use russh::keys::HashAlg;
    use sluice_config::{Service, SshProof, SshTarget};

    use super::*;

    fn target(hosts: &[&str], ports: &[u16]) -> Target {
        let host = |text: &&str| text.parse().map_or_else(|_| Host::Name((*text).to_owned()), Host::Network);
        Target {
            mode: sluice_config::Mode::Egress,
            name: "app".into(),
            hosts: hosts.iter().map(host).collect(),
            ports: ports.to_vec(),
            service: Service::Ssh(SshTarget {
                host_key_files: Vec::new(),
                user: "deploy".into(),
                users: Vec::new(),
                proof: SshProof::Certificate,
                host_keys: Vec::new(),
                host_ca: Vec::new(),
                truth: sluice_config::Truth::Off,
            }),
        }
    }

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = SshAuthority::open(dir.path()).unwrap().user_ca_line();
        assert_eq!(SshAuthority::open(dir.path()).unwrap().user_ca_line(), first);
        for name in ["ssh-host-ca.key", "ssh-user-ca.key", "ssh-host.key"] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(dir.path().join("ssh-user-ca.key"), "damaged").unwrap();
        assert!(matches!(SshAuthority::open(dir.path()), Err(SshAuthorityError::Key { .. })));
    }

    #[test]
    fn a_host_certificate_is_for_the_names_and_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let authority = SshAuthority::open(dir.path()).unwrap();
        let app = target(&["app.internal", "10.0.0.5/32", "10.1.0.0/16"], &[22]);
        let certificate = authority.host_certificate(&app, "10.1.2.3".parse().unwrap()).unwrap();
        assert_eq!(certificate.valid_principals(), ["app.internal", "10.0.0.5", "10.1.2.3"]);
        assert_eq!(certificate.cert_type(), CertType::Host);
        let ca = authority.host_ca.fingerprint(HashAlg::Sha256);
        certificate.validate_at(now(), [&ca]).unwrap();
        assert!(certificate.validate_at(now() + HOST_LIFETIME + 1, [&ca]).is_err());
    }

    #[test]
    fn a_user_certificate_is_for_one_account_and_some_minutes() {
        let dir = tempfile::tempdir().unwrap();
        let authority = SshAuthority::open(dir.path()).unwrap();
        let (key, certificate) = authority.user_certificate("al ice\n", "0199", "deploy").unwrap();
        assert_eq!(certificate.key_id(), "al_ice_ sluice:0199");
        assert_eq!(certificate.valid_principals(), ["deploy"]);
        assert_eq!(certificate.public_key(), key.public_key().key_data());
        let ca = authority.user_ca.fingerprint(HashAlg::Sha256);
        certificate.validate_at(now(), [&ca]).unwrap();
        assert!(certificate.validate_at(now() + USER_LIFETIME + 60, [&ca]).is_err());
        assert!(certificate.validate_at(now(), [&authority.host_ca.fingerprint(HashAlg::Sha256)]).is_err());
    }

    #[test]
    fn the_line_for_known_hosts_names_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let authority = SshAuthority::open(dir.path()).unwrap();
        let app = target(&["app.internal", "10.1.0.0/16", "fd00:1::/32"], &[22, 2222]);
        let line = authority.known_hosts_line([&app].into_iter());
        assert!(
            line.starts_with(
                "@cert-authority app.internal,[app.internal]:2222,10.1.*,[10.1.*]:2222,fd00:1:*,[fd00:1:*]:2222 \
                 ssh-ed25519 AAAA"
            ),
            "{line}"
        );
        assert!(line.ends_with(" sluice\n"));
        assert_eq!(authority.known_hosts_line([].into_iter()), "");
    }
}
