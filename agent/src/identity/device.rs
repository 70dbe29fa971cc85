//! The device authorization grant (RFC 8628): a person confirms on a screen of his own.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::provider::{Answer, Metadata, ProviderError, Tokens};
use super::{Identity, Login, LoginError};

/// RFC 8628, section 3.5: without an interval of the provider's, five seconds.
const DEFAULT_INTERVAL: u64 = 5;
/// No code needs to live longer; a provider that says otherwise is not believed.
const MAX_LIFE: Duration = Duration::from_secs(1800);

#[derive(Deserialize)]
struct Started {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// A login that waits for its person.
pub struct DeviceGrant {
    identity: Arc<Identity>,
    metadata: Arc<Metadata>,
    device_code: String,
    interval: Duration,
    expires: Instant,
    /// Where the person goes.
    pub url: String,
    /// What is typed there.
    pub user_code: String,
    /// The URL with the code in it; the plain one where the provider gives none.
    pub complete_url: String,
    /// How long the code is good for.
    pub expires_in: Duration,
}

pub(super) async fn start(identity: Arc<Identity>) -> Result<DeviceGrant, ProviderError> {
    let provider = &identity.provider;
    let metadata = provider.metadata().await?;
    let endpoint = metadata
        .device_authorization_endpoint
        .as_deref()
        .ok_or_else(|| provider.not_offered("logins by device code"))?;
    let scope = identity.settings.scopes.join(" ");
    let started: Started = match provider.post(endpoint, &[("scope", &scope)]).await? {
        Answer::Ok(started) => started,
        Answer::Refused(e) => return Err(provider.answer(format!("no device code: {}", shown(&e.error)))),
    };
    let odd = |s: &str| s.is_empty() || s.len() > 2048 || s.chars().any(char::is_control);
    let complete_url = started.verification_uri_complete.unwrap_or_else(|| started.verification_uri.clone());
    // these go to a person's terminal
    if odd(&started.user_code) || odd(&started.verification_uri) || odd(&complete_url) {
        return Err(provider.answer("a device code that can't be shown".into()));
    }
    let expires_in = Duration::from_secs(started.expires_in).min(MAX_LIFE);
    Ok(DeviceGrant {
        metadata,
        device_code: started.device_code,
        interval: Duration::from_secs(started.interval.unwrap_or(DEFAULT_INTERVAL).clamp(1, 60)),
        expires: Instant::now() + expires_in,
        url: started.verification_uri,
        user_code: started.user_code,
        complete_url,
        expires_in,
        identity,
    })
}

impl DeviceGrant {
    /// Asks the provider until the person has decided. Dropping it ends the asking; the code then runs out.
    ///
    /// # Errors
    /// [`LoginError`]: denied, expired, the provider away for good, or a token that is no proof.
    pub async fn wait(self) -> Result<Login, LoginError> {
        let mut interval = self.interval;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", self.device_code.as_str()),
        ];
        loop {
            let next = Instant::now() + interval;
            if next > self.expires {
                return Err(LoginError::Expired);
            }
            sleep_until(next).await;
            let asked = self.identity.provider.post::<Tokens>(&self.metadata.token_endpoint, &form);
            match timeout_at(self.expires, asked).await.map_err(|_| LoginError::Expired)? {
                Ok(Answer::Ok(tokens)) => {
                    let provider = &self.identity.provider;
                    let id_token = tokens.id_token.ok_or_else(|| {
                        provider.answer("no ID token: is `openid` among the scopes?".into())
                    })?;
                    return self.identity.logged_in(&id_token, None, "device").await;
                }
                Ok(Answer::Refused(refused)) => match refused.error.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += Duration::from_secs(5),
                    "access_denied" => return Err(LoginError::Denied),
                    "expired_token" => return Err(LoginError::Expired),
                    other => return Err(self.identity.provider.answer(shown(other)).into()),
                },
                // section 3.5: a time-out is no answer; the next try comes later
                Err(ProviderError::Unreachable { .. }) => {
                    interval = (interval * 2).min(Duration::from_secs(60))
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An error code of the provider, safe for a terminal.
fn shown(code: &str) -> String {
    code.chars().take(80).flat_map(char::escape_default).collect()
}
