//! The authorization code grant with PKCE (RFC 7636, RFC 8252): the CLI listens on loopback, this side holds the
//! verifier, so that the code alone is worth nothing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::provider::{Answer, ProviderError, Tokens};
use super::{Identity, Login, LoginError};

/// A login that waits for the browser to come back.
pub struct BrowserGrant {
    identity: Arc<Identity>,
    redirect_uri: String,
    verifier: String,
    nonce: String,
    state: String,
    /// Where the browser goes.
    pub url: String,
    /// How long the CLI waits.
    pub expires_in: Duration,
}

pub(super) async fn start(
    identity: Arc<Identity>,
    redirect_uri: &str,
) -> Result<BrowserGrant, ProviderError> {
    let provider = &identity.provider;
    let redirect = Url::parse(redirect_uri).ok();
    // RFC 8252, section 7.3: the code goes to this machine or nowhere
    let loopback = redirect.as_ref().is_some_and(|url| {
        url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
    });
    if !loopback {
        return Err(ProviderError::Setting("a browser login comes back to loopback alone".into()));
    }
    let metadata = provider.metadata().await?;
    let endpoint = metadata
        .authorization_endpoint
        .as_deref()
        .ok_or_else(|| provider.not_offered("logins by browser"))?;
    let mut url = Url::parse(endpoint)
        .map_err(|_| provider.answer("an authorization endpoint that is no URL".into()))?;
    let (verifier, state, nonce) = (random()?, random()?, random()?);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", provider.client_id()),
        ("redirect_uri", redirect_uri),
        ("scope", &identity.settings.scopes.join(" ")),
        ("state", &state),
        ("nonce", &nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    Ok(BrowserGrant {
        url: url.into(),
        redirect_uri: redirect_uri.to_owned(),
        expires_in: Duration::from_secs(300),
        identity,
        verifier,
        nonce,
        state,
    })
}

impl BrowserGrant {
    /// Exchanges what the browser came back with.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn finish(self, code: &str, state: &str) -> Result<Login, LoginError> {
        if state != self.state {
            return Err(LoginError::State);
        }
        let provider = &self.identity.provider;
        let metadata = provider.metadata().await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &self.verifier),
        ];
        match provider.post::<Tokens>(&metadata.token_endpoint, &form).await? {
            Answer::Ok(tokens) => {
                let id_token = tokens
                    .id_token
                    .ok_or_else(|| provider.answer("no ID token: is `openid` among the scopes?".into()))?;
                self.identity.logged_in(&id_token, Some(&self.nonce), "browser").await
            }
            Answer::Refused(_) => Err(LoginError::Denied),
        }
    }
}

/// 256 bits, as text (RFC 7636, section 4.1).
fn random() -> Result<String, ProviderError> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ProviderError::Setting("the system's random numbers failed".into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
