//! A forward to something that Sluice protects itself: served here by that target's own service, under the person's name.
//!
//! Enters: a permitted forward and its channel. Must hold: the target is never reached under the SSH target's name, by
//! whatever name or address it was asked for; its own gate judges the connection as if the person had made it on this
//! host, and its own recording names the SSH session that carried it.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use sluice_config::{Host, Protocol, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::forward::End;
use super::link::Link;
use super::setup::ClientEnd;
use crate::intake::Inbound;
use crate::recorder::Released;
use crate::services::{Service as _, Via};
use crate::tls::Socket;

/// What may wait on the way to the service, and back.
const PIPE: usize = 64 << 10;
const NAMES_PATIENCE: Duration = Duration::from_secs(3);

/// A target of ours, and where it was asked for.
pub(super) struct Protected {
    pub(super) target: Arc<Target>,
    /// One that it has by configuration; `None`: its name leads nowhere for the moment.
    address: Option<SocketAddr>,
}

impl Link {
    /// The target of ours behind the end of a forward: by address, or by a name that is configured or that resolves
    /// here. Loopback is the SSH target's own.
    pub(super) async fn protected(&self, end: &End) -> Option<Protected> {
        let End::Tcp { host, port } = end else { return None };
        let port = u16::try_from(*port).ok()?;
        let own = self.gated().facts().address.ip();
        let at = |ip: IpAddr| {
            let ip = ip.to_canonical();
            let there = if ip.is_loopback() || ip.is_unspecified() { own } else { ip };
            let address = SocketAddr::new(there, port);
            self.house().target_at(address).map(|target| Protected { target, address: Some(address) })
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return at(ip);
        }
        let name = bare.to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") || name.is_empty() {
            return at(own);
        }
        let found = timeout(NAMES_PATIENCE, tokio::net::lookup_host((bare, port))).await;
        let found: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
        if let Some(protected) = found.iter().find_map(|address| at(address.ip())) {
            return Some(protected);
        }
        // a name of ours that leads elsewhere for this moment is still ours, and never dialled where it leads
        let settings = self.house().settings.load();
        let is_named = |h: &Host| matches!(h, Host::Name(n) if n.eq_ignore_ascii_case(bare));
        let named = settings
            .targets
            .iter()
            .find(|target| target.ports.contains(&port) && target.hosts.iter().any(is_named))?;
        let places = self.house().link.destinations();
        let known = places.iter().find(|entry| entry.target == named.name);
        let network = known.and_then(|entry| entry.network.parse::<ipnet::IpNet>().ok());
        let address = network.map(|network| SocketAddr::new(network.addr(), port));
        Some(Protected { target: Arc::clone(named), address })
    }

    /// Serves the channel by the target's own service until either ends.
    pub(super) async fn serve_through(
        self: Arc<Self>,
        protected: Protected,
        id: u64,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        place: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let Some(destination) = protected.address else {
            self.completed(id, "its name leads nowhere".to_owned(), true, started).await;
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        };
        let client = ClientEnd::new(channel, &self.client_flows, Some(place));
        reply.accept().await;
        let (near, far) = tokio::io::duplex(PIPE);
        let (caller, login) = (self.caller(), self.login());
        let inbound = Inbound {
            stream: Socket::from(far),
            peer: caller.peer.clone(),
            ingress: false,
            destination,
            lineage: caller.lineage.clone(),
            via: Some(Via {
                login: login.login.clone(),
                bound: login.bound.clone(),
                session: self.gated().id().to_owned(),
            }),
        };
        let (target, house) = (protected.target, self.shared_house());
        let serve = async move {
            // boxed: an SSH session in an SSH session is a future in itself
            match target.protocol() {
                Protocol::Postgres => {
                    Box::pin(Arc::clone(&house.postgres).serve(inbound, target, house)).await
                }
                Protocol::Ssh => {
                    let serve: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
                        Box::pin(Arc::new(crate::services::ssh::Ssh).serve(inbound, target, house));
                    serve.await;
                }
            }
        };
        let served = tokio::spawn(serve);
        let how = tokio::select! {
            how = self.shuttle(client, near) => how,
            _ = self.ending() => "the session ended",
        };
        // its end of the pipe is gone: the service ends by itself, and seals its recording
        let _ = served.await;
        self.completed(id, how.to_owned(), false, started).await;
    }

    /// Bytes of the channel to the service and back; what they are is on record there.
    async fn shuttle(&self, client: ClientEnd, near: DuplexStream) -> &'static str {
        let (mut from_service, mut to_service) = tokio::io::split(near);
        let ClientEnd { mut inbox, write, place: _place, .. } = client;
        let up = async {
            while let Some(message) = inbox.next().await {
                match message {
                    ChannelMsg::Data { data } => {
                        let length = data.len();
                        let sent = to_service.write_all(&data).await;
                        inbox.flow.took(length);
                        if sent.is_err() {
                            return;
                        }
                    }
                    ChannelMsg::Eof => {
                        let _ = to_service.shutdown().await;
                    }
                    ChannelMsg::Close => return,
                    _ => {}
                }
            }
        };
        let down = async {
            let mut piece = vec![0; 32 << 10];
            loop {
                let count = from_service.read(&mut piece).await.unwrap_or(0);
                if count == 0 {
                    return;
                }
                let bytes = bytes::Bytes::copy_from_slice(piece.get(..count).unwrap_or_default());
                let Ok(recorded) = self.tape().pass(|_| {}, Released::own(&bytes), false).await else {
                    return;
                };
                if !write.write(&bytes, recorded, false).await {
                    return;
                }
            }
        };
        let how = tokio::select! {
            () = up => "the client closed the channel",
            () = down => "the service closed the connection",
        };
        let _ = write.half().eof().await;
        let _ = write.half().close().await;
        how
    }
}
