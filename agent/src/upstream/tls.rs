//! TLS towards a target: libpq's modes on rustls.
//!
//! * `verify-full`: a chain to a known CA and one of the target's names in it. * `verify-ca`: the chain alone.
//! * `require`: any certificate, whose key the server proves to hold. * `disable`: none.
//!
//! A certificate that stands itself in `ca_file` is trusted as such: PostgreSQL servers often have a self-signed
//! one, which path building alone would refuse as a CA's.
use std::{fmt, fs, io, net::IpAddr, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use sluice_config::{Host, Target, TlsMode, Upstream};

use crate::tls::{ALPN_POSTGRESQL, provider};

/// Where Debian, and with it most others, keep the system's CAs in one file.
const SYSTEM_CAS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why a target has no TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TargetTlsError {
    /// The file with its CAs.
    #[error("target `{target}`: failed to read CA certificates from `{path}`")]
    File {
        /// Which target.
        target: String,
        /// The configured file, or the system's.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A host name that no certificate can carry.
    #[error("target `{target}`: `{name}` is not a host name")]
    Name {
        /// Which target.
        target: String,
        /// The name.
        name: String,
    },
    /// rustls refused the settings.
    #[error("target `{target}`: TLS can't be set up")]
    Tls {
        /// Which target.
        target: String,
        /// Why not.
        source: Error,
    },
}

/// A target's TLS settings.
pub(super) struct TargetTls {
    /// `None`: no TLS with this target.
    config: Option<Arc<ClientConfig>>,
    names: Vec<ServerName<'static>>,
    networks: Vec<Host>,
}

impl TargetTls {
    pub(super) fn new(target: &Target, upstream: &Upstream) -> Result<Self, TargetTlsError> {
        let mut names = Vec::new();
        let mut networks = Vec::new();
        for host in &target.hosts {
            match host {
                Host::Name(name) => {
                    names.push(ServerName::try_from(name.clone()).map_err(|_| TargetTlsError::Name {
                        target: target.name.clone(),
                        name: name.clone(),
                    })?)
                }
                Host::Network(_) => networks.push(host.clone()),
            }
        }
        let trust = match upstream.tls {
            TlsMode::Disable => return Ok(Self { config: None, names, networks }),
            TlsMode::Require => None,
            TlsMode::VerifyCa => Some(Trust { names: None, ..roots(target, upstream)? }),
            TlsMode::VerifyFull => Some(Trust { names: Some(names.clone()), ..roots(target, upstream)? }),
        };
        let verifier = Verifier { trust, provider: provider() };
        let tls_error = |source| TargetTlsError::Tls { target: target.name.clone(), source };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // PostgreSQL gives no tickets; a cache would only cost.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Some(Arc::new(config)), names, networks })
    }

    /// Settings and name for a connection to `address`; `None` where the target has no TLS. An address that is
    /// configured as such is the name that its certificate has to carry, else one of the target's names is.
    pub(super) fn connector(&self, address: IpAddr) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let config = self.config.clone()?;
        let by_address = self.networks.iter().any(|host| match host {
            Host::Network(network) => network.contains(&address),
            Host::Name(_) => false,
        });
        let name = match self.names.first() {
            Some(name) if !by_address => name.clone(),
            _ => ServerName::IpAddress(address.into()),
        };
        Some((config, name))
    }
}

fn roots(target: &Target, upstream: &Upstream) -> Result<Trust, TargetTlsError> {
    let path = match &upstream.ca_file {
        Some(path) => path.clone(),
        None => {
            SYSTEM_CAS.iter().map(PathBuf::from).find(|p| p.exists()).unwrap_or_else(|| SYSTEM_CAS[0].into())
        }
    };
    let file_error =
        |source| TargetTlsError::File { target: target.name.clone(), path: path.clone(), source };
    let bytes = fs::read(&path).map_err(file_error)?;
    let mut anchors = RootCertStore::empty();
    let mut pinned = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate =
            certificate.map_err(|e| file_error(io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
        // The system's bundle has a few that rustls can't use; a target's own file must be good throughout.
        if let Err(error) = anchors.add(certificate.clone())
            && upstream.ca_file.is_some()
        {
            return Err(file_error(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if upstream.ca_file.is_some() {
            pinned.push(certificate);
        }
    }
    if anchors.is_empty() {
        return Err(file_error(io::Error::new(io::ErrorKind::InvalidData, "no certificate in it")));
    }
    Ok(Trust { anchors, pinned, names: None })
}

/// What a certificate has to fit.
#[derive(Debug)]
struct Trust {
    anchors: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
    /// `None`: the name does not count (`verify-ca`).
    names: Option<Vec<ServerName<'static>>>,
}

struct Verifier {
    /// `None`: any certificate (`require`).
    trust: Option<Trust>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("trust", &self.trust.is_some()).finish_non_exhaustive()
    }
}

impl Trust {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            valid_now(end_entity, now)?;
        } else {
            let algorithms = provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.anchors,
                intermediates,
                now,
                algorithms,
            )?;
        }
        let Some(names) = &self.names else { return Ok(()) };
        match verify_server_name(&parsed, dialled) {
            Ok(()) => Ok(()),
            // Several names of one target: which of them the client typed, the kernel can't tell.
            Err(error) => names.iter().find_map(|n| verify_server_name(&parsed, n).ok()).ok_or(error),
        }
    }
}

/// A pinned certificate ends like any other.
fn valid_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = || Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
    let now = i64::try_from(now.as_secs()).map_err(|_| bad())?;
    if now > parsed.validity().not_after.timestamp() {
        return Err(Error::InvalidCertificate(rustls::CertificateError::Expired));
    }
    if now < parsed.validity().not_before.timestamp() {
        return Err(Error::InvalidCertificate(rustls::CertificateError::NotValidYet));
    }
    Ok(())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            trust.verify(end_entity, intermediates, server_name, now, &self.provider)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
