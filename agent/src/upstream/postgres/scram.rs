//! Which SASL mechanism is used, and the channel that it is bound to (RFC 5802, RFC 5929).
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, signature_algorithm::SignatureAlgorithm};

use crate::{tls::Stream, upstream::UpstreamError};

/// The mechanism of ours among those `offered`, with what binds it to this connection.
///
/// Over TLS `-PLUS` is taken when it is offered. When it is not, the exchange says that we could have used it
/// (`y`): a server that did offer it and sees this knows that somebody has cut the list, and refuses.
pub(super) fn choose(
    offered: &[&str],
    stream: &Stream,
) -> Result<(&'static str, ChannelBinding), UpstreamError> {
    let binding = endpoint(stream);
    let plus = offered.contains(&SCRAM_SHA_256_PLUS);
    let plain = offered.contains(&SCRAM_SHA_256);
    match binding {
        Some(binding) if plus => Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))),
        Some(_) if plain => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if plain => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(UpstreamError::Method("SASL without SCRAM-SHA-256".to_owned())),
    }
}

/// `tls-server-end-point`: the digest of the server's certificate; `None` without TLS, or where RFC 5929 has none
/// for the certificate's signature (Ed25519).
fn endpoint(stream: &Stream) -> Option<Vec<u8>> {
    let Stream::Tls(tls) = stream else { return None };
    let certificate = tls.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let digest = digest::digest(algorithm(&parsed)?, certificate);
    Some(digest.as_ref().to_vec())
}

/// The digest of the certificate's own signature, SHA-256 where that one is MD5 or SHA-1 (RFC 5929, 4.1).
fn algorithm(certificate: &X509Certificate<'_>) -> Option<&'static Algorithm> {
    let oid = match SignatureAlgorithm::try_from(&certificate.signature_algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => parameters.hash_algorithm_oid().to_id_string(),
        _ => certificate.signature_algorithm.algorithm.to_id_string(),
    };
    match oid.as_str() {
        // md5, sha1, sha256 by themselves (RSASSA-PSS) and with RSA and ECDSA
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&SHA256),
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => Some(&SHA256),
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => Some(&SHA256),
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&SHA384),
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&SHA512),
        _ => None,
    }
}
