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

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use sluice_config::{ClientTls, Target};
use sluice_protocol::postgres::wire::report::code;
use sluice_protocol::postgres::wire::startup::StartupMessage;
use tokio::time::timeout;

use self::greet::Greeted;
pub(super) use self::keys::CancelKeys;
use self::say::Fatal;
use super::{Postgres, names};
use crate::app::House;
use crate::audit;
use crate::intake::Inbound;
use crate::services::caller::Caller;
use crate::tls::Socket;

/// Carries a connection from its first byte to its end.
pub(super) async fn enter(service: Arc<Postgres>, inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
    let Ok(waiting) = Arc::clone(&house.unauthenticated).try_acquire_owned() else {
        tracing::warn!(target = target.name, "limits.unauthenticated is reached: a connection was refused");
        let Ok(_place) = Arc::clone(&house.turned_away).try_acquire_owned() else { return };
        let why = "as many connections wait for their login as may wait at one time (limits.unauthenticated)";
        return turn_away(&service, inbound, &target, &house, (why, "Try again in a moment.")).await;
    };
    let pid = inbound.peer.pid();
    let Inbound { stream, peer, destination, lineage, via, .. } = inbound;
    let from = From { destination, pid, unix: peer.is_unix() };
    let Some((mut client, message)) = greeted(&service, stream, &from, &target, &house).await else {
        return;
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

/// Where a connection came from and was going to.
struct From {
    destination: SocketAddr,
    pid: u32,
    unix: bool,
}

/// The client and its startup message; `None`: it wanted something else, which has been done.
async fn greeted(
    service: &Postgres,
    stream: Socket,
    &From { destination, pid, unix }: &From,
    target: &Arc<Target>,
    house: &House,
) -> Option<(greet::Client, StartupMessage)> {
    let patience = house.settings.load().config.limits.startup_timeout;
    // what goes over a Unix socket is seen by nobody, and libpq asks for no TLS there
    let required = if unix { ClientTls::Prefer } else { target.postgres()?.client.tls };
    let tls = || match own_certificate(target, house)? {
        Some(own) => Ok(own),
        None => house.authority.server_config(&names(target), destination.ip()).map_err(|e| e.to_string()),
    };
    match timeout(patience, greet::greet(stream, tls, required)).await {
        Ok(Ok(Greeted::Session(client, message))) => return Some((client, message)),
        Ok(Ok(Greeted::Cancel(request))) => service.keys.cancel(&request),
        Ok(Ok(Greeted::Gone)) => {}
        Ok(Err(error)) => {
            tracing::warn!(target = target.name, pid, error, "a connection was not understood");
        }
        Err(_) => {
            tracing::warn!(target = target.name, pid, "a client said nothing for limits.startup_timeout");
        }
    }
    None
}

/// There is no room: the client is told why and what to do. Cancel requests are heard.
pub(super) async fn turn_away(
    service: &Postgres,
    inbound: Inbound,
    target: &Arc<Target>,
    house: &House,
    (why, hint): (&str, &str),
) {
    let peer = &inbound.peer;
    let from = From { destination: inbound.destination, pid: peer.pid(), unix: peer.is_unix() };
    if let Some((mut client, _)) = greeted(service, inbound.stream, &from, target, house).await {
        let mut out = Vec::with_capacity(256);
        Fatal::new(code::TOO_MANY, why, hint).write(&mut out);
        client.end(&out).await;
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
