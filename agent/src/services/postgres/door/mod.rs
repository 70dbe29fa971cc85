//! From an accepted socket to a session on both legs: TLS, the startup message, who it is, the gate, the target.
//!
//! What must hold: nothing is dialled before the gate has permitted it, and a recording stands before that; each way
//! to fail has its own words for the user, with what to do, and its own event.

mod greet;
mod keys;
mod login;
mod open;
mod options;
mod say;

use std::sync::Arc;

use rustls::ServerConfig;
use sluice_config::{ClientTls, Target};
use tokio::time::timeout;

use self::greet::Greeted;
pub(super) use self::keys::CancelKeys;
use self::say::Fatal;
use super::{Postgres, names};
use crate::app::House;
use crate::audit;
use crate::intake::Inbound;
use crate::services::caller::Caller;

/// Carries a connection from its first byte to its end.
pub(super) async fn enter(service: Arc<Postgres>, inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
    let Ok(waiting) = Arc::clone(&house.unauthenticated).try_acquire_owned() else {
        tracing::warn!(target = target.name, "limits.unauthenticated is reached: a connection was closed");
        return;
    };
    let pid = inbound.peer.pid();
    let Inbound { stream, peer, destination, lineage, via, .. } = inbound;
    let patience = house.settings.load().config.limits.startup_timeout;
    // what goes over a Unix socket is seen by nobody, and libpq asks for no TLS there
    let required = match target.postgres().map(|postgres| postgres.client.tls) {
        Some(_) if peer.is_unix() => ClientTls::Prefer,
        Some(required) => required,
        None => return,
    };
    let tls = || match own_certificate(&target, &house)? {
        Some(own) => Ok(own),
        None => house.authority.server_config(&names(&target), destination.ip()).map_err(|e| e.to_string()),
    };
    let greeted = timeout(patience, greet::greet(stream, tls, required)).await;
    let (mut client, message) = match greeted {
        Ok(Ok(Greeted::Session(client, message))) => (client, message),
        Ok(Ok(Greeted::Cancel(request))) => return service.keys.cancel(&request),
        Ok(Ok(Greeted::Gone)) => return,
        Ok(Err(error)) => {
            tracing::warn!(target = target.name, pid, error, "a connection was not understood");
            return;
        }
        Err(_) => {
            tracing::warn!(target = target.name, pid, "a client said nothing for limits.startup_timeout");
            return;
        }
    };
    let caller = Caller { peer, destination, lineage, target: Arc::clone(&target), via };
    let outcome = match options::check(&message, &target) {
        Ok(wanted) => match login::who(&mut client, &message, &caller, &house).await {
            Ok(Some(login)) => {
                drop(waiting);
                open::open(&service, client, &message, wanted, &caller, &login, &house).await
            }
            Ok(None) => return,
            Err(fatal) => Err((client, fatal)),
        },
        Err(fatal) => Err((client, fatal)),
    };
    match outcome {
        Ok(established) => open::carry(established, &service, &house).await,
        Err((mut client, fatal)) => refuse(&mut client, &fatal, &caller, &house).await,
    }
}

/// The server's own certificate (ingress); `None`: none is configured.
fn own_certificate(target: &Target, house: &House) -> Result<Option<Arc<ServerConfig>>, String> {
    if target.postgres().is_none_or(|postgres| postgres.client.own.is_none()) {
        return Ok(None);
    }
    let secret = |what: &str| {
        let secret = house.secrets.get(&format!("target/{}/{what}", target.name));
        secret.ok_or_else(|| format!("target.client: the {what} of `{}` could not be read", target.name))
    };
    let (certificate, key) = (secret("certificate")?, secret("certificate_key")?);
    crate::tls::of_server(certificate.expose(), key.expose()).map(Some)
}

/// Tells everybody that there is no session.
async fn refuse(client: &mut greet::Client, fatal: &Fatal, caller: &Caller, house: &House) {
    tracing::warn!(target = caller.target.name, pid = caller.peer.pid(), why = fatal.log(), "no session");
    let event = match &fatal.event {
        Some(event) => event.as_ref().clone(),
        None => audit::session_refused(&caller.target.name, None, &fatal.log(), &caller.lineage),
    };
    if let Err(error) = house.audit.record_now(&event) {
        tracing::error!(%error, "audit");
    }
    let mut out = Vec::with_capacity(256);
    fatal.write(&mut out);
    client.end(&out).await;
}
