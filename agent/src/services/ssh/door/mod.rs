//! From an accepted socket to a session on both legs: key exchange, who it is, the gate, the target.
//!
//! What must hold: nothing is dialled before the gate has permitted it, and a recording stands before that; each way to
//! fail has its own words for the person and its own event; whoever has not logged in is bounded in number and time.
mod fatal;
mod handler;
mod hello;
mod login;
mod open;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use russh::server::{self, run_stream};
use russh::{MethodKind, MethodSet, SshId};
use sluice_config::Target;
use tokio::time::timeout;

pub(super) use self::fatal::Fatal;
use self::handler::Door;
pub(super) use self::login::Known;
use self::progress::Progress;
use crate::app::House;
use crate::audit;
use crate::intake::Inbound;
use crate::services::caller::Caller;
use crate::ssh::{AtFull, Flows, LARGEST_PACKET, WINDOW_LOCAL};
use crate::upstream::ssh::{CHANNEL_MESSAGES, IDENTIFICATION, host_keys, limits};

/// OpenSSH's own default.
const MAX_AUTH_TRIES: usize = 6;
/// A person who is refused has been asked before: there is nothing to slow down but a guesser of tokens.
const REJECTION_TIME: Duration = Duration::from_millis(500);

/// Carries a connection from its first byte to its end.
pub(super) async fn enter(inbound: Inbound, target: Arc<Target>, house: Arc<House>) {
    let Ok(waiting) = Arc::clone(&house.unauthenticated).try_acquire_owned() else {
        tracing::warn!(target = target.name, "limits.unauthenticated is reached: a connection was closed");
        return;
    };
    let pid = inbound.peer.pid();
    let Inbound { stream, peer, destination, lineage, via, .. } = inbound;
    let mut config = match config(&target, destination.ip(), &house) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(target = target.name, error, "no host key to show: a connection was closed");
            return;
        }
    };
    // to close it, whatever russh is doing
    let Ok(socket) = stream.descriptor() else { return };
    let caller = Caller { peer, destination, lineage, target: Arc::clone(&target), via };
    let progress = Progress::new(waiting);
    let door = Door::new(
        Arc::new(caller),
        Arc::clone(&house),
        Arc::clone(&progress),
        Flows::new(WINDOW_LOCAL, AtFull::End),
    );
    let times = house.settings.load().config.limits.clone();
    let start = async {
        let (offer, greeted) = hello::greet(stream).await?;
        match crate::ssh::server(&offer) {
            Ok(preferred) => config.preferred = preferred,
            Err(why) => {
                tracing::warn!(target = target.name, pid, why, "a client was refused");
                let _ = greeted.refuse(&why).await;
                return Ok(None);
            }
        }
        run_stream(Arc::new(config), greeted, door).await.map(Some)
    };
    let running = match timeout(times.startup_timeout, start).await {
        Ok(Ok(Some(running))) => running,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::warn!(target = target.name, pid, %error, "a connection was not understood");
            return;
        }
        Err(_) => {
            tracing::warn!(target = target.name, pid, "a client said nothing for limits.startup_timeout");
            return;
        }
    };
    let handle = running.handle();
    let late = async {
        tokio::time::sleep(times.startup_timeout).await;
        if !progress.is_greeted() {
            return "nobody asked for a login within limits.startup_timeout";
        }
        tokio::time::sleep(times.login_timeout).await;
        if progress.is_known() {
            std::future::pending::<()>().await;
        }
        "the login was not confirmed within limits.login_timeout"
    };
    tokio::select! {
        outcome = running => {
            if let Err(error) = outcome {
                tracing::debug!(target = target.name, pid, %error, "a client's connection ended");
            }
        }
        why = late => {
            tracing::warn!(target = target.name, pid, why, "a client was let go");
            let said = handle.disconnect(russh::Disconnect::ByApplication, why.to_owned(), String::new());
            // whoever does not read does not hear it
            let _ = timeout(Duration::from_secs(1), said).await;
        }
        () = progress.cut() => {}
    }
    if let Some(socket) = socket {
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    }
    if let Some(link) = progress.take_link() {
        link.finish().await;
    }
}

fn config(target: &Target, asked: std::net::IpAddr, house: &House) -> Result<server::Config, String> {
    let own = host_keys(target, &house.secrets).map_err(|error| format!("{error}: {}", error.detail()))?;
    let (keys, certificates) = if own.is_empty() {
        let certificate = house.ssh_authority.host_certificate(target, asked).map_err(|e| e.to_string())?;
        (vec![house.ssh_authority.host_key().clone()], vec![certificate])
    } else {
        (own, Vec::new())
    };
    Ok(server::Config {
        server_id: SshId::Standard(IDENTIFICATION.into()),
        methods: MethodSet::from(
            [MethodKind::None, MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password]
                .as_slice(),
        ),
        auth_rejection_time: REJECTION_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        certificates,
        limits: limits(),
        window_size: WINDOW_LOCAL,
        maximum_packet_size: LARGEST_PACKET,
        channel_buffer_size: CHANNEL_MESSAGES,
        max_auth_attempts: MAX_AUTH_TRIES,
        inactivity_timeout: None,
        nodelay: true,
        ..server::Config::default()
    })
}

/// Tells everybody but the client that there is no session.
fn refused(fatal: &Fatal, caller: &Caller, house: &House) {
    tracing::warn!(target = caller.target.name, pid = caller.peer.pid(), why = fatal.log(), "no session");
    let event = match &fatal.event {
        Some(event) => event.as_ref().clone(),
        None => audit::session_refused(&caller.target.name, None, &fatal.log(), &caller.lineage),
    };
    if let Err(error) = house.audit.record_now(&event) {
        tracing::error!(%error, "audit");
    }
}
