//! Who is asking: credentials in, [`Verified`] principals out.
//!
//! Enters: tokens, confirmed device codes, returned authorization codes, the kernel's word on a process. Leaves:
//! [`Login`]. Must hold: nobody outside this room can make a [`Verified`]; a provider that is away opens nothing.
//!
//! Revocation at the provider is noticed when a login is taken again, not in between: the provider is not asked
//! about a login that runs (docs/limits.md).

mod bindings;
mod browser;
mod device;
mod keys;
mod pk;
mod provider;
mod token;

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluice_api::common;
use sluice_policy::Principal;

pub use bindings::{Bindings, BoundLogin, KernelSession, Unbindable};
pub use browser::BrowserGrant;
pub use device::DeviceGrant;
pub use pk::PkError;
pub use provider::ProviderError;
pub use token::TokenError;

use crate::upstream::Secret;

/// Something that was proven, not claimed. Made in this room alone.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    value: T,
    /// When the provider last saw a second factor, seconds since 1970.
    factor_s: Option<i64>,
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
impl<T> Verified<T> {
    /// Without any proof.
    pub(crate) fn for_test(value: T) -> Self {
        Self { value, factor_s: None }
    }

    /// With a second factor of that time.
    pub(crate) fn with_factor_for_test(value: T, at_s: i64) -> Self {
        Self { value, factor_s: Some(at_s) }
    }
}

impl Verified<Principal> {
    /// The principal without the proof: for records and comparisons.
    pub fn to_owned_principal(&self) -> Principal {
        self.value.clone()
    }

    /// When the provider last saw a second factor of this person, by the token's own words: seconds since 1970.
    pub fn second_factor_s(&self) -> Option<i64> {
        self.factor_s
    }
}

/// A person who has proven who he is, and for how long that holds.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub principal: Verified<Principal>,
    /// Until when.
    pub expires_at: SystemTime,
    /// How: `device`, `browser`, `token`, `certificate`.
    pub how: &'static str,
}

/// Why nobody has logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The provider can't be reached or answers nonsense.
    #[error("the identity provider could not be asked")]
    Provider(#[from] ProviderError),
    /// What it gave is no proof.
    #[error("the identity provider's token was not accepted")]
    Token(#[from] TokenError),
    /// An SSH certificate's token is not bound to its key.
    #[error("the certificate's token was not accepted")]
    Certificate(#[from] PkError),
    /// The person said no.
    #[error("the login was refused at the identity provider")]
    Denied,
    /// The person said nothing in time.
    #[error("the login was not confirmed in time")]
    Expired,
    /// The browser came back with another login's state.
    #[error("the answer belongs to another login")]
    State,
}

/// The company's provider, as configured.
pub struct Identity {
    provider: Arc<provider::Provider>,
    settings: sluice_config::Identity,
}

impl Identity {
    /// Of the configuration; does not ask the provider yet. `secret` for a confidential client.
    ///
    /// # Errors
    /// In words, where the CA file can't be read or the TLS client can't be made.
    pub fn new(
        settings: &sluice_config::Identity,
        secret: Option<Arc<Secret>>,
    ) -> Result<Self, ProviderError> {
        let provider = Arc::new(provider::Provider::new(settings, secret)?);
        Ok(Self { provider, settings: settings.clone() })
    }

    /// Accepts a token of the provider, or says why not.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn verify_token(&self, token: &str) -> Result<Login, LoginError> {
        let accepted = self.accept(token, None).await?;
        // a token that was handed over is good as long as it says, and not for a login's lifetime
        let expires_at = accepted.expires_at.min(SystemTime::now() + self.settings.login_lifetime);
        Ok(Login { principal: accepted.verified(), expires_at, how: "token" })
    }

    /// Accepts a PK token (opkssh) of whoever has proven that he holds `key`, or says why not.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn verify_pk_token(
        &self,
        compact: &str,
        key: &russh::keys::PublicKey,
    ) -> Result<Login, LoginError> {
        let bound = pk::bound(compact, key)?;
        let accepted = self.accept(&bound.id_token, Some(&bound.nonce)).await?;
        let expires_at = accepted.expires_at.min(SystemTime::now() + self.settings.login_lifetime);
        Ok(Login { principal: accepted.verified(), expires_at, how: "certificate" })
    }

    /// Whether tokens in SSH certificates are taken at all.
    pub fn takes_pk_tokens(&self) -> bool {
        self.settings.openpubkey
    }

    /// Begins a login by device code (RFC 8628).
    ///
    /// # Errors
    /// The provider can't be asked, or does not offer it.
    pub async fn start_device(self: &Arc<Self>) -> Result<DeviceGrant, ProviderError> {
        device::start(Arc::clone(self)).await
    }

    /// Begins a login by browser (authorization code with PKCE, RFC 7636); `redirect_uri` is where the CLI listens.
    ///
    /// # Errors
    /// The provider can't be asked, or the redirect does not lead to loopback.
    pub async fn start_browser(self: &Arc<Self>, redirect_uri: &str) -> Result<BrowserGrant, ProviderError> {
        browser::start(Arc::clone(self), redirect_uri).await
    }

    /// Asks the provider for its metadata and keys: for `sluice status`.
    ///
    /// # Errors
    /// It can't be reached.
    pub async fn check(&self) -> Result<(), ProviderError> {
        self.provider.metadata().await.map(|_| ())
    }

    /// The issuer, for messages.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// An ID token that the provider has just given to us for this person: a login of its own lifetime begins.
    async fn logged_in(
        &self,
        id_token: &str,
        nonce: Option<&str>,
        how: &'static str,
    ) -> Result<Login, LoginError> {
        let accepted = self.accept(id_token, nonce).await?;
        let expires_at = SystemTime::now() + self.settings.login_lifetime;
        Ok(Login { principal: accepted.verified(), expires_at, how })
    }

    async fn accept(&self, token: &str, nonce: Option<&str>) -> Result<token::Accepted, LoginError> {
        let header = token::header(token, &self.settings)?;
        let keys = self.provider.keys_for(&header).await?;
        Ok(token::accept(token, &header, &keys, &self.settings, nonce)?)
    }
}

/// Time-outs towards the provider, in one place.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(10);

/// The principal as it stands in messages, recordings and events.
pub fn message(principal: &Principal) -> common::Principal {
    common::Principal {
        subject: principal.subject.clone(),
        issuer: principal.issuer.clone(),
        name: principal.name.clone(),
        email: principal.email.clone(),
        groups: principal.groups.clone(),
        service: principal.service,
    }
}
