//! Who comes by a service's own Unix socket, at whose path the proxy's stands.
//!
//! Enters: an accepted socket. Leaves: [`Inbound`]. What must hold: the process that connected is the one that is looked
//! at, or nobody gets in. The kernel notes its pid when it connects, and pids are used again.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use sluice_abi::user::{PeerProcess, boot_ns};
use sluice_abi::{ABI_VERSION, Origin};
use sluice_api::common::Process;
use tokio::net::UnixStream;

use super::link::LoaderLink;
use super::{Inbound, NoEntry, Peer};

/// `AF_UNIX`.
const FAMILY: u32 = 1;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl Inbound {
    /// Asks the kernel and the loader who has connected. `destination`: the service, as it is reached by its port.
    ///
    /// # Errors
    /// [`NoEntry`]: the socket is to be closed.
    pub async fn over_unix(
        stream: UnixStream,
        path: Arc<str>,
        destination: SocketAddr,
        link: &LoaderLink,
        ticks_per_second: u64,
    ) -> Result<Self, NoEntry> {
        let accepted = boot_ns();
        let credentials = stream.peer_cred().map_err(|_| NoEntry::Gone)?;
        let uid = credentials.uid();
        // a process of a namespace that this one can't see has none
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let pid = pid.ok_or(NoEntry::ProcessGone { pid: 0, uid })?;
        let gone = || NoEntry::ProcessGone { pid, uid };
        let process = PeerProcess::of(stream.as_fd()).map_err(|_| gone())?;
        let lineage = link.describe(pid, 0).await?;
        let Some(first) = lineage.first() else { return Err(gone()) };
        // whoever has this pid now may have come after the one that connected
        let tick = SECOND / ticks_per_second.max(1);
        let younger = first.start_ticks.saturating_mul(tick) > accepted;
        if younger || process.lives() == Some(false) {
            return Err(gone());
        }
        let origin = origin(first, tick, destination);
        let peer = Peer::Unix(origin, path);
        Ok(Self { stream: stream.into(), peer, destination, ingress: true, lineage, via: None })
    }
}

/// What the kernel's connect hook would have noted.
fn origin(process: &Process, tick: u64, destination: SocketAddr) -> Origin {
    let mut comm = [0; 16];
    for (to, byte) in comm.iter_mut().zip(process.comm.bytes().take(15)) {
        *to = byte;
    }
    Origin {
        version: ABI_VERSION,
        family: FAMILY,
        addr: [0; 16],
        port: destination.port(),
        flags: 0,
        tgid: process.pid,
        tid: process.pid,
        uid: process.uid,
        sid: process.sid,
        loginuid: process.loginuid,
        start_ns: process.start_ticks.saturating_mul(tick),
        cgroup: 0,
        netns: 0,
        cookie: 0,
        time_ns: 0,
        comm,
    }
}
