//! Where connections enter: accepted sockets become [`Inbound`] with the kernel's word on where they came from.
//!
//! Enters: listeners of the loader. Leaves: [`Inbound`]. Must hold: a connection that was led away from somewhere else has
//! an origin, or no entry; one that came to a guarded port of this host (ingress) without an origin is a stranger's, who
//! has to prove himself in band; a connection whose process can no longer be read is nobody's, and nobody gets in.

pub mod link;
pub mod socket;
pub mod unix;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use sluice_abi::Origin;
use sluice_api::common;
use sluice_api::common::Process;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use link::LoaderLink;

use crate::services::Via;
use crate::tls::{Socket, notice_absence};

/// A connection with its origin.
pub struct Inbound {
    /// The accepted socket, Nagle off; or a channel of a session.
    pub stream: Socket,
    /// Who connected.
    pub peer: Peer,
    /// The address that the client asked for.
    pub destination: SocketAddr,
    /// It came to a guarded port of this host, by the kernel's choice of the listener.
    pub ingress: bool,
    /// The process that connected, then its ancestors; empty for a stranger.
    pub lineage: Vec<Process>,
    /// The session that carries it, if it came through one.
    pub via: Option<Via>,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process of this host, from the connect hook.
    Local(Origin),
    /// A process of this host that asked for a service's Unix socket, which has this path.
    Unix(Origin, Arc<str>),
    /// Somebody of whom the address alone is known: from another host, from another network namespace, or by a socket that
    /// the kernel's connect hook has not seen. No login of this host is his.
    Remote(SocketAddr),
}

impl Peer {
    /// Pid of a local process; 0 of a stranger.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Local(origin) | Self::Unix(origin, _) => origin.tgid,
            Self::Remote(_) => 0,
        }
    }

    /// What it says passes no wire.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(..))
    }
}

/// Why an accepted socket does not become an [`Inbound`].
#[derive(Debug, thiserror::Error)]
pub enum NoEntry {
    /// The kernel has no record: it came to the listener directly, not by a redirect.
    #[error("the connection did not come by a redirect of the kernel")]
    NoOrigin(#[source] io::Error),
    /// The process ended, or its pid is another one's by now.
    #[error("process {pid} (uid {uid}) ended before it could be read")]
    ProcessGone {
        /// Its pid.
        pid: u32,
        /// Its real uid.
        uid: u32,
    },
    /// It ended while it was looked at.
    #[error("the connection ended at once")]
    Gone,
    /// This process has connected to itself.
    #[error("the proxy's own connection came back to it")]
    Loop,
    /// The loader did not answer.
    #[error("the loader did not tell who is behind the connection")]
    Loader(#[from] link::LinkError),
}

impl Inbound {
    /// Asks the kernel and the loader who is behind an accepted socket.
    ///
    /// # Errors
    /// [`NoEntry`]: the socket is to be closed.
    pub async fn identify(stream: TcpStream, link: &LoaderLink, own_port: u16) -> Result<Self, NoEntry> {
        let (here, there) = (stream.local_addr(), stream.peer_addr());
        let (Ok(here), Ok(there)) = (here.map(canonical), there.map(canonical)) else {
            return Err(NoEntry::Gone);
        };
        // the listeners are bound to their own port: a socket at another one was put there by `sk_lookup`
        let ingress = here.port() != own_port;
        // only a latency matter: a socket that refuses is still served
        let _ = stream.set_nodelay(true);
        // the same: a socket that has ended already is noticed by its first read
        let _ = notice_absence(&stream);
        let origin = match sluice_abi::user::origin(stream.as_fd()) {
            Ok(origin) => origin,
            Err(_) if ingress => {
                let peer = Peer::Remote(there);
                let (stream, lineage) = (stream.into(), Vec::new());
                return Ok(Self { stream, peer, destination: here, ingress, lineage, via: None });
            }
            Err(error) => return Err(NoEntry::NoOrigin(error)),
        };
        if origin.tgid == std::process::id() {
            return Err(NoEntry::Loop);
        }
        let lineage = link.describe(origin.tgid, origin.start_ns).await?;
        if lineage.is_empty() {
            return Err(NoEntry::ProcessGone { pid: origin.tgid, uid: origin.uid });
        }
        let destination = if ingress { here } else { destination(&origin) };
        let peer = Peer::Local(origin);
        Ok(Self { stream: stream.into(), peer, destination, ingress, lineage, via: None })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where a connection came from, as it stands in recordings and events.
pub fn origin_message(peer: &Peer, destination: SocketAddr) -> common::Origin {
    let (o, unix) = match peer {
        Peer::Local(origin) => (origin, String::new()),
        Peer::Unix(origin, path) => (origin, path.to_string()),
        Peer::Remote(source) => {
            return common::Origin {
                address: destination.ip().to_string(),
                port: u32::from(destination.port()),
                uid: u32::MAX,
                loginuid: u32::MAX,
                source: source.to_string(),
                ..common::Origin::default()
            };
        }
    };
    let end = o.comm.iter().position(|b| *b == 0).unwrap_or(o.comm.len());
    common::Origin {
        address: destination.ip().to_string(),
        port: u32::from(destination.port()),
        pid: o.tgid,
        start_ns: o.start_ns,
        uid: o.uid,
        sid: o.sid,
        loginuid: o.loginuid,
        cgroup: o.cgroup,
        cookie: o.cookie,
        comm: String::from_utf8_lossy(o.comm.get(..end).unwrap_or_default()).into_owned(),
        source: String::new(),
        unix,
    }
}

/// The address asked for, IPv4 out of its mapped form.
fn destination(origin: &Origin) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(origin.addr)).to_canonical(), origin.port)
}

/// Makes a listening socket of the loader one of the runtime's.
///
/// # Errors
/// Where the descriptor is no listening TCP socket.
pub fn listener(descriptor: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The same of a service's Unix socket.
///
/// # Errors
/// Where the descriptor is no listening Unix socket.
pub fn unix_listener(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// What accepts.
pub trait Listener {
    /// What is accepted.
    type Stream: Send + 'static;

    /// The next one.
    ///
    /// # Errors
    /// Of the listener; another try may go well.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Accepts until the task is dropped; each socket goes to `serve` in a task of its own. Running out of
/// descriptors is waited out: those who wait in the backlog get in later, the others do not notice.
pub async fn accept<L, F, W>(listener: L, serve: Arc<F>)
where
    L: Listener,
    F: Fn(L::Stream) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.next().await {
            Ok(stream) => {
                tokio::spawn(serve(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4() {
        let addr = std::net::Ipv4Addr::new(10, 0, 0, 5).to_ipv6_mapped().octets();
        let origin = Origin {
            version: 1,
            family: 2,
            addr,
            port: 5432,
            flags: 0,
            tgid: 1,
            tid: 1,
            uid: 0,
            sid: 0,
            loginuid: 0,
            start_ns: 0,
            cgroup: 0,
            netns: 0,
            cookie: 0,
            time_ns: 0,
            comm: [0; 16],
        };
        assert_eq!(destination(&origin), "10.0.0.5:5432".parse().unwrap());
    }
}
