//! Is it the target that answers? Its host key against the configuration, or against the one that was seen first.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey, PublicKeyOrCertificate};
use sluice_config::{Host, Target};

use super::SshError;
use crate::ssh::{KnownHosts, Remembered};

/// What the host key has to fit.
pub(super) struct Expected {
    name: String,
    address: SocketAddr,
    /// Names and addresses, one of which a certificate has to carry.
    principals: Vec<String>,
    keys: Vec<PublicKey>,
    authorities: Vec<PublicKey>,
    known: Arc<KnownHosts>,
}

impl Expected {
    pub(super) fn new(
        target: &Target,
        address: SocketAddr,
        known: Arc<KnownHosts>,
        own: &[PrivateKey],
    ) -> Result<Self, SshError> {
        let ssh = target.ssh().ok_or(SshError::Unconfigured)?;
        let read = |lines: &[String]| {
            let keys = lines.iter().map(|line| PublicKey::from_openssh(line));
            // the configuration has looked at them; what ssh-key does not take can't be compared with
            keys.collect::<Result<Vec<_>, _>>().map_err(|_| SshError::Unconfigured)
        };
        let mut principals = vec![address.ip().to_canonical().to_string()];
        for host in &target.hosts {
            if let Host::Name(name) = host {
                principals.push(name.clone());
            }
        }
        let mut keys = read(&ssh.host_keys)?;
        // a service of this host whose keys Sluice shows in its place: no other is it
        keys.extend(own.iter().map(|key| key.public_key().clone()));
        Ok(Self {
            name: target.name.clone(),
            address,
            principals,
            keys,
            authorities: read(&ssh.host_ca)?,
            known,
        })
    }

    /// Kinds of keys that the target is known by.
    pub(super) fn kinds(&self) -> Vec<Algorithm> {
        let configured = self.keys.iter().map(PublicKey::algorithm);
        configured.chain(self.known.kind(&self.name, self.address).filter(|_| !self.configured())).collect()
    }

    /// Host certificates are worth asking for.
    pub(super) fn wants_certificates(&self) -> bool {
        !self.authorities.is_empty()
    }

    fn configured(&self) -> bool {
        !self.keys.is_empty() || !self.authorities.is_empty()
    }

    /// Judges what the target shows.
    ///
    /// # Errors
    /// It is not known to be the target: nothing may be sent there.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), SshError> {
        let key = shown.public_key();
        let is_listed = self.keys.iter().any(|known| known.key_data() == key.key_data());
        let certificate = match shown {
            PublicKeyOrCertificate::Certificate(certificate) => {
                let judged = self.certified(certificate);
                if judged.is_ok() {
                    return Ok(());
                }
                judged.err()
            }
            PublicKeyOrCertificate::PublicKey { .. } => None,
        };
        // a certificate that is none may still be around a key that is listed by itself
        if is_listed {
            return Ok(());
        }
        if self.configured() {
            return Err(SshError::HostKeyUnknown { seen: words(&key), certificate });
        }
        match self.known.check(&self.name, self.address, &key).map_err(SshError::Unremembered)? {
            Remembered::Same => Ok(()),
            Remembered::First => {
                tracing::warn!(
                    target = self.name,
                    address = %self.address,
                    key = words(&key),
                    "the host key of a target was seen for the first time and is trusted from now on"
                );
                Ok(())
            }
            Remembered::Other(known) => {
                let known = PublicKey::from_openssh(&known).map_or(known, |key| words(&key));
                Err(SshError::HostKeyChanged { known, seen: words(&key) })
            }
        }
    }

    fn certified(&self, certificate: &Certificate) -> Result<(), String> {
        if certificate.cert_type() != CertType::Host {
            return Err("it is no host certificate".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let authorities: Vec<_> =
            self.authorities.iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
        certificate.validate_at(now, &authorities).map_err(|error| error.to_string())?;
        // one without names would be good for every host
        let is_ours = |name: &String| self.principals.iter().any(|own| own.eq_ignore_ascii_case(name));
        if !certificate.valid_principals().iter().any(is_ours) {
            return Err(format!("it is for {}", certificate.valid_principals().join(", ")));
        }
        if !certificate.critical_options().is_empty() {
            return Err("it has critical options, and a host certificate knows none".to_owned());
        }
        Ok(())
    }
}

/// Kind and fingerprint, as `ssh-keygen -l` shows them.
fn words(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}
