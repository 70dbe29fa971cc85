//! Who is asking: a login that is bound to the caller's session, a token as password, or a confirmation now.

use std::sync::Arc;

use sluice_protocol::postgres::wire::startup::StartupMessage;
use sluice_protocol::postgres::wire::{Report, front, write};
use tokio::time::timeout;

use super::greet::Client;
use super::say::Fatal;
use crate::app::House;
use crate::audit;
use crate::identity::{BoundLogin, Login, LoginError};
use crate::services::caller::Caller;

/// The user that says: my password is a token.
const TOKEN_USER: &str = "oidc-token";
/// Longest password message; a token with many groups has some kilobytes.
const MAX_PASSWORD: usize = 64 << 10;

/// Somebody who has proven who he is, and how far the client's leg has come.
pub(super) struct Known {
    pub(super) login: Login,
    /// The login is bound to the caller's session and ends with it.
    pub(super) bound: Option<Arc<BoundLogin>>,
    /// AuthenticationOk has been sent.
    pub(super) greeted: bool,
}

/// Finds out; `None`: the client has gone meanwhile.
pub(super) async fn who(
    client: &mut Client,
    message: &StartupMessage,
    caller: &Caller,
    house: &House,
) -> Result<Option<Known>, Fatal> {
    if message.user() == TOKEN_USER {
        return token(client, caller, house).await;
    }
    if let Some((login, bound)) = caller.logged_in(house) {
        return Ok(Some(Known { login, bound, greeted: false }));
    }
    confirmation(client, message, caller, house).await
}

async fn token(client: &mut Client, caller: &Caller, house: &House) -> Result<Option<Known>, Fatal> {
    if !client.stream.is_tls() && !caller.peer.is_unix() {
        return Err(Fatal::new(
            "28000",
            "a token is taken by TLS alone",
            "Use sslmode=require or better (environment: PGSSLMODE).",
        ));
    }
    let patience = house.settings.load().config.limits.login_timeout;
    let mut out = Vec::new();
    write::authentication_cleartext(&mut out);
    if client.send(&out).await.is_err() {
        return Ok(None);
    }
    let answer = timeout(patience, client.message(MAX_PASSWORD)).await;
    let body = match answer {
        Ok(Ok(Some((b'p', body)))) => zeroize::Zeroizing::new(body),
        Ok(Ok(Some(_)) | Err(_)) => return Err(Fatal::new("08P01", "a password was expected", "")),
        Ok(Ok(None)) => return Ok(None),
        Err(_) => return Err(late()),
    };
    let token = front::password(&body).map_err(|error| Fatal::new("08P01", error.to_string(), ""))?;
    let identity = house.identity.load_full();
    match identity.verify_token(token).await {
        Ok(login) => known(login, false, caller, house),
        Err(error) => Err(failed(&error, caller)),
    }
}

/// Says where to confirm, inside the client: libpq shows notices while it connects.
async fn confirmation(
    client: &mut Client,
    message: &StartupMessage,
    caller: &Caller,
    house: &House,
) -> Result<Option<Known>, Fatal> {
    let identity = house.identity.load_full();
    let patience = house.settings.load().config.limits.login_timeout;
    let grant =
        identity.start_device().await.map_err(|error| failed(&LoginError::Provider(error), caller))?;
    let mut out = Vec::new();
    super::open::negotiate(message, &mut out);
    write::authentication_ok(&mut out);
    let minutes = grant.expires_in.min(patience).as_secs().div_ceil(60);
    Report::new(
        "NOTICE",
        "00000",
        format!(
            "you are not logged in here; to go on, open {} and confirm code {}",
            grant.complete_url, grant.user_code
        ),
    )
    .hint(format!(
        "Waiting for up to {minutes} min. `sluice login` asks once for everything in this terminal."
    ))
    .write_notice(&mut out);
    if client.send(&out).await.is_err() {
        return Ok(None);
    }
    tokio::select! {
        outcome = timeout(patience, grant.wait()) => match outcome {
            Ok(Ok(login)) => known(login, true, caller, house),
            Ok(Err(error)) => Err(failed(&error, caller)),
            Err(_) => Err(late()),
        },
        () = client.gone() => {
            tracing::info!(pid = caller.peer.pid(), "a client went before it was logged in");
            Ok(None)
        }
    }
}

fn known(login: Login, greeted: bool, caller: &Caller, house: &House) -> Result<Option<Known>, Fatal> {
    let event = audit::connection_login(&login, &caller.lineage);
    house.audit.record_now(&event).map_err(|error| unrecorded(&error))?;
    Ok(Some(Known { login, bound: None, greeted }))
}

/// Nothing goes on that is not on record.
pub(super) fn unrecorded(error: &dyn std::fmt::Display) -> Fatal {
    Fatal::new(
        "53100",
        "Sluice can't put on record what happens here, so nothing happens",
        "Ask the administrator of this host whether its disk is full.",
    )
    .detail(error.to_string())
}

fn late() -> Fatal {
    Fatal::new("28000", "the login was not confirmed in time", "Connect again, or run `sluice login` first.")
}

fn failed(error: &LoginError, caller: &Caller) -> Fatal {
    let hint = match error {
        LoginError::Provider(_) => {
            "Nobody can log in meanwhile. Ask whoever runs the identity provider, and the administrator of Sluice."
        }
        LoginError::Token(_) | LoginError::Certificate(_) => {
            "Get a fresh token of this host's identity provider, or run `sluice login`."
        }
        LoginError::Denied | LoginError::Expired | LoginError::State => {
            "Connect again, or run `sluice login` first."
        }
    };
    let mut detail = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        detail = if detail.is_empty() { inner.to_string() } else { format!("{detail}: {inner}") };
        cause = inner.source();
    }
    let message = match error {
        // why a token is none is the admin's to know; who reaches the provider is everybody's
        LoginError::Provider(_) => format!("{error}: {detail}"),
        _ => error.to_string(),
    };
    Fatal::new("28000", message, hint).detail(detail).event(audit::login_failed(error, &caller.lineage))
}
