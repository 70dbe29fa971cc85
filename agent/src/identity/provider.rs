//! The provider over HTTP: discovery (OpenID Connect Discovery 1.0), keys, the token endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::keys::Keys;
use super::token::{Header, TokenError};
use super::{CONNECT, LoginError, TOTAL};
use crate::upstream::Secret;

/// No answer of a provider is longer.
const MAX_ANSWER: usize = 1 << 20;
/// Metadata is asked for again after this.
const METADATA_AGE: Duration = Duration::from_secs(3600);
/// The system's trust store on Debian and its relatives, then on Red Hat's.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Why the provider did not help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// No connection, no answer in time.
    #[error("the identity provider {issuer} could not be reached: {why}")]
    Unreachable {
        /// Its issuer.
        issuer: String,
        /// What went wrong, without secrets.
        why: String,
    },
    /// It answers what the standard does not have.
    #[error("the identity provider {issuer} answered what it should not: {why}")]
    Answer {
        /// Its issuer.
        issuer: String,
        /// What was wrong.
        why: String,
    },
    /// It does not offer this kind of login.
    #[error("the identity provider {issuer} does not offer {what}")]
    NotOffered {
        /// Its issuer.
        issuer: String,
        /// Which kind.
        what: &'static str,
    },
    /// A file or setting of ours.
    #[error("{0}")]
    Setting(String),
}

/// What discovery says and we use.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
    pub(super) token_endpoint: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
}

/// An error of the token endpoint (RFC 6749, section 5.2).
#[derive(Debug, Deserialize)]
pub(super) struct OAuthError {
    pub(super) error: String,
}

/// A success of the token endpoint.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: Option<String>,
}

/// What a form came back with.
pub(super) enum Answer<T> {
    Ok(T),
    Refused(OAuthError),
}

pub(super) struct Provider {
    http: reqwest::Client,
    issuer: String,
    client_id: String,
    secret: Option<Arc<Secret>>,
    metadata: Mutex<Option<(Instant, Arc<Metadata>)>>,
    keys: Keys,
}

impl Provider {
    pub(super) fn new(
        settings: &sluice_config::Identity,
        secret: Option<Arc<Secret>>,
    ) -> Result<Self, ProviderError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(settings)?)
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            // a redirect would take a code or a secret to a place that nobody has configured
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("sluiced/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ProviderError::Setting(format!("the HTTP client could not be made: {e}")))?;
        Ok(Self {
            http,
            issuer: settings.issuer.clone(),
            client_id: settings.client_id.clone(),
            secret,
            metadata: Mutex::default(),
            keys: Keys::new(settings.keys_max_age),
        })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let mut kept = self.metadata.lock().await;
        if let Some((at, metadata)) = kept.as_ref()
            && at.elapsed() < METADATA_AGE
        {
            return Ok(Arc::clone(metadata));
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.get(&url).await?;
        // Discovery, section 4.3: exactly the issuer that was asked
        if metadata.issuer != self.issuer {
            return Err(self.answer(format!("its metadata names the issuer {:?}", metadata.issuer)));
        }
        let metadata = Arc::new(metadata);
        *kept = Some((Instant::now(), Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// The keys that may have made a token with this header.
    pub(super) async fn keys_for(&self, header: &Header) -> Result<Vec<Jwk>, LoginError> {
        let fetch = || async {
            let metadata = self.metadata().await?;
            let set: JwkSet = self.get(&metadata.jwks_uri).await?;
            Ok(set.keys)
        };
        let keys = self.keys.find(header.key_id.as_deref(), fetch).await?;
        if keys.is_empty() { Err(TokenError::UnknownKey.into()) } else { Ok(keys) }
    }

    /// POSTs a form as this client (RFC 6749, section 2.3.1).
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Answer<T>, ProviderError> {
        let mut fields: Vec<(&str, &str)> = form.to_vec();
        fields.push(("client_id", &self.client_id));
        let mut request = self.http.post(url);
        if let Some(secret) = &self.secret {
            let secret = std::str::from_utf8(secret.expose())
                .map_err(|_| ProviderError::Setting("the client secret is no text".into()))?;
            request = request.basic_auth(&self.client_id, Some(secret));
        }
        let response = request.form(&fields).send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let body = self.body(response).await?;
        if status.is_success() {
            return self.parse(&body).map(Answer::Ok);
        }
        if status.is_client_error()
            && let Ok(refused) = serde_json::from_slice::<OAuthError>(&body)
        {
            return Ok(Answer::Refused(refused));
        }
        Err(self.answer(format!("HTTP status {}", status.as_u16())))
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ProviderError> {
        let response = self.http.get(url).send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.answer(format!("HTTP status {} for {url}", status.as_u16())));
        }
        let body = self.body(response).await?;
        self.parse(&body)
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, ProviderError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(self.answer(format!("more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ProviderError> {
        serde_json::from_slice(body).map_err(|e| self.answer(format!("no JSON as expected ({e})")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ProviderError {
        // reqwest hides the cause behind its own sentence; the URL may carry a code and is left out
        let mut why = if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            why = cause.to_string();
            source = cause.source();
        }
        if why.is_empty() {
            "the request failed".clone_into(&mut why);
        }
        ProviderError::Unreachable { issuer: self.issuer.clone(), why }
    }

    pub(super) fn answer(&self, why: String) -> ProviderError {
        ProviderError::Answer { issuer: self.issuer.clone(), why }
    }

    pub(super) fn not_offered(&self, what: &'static str) -> ProviderError {
        ProviderError::NotOffered { issuer: self.issuer.clone(), what }
    }
}

fn tls(settings: &sluice_config::Identity) -> Result<rustls::ClientConfig, ProviderError> {
    let mut roots = rustls::RootCertStore::empty();
    let mut read = |path: &std::path::Path| -> Result<(), ProviderError> {
        let fault = |e: String| ProviderError::Setting(format!("reading {} failed: {e}", path.display()));
        let pem = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            // a store has odd certificates here and there; those that can't be roots are none
            let _ = roots.add(certificate.map_err(|e| fault(e.to_string()))?);
        }
        Ok(())
    };
    if let Some(system) = SYSTEM_ROOTS.iter().map(std::path::Path::new).find(|p| p.exists()) {
        read(system)?;
    }
    if let Some(own) = &settings.ca_file {
        read(own)?;
    }
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| ProviderError::Setting(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
