//! Who is asking: a login that is bound to the caller's session, a token as password or in a certificate, or a
//! confirmation now.
//!
//! Keys that a client offers prove nobody here: who connected is the kernel's word, and who that is the provider's. A
//! certificate does by the token in it, and by nothing else that it says.
use std::sync::Arc;

use russh::keys::{Algorithm, Certificate, EcdsaCurve, PublicKey};
use tokio::time::timeout;

use super::fatal::Fatal;
use crate::app::House;
use crate::audit;
use crate::identity::{BoundLogin, DeviceGrant, Login, LoginError};
use crate::services::caller::Caller;

/// Longest password that is looked at; a token with many groups has some kilobytes.
const MAX_TOKEN: usize = 64 << 10;

/// Somebody who has proven who he is.
#[derive(Clone)]
pub(in crate::services::ssh) struct Known {
    pub(in crate::services::ssh) login: Login,
    /// The login is bound to the caller's session and ends with it.
    pub(in crate::services::ssh) bound: Option<Arc<BoundLogin>>,
}

/// The login of the caller's own session, or of the one that carries him.
pub(super) fn bound(caller: &Caller, house: &House) -> Option<Known> {
    let (login, bound) = caller.logged_in(house)?;
    Some(Known { login, bound })
}

/// A signature by the key is worth asking for: a certificate with a token may come with it.
pub(super) fn may_carry_token(key: &PublicKey, house: &House) -> bool {
    let kind =
        matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    kind && house.identity.load().takes_pk_tokens()
}

/// A token in place of a password.
pub(super) async fn token(token: &str, caller: &Caller, house: &House) -> Result<Known, Fatal> {
    if token.len() > MAX_TOKEN {
        return Err(Fatal::new("the password is too long to be a token", ""));
    }
    let identity = house.identity.load_full();
    match identity.verify_token(token).await {
        Ok(login) => known(login, caller, house),
        Err(error) => Err(failed(&error, caller)),
    }
}

/// What opkssh calls the extension.
const PK_TOKEN: &str = "openpubkey-pkt";

/// The token in a certificate whose key the client has shown to hold. `None`: there is none, or none is taken here.
pub(super) async fn certificate(
    certificate: &Certificate,
    caller: &Caller,
    house: &House,
) -> Option<Result<Known, Fatal>> {
    let identity = house.identity.load_full();
    let token = certificate.extensions().get(PK_TOKEN).filter(|_| identity.takes_pk_tokens())?;
    // what must be understood, and is not (PROTOCOL.certkeys)
    if !certificate.cert_type().is_user() || !certificate.critical_options().is_empty() {
        let why = "the certificate is no user's, or has options that Sluice does not know";
        return Some(Err(Fatal::new(why, "make a fresh one (`opkssh login`)")));
    }
    let key = PublicKey::from(certificate.public_key().clone());
    Some(match identity.verify_pk_token(token, &key).await {
        Ok(login) => known(login, caller, house),
        Err(error) => Err(failed(&error, caller)),
    })
}

/// Begins a confirmation on a screen of the person's own.
pub(super) async fn ask(caller: &Caller, house: &House) -> Result<DeviceGrant, Fatal> {
    let grant = house.identity.load_full().start_device().await;
    grant.map_err(|error| failed(&LoginError::Provider(error), caller))
}

/// Where to confirm, in the words that the client shows.
pub(super) fn instructions(grant: &DeviceGrant, house: &House) -> String {
    let patience = house.settings.load().config.limits.login_timeout;
    let minutes = grant.expires_in.min(patience).as_secs().div_ceil(60);
    format!(
        "You are not logged in here; to go on, open {} and confirm code {}\n\
         Waiting for up to {minutes} min. `sluice login` asks once for everything in this terminal.",
        grant.complete_url, grant.user_code
    )
}

/// Waits for the confirmation.
pub(super) async fn confirmed(grant: DeviceGrant, caller: &Caller, house: &House) -> Result<Known, Fatal> {
    let patience = house.settings.load().config.limits.login_timeout;
    match timeout(patience, grant.wait()).await {
        Ok(Ok(login)) => known(login, caller, house),
        Ok(Err(error)) => Err(failed(&error, caller)),
        Err(_) => Err(Fatal::new(
            "the login was not confirmed in time",
            "connect again, or run `sluice login` first",
        )),
    }
}

fn known(login: Login, caller: &Caller, house: &House) -> Result<Known, Fatal> {
    let event = audit::connection_login(&login, &caller.lineage);
    house.audit.record_now(&event).map_err(|error| Fatal::unrecorded(&error))?;
    Ok(Known { login, bound: None })
}

fn failed(error: &LoginError, caller: &Caller) -> Fatal {
    let hint = match error {
        LoginError::Provider(_) => {
            "nobody can log in meanwhile; ask whoever runs the identity provider, and the administrator of Sluice"
        }
        LoginError::Certificate(_) => "make a fresh certificate (`opkssh login`), or run `sluice login`",
        LoginError::Token(_) => "get a fresh token of this host's identity provider, or run `sluice login`",
        LoginError::Denied | LoginError::Expired | LoginError::State => {
            "connect again, or run `sluice login` first"
        }
    };
    let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let message = match error {
        // why a token is none is the admin's to know; who reaches the provider is everybody's
        // a fault of the form, which the person who made it has to know
        LoginError::Provider(_) | LoginError::Certificate(_) => format!("{error}: {detail}"),
        _ => error.to_string(),
    };
    Fatal::new(message, hint).detail(detail).event(audit::login_failed(error, &caller.lineage))
}
