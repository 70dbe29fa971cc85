//! `login`, `logout`, `whoami`.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use sluice_api::admin::{self, request, response::Response};

use super::{Caller, Wire, error};
use crate::app::House;
use crate::audit;
use crate::identity::{self, BoundLogin, Login, LoginError};

type Answer = Result<Response, admin::Error>;

pub(super) async fn login(
    house: &Arc<House>,
    caller: &Caller,
    request: admin::Login,
    wire: &mut Wire,
) -> io::Result<Answer> {
    let identity = house.identity.load_full();
    let outcome = if !request.token.is_empty() {
        identity.verify_token(&request.token).await
    } else if !request.redirect_uri.is_empty() {
        match identity.start_browser(&request.redirect_uri).await {
            Err(error) => Err(error.into()),
            Ok(grant) => {
                let prompt = admin::LoginPrompt {
                    url: grant.url.clone(),
                    complete_url: grant.url.clone(),
                    user_code: String::new(),
                    expires_in_s: grant.expires_in.as_secs(),
                };
                wire.send(Response::LoginPrompt(prompt)).await?;
                match tokio::time::timeout(grant.expires_in, browser_code(wire)).await {
                    Err(_) => Err(LoginError::Expired),
                    Ok(code) => match code? {
                        Some(code) => grant.finish(&code.code, &code.state).await,
                        None => Err(LoginError::Expired),
                    },
                }
            }
        }
    } else {
        match identity.start_device().await {
            Err(error) => Err(error.into()),
            Ok(grant) => {
                let prompt = admin::LoginPrompt {
                    url: grant.url.clone(),
                    user_code: grant.user_code.clone(),
                    complete_url: grant.complete_url.clone(),
                    expires_in_s: grant.expires_in.as_secs(),
                };
                wire.send(Response::LoginPrompt(prompt)).await?;
                tokio::select! {
                    outcome = grant.wait() => outcome,
                    // the terminal is gone: nobody is there to be logged in
                    () = wire.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
                }
            }
        }
    };
    Ok(outcome.map_err(|e| failed(house, caller, &e)).and_then(|login| bind(house, caller, login)))
}

/// The code that the CLI got on its loopback listener; the wait may be longer than a request's silence.
async fn browser_code(wire: &mut Wire) -> io::Result<Option<admin::LoginCode>> {
    match wire.next().await? {
        Some(request::Request::LoginCode(code)) => Ok(Some(code)),
        _ => Ok(None),
    }
}

fn bind(house: &House, caller: &Caller, login: Login) -> Answer {
    let bound = house.bindings.bind(&caller.lineage, login).map_err(|e| {
        error("refused", e.to_string(), "run `sluice login` in the terminal that you work in")
    })?;
    if let Err(e) = house.audit.record_now(&audit::logged_in(&bound, &caller.lineage)) {
        house.bindings.unbind(&caller.lineage);
        return Err(error("unavailable", e.to_string(), "ask the administrator of this host"));
    }
    Ok(Response::Identity(described(&bound)))
}

/// What the caller is told, and what stands in the events.
fn failed(house: &House, caller: &Caller, failure: &LoginError) -> admin::Error {
    if let Err(e) = house.audit.record_now(&audit::login_failed(failure, &caller.lineage)) {
        tracing::error!(error = %e, "a failed login could not be written to the audit events");
    }
    let (code, hint) = match failure {
        LoginError::Provider(_) => ("unavailable", "ask those who run the identity provider"),
        LoginError::Token(_) | LoginError::Certificate(_) => {
            ("refused", "get a fresh token of this provider, made out to this client")
        }
        LoginError::Denied | LoginError::Expired | LoginError::State => {
            ("refused", "run `sluice login` again")
        }
    };
    error(code, told(failure), hint)
}

/// The failure with its cause: every cause of a login is safe to show.
fn told(failure: &LoginError) -> String {
    match std::error::Error::source(failure) {
        Some(cause) => format!("{failure}: {cause}"),
        None => failure.to_string(),
    }
}

pub(super) fn logout(house: &House, caller: &Caller, request: &admin::Logout) -> Answer {
    let login = Arc::clone(caller.logged_in()?);
    let count = if request.everywhere {
        house.bindings.unbind_person(login.principal())
    } else {
        usize::from(house.bindings.unbind(&caller.lineage).is_some())
    };
    if let Err(e) = house.audit.record_now(&audit::logged_out(&login, &caller.lineage)) {
        tracing::error!(error = %e, "a logout could not be written to the audit events");
    }
    Ok(Response::Done(admin::Done {
        message: format!("{count} login(s) of {} ended", login.principal().name),
    }))
}

pub(super) fn whoami(caller: &Caller) -> Answer {
    caller.logged_in().map(|login| Response::Identity(described(login)))
}

fn described(bound: &BoundLogin) -> admin::Identity {
    let expires = bound.login.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    admin::Identity {
        principal: Some(identity::message(bound.principal())),
        expires_at: i64::try_from(expires.as_secs()).unwrap_or(i64::MAX),
        bound_to: bound.bound_to(),
    }
}
