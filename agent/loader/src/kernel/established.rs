//! Connections that are older than what they are protected by: found and ended, with an event each.
//!
//! The connect hook has not seen them, or saw them when their destination was no target yet. The programs that see packets
//! drop what they send; here they end, so that whoever holds one learns of it at once. What must hold: the proxy's own,
//! told by their tags, go on; nobody outside the guarded cgroup is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use sluice_abi::{ABI_VERSION, Road, Verdict};
use sluice_config::Unregistered;

use super::{Guard, canary::Layer, is_root, records::Event};
use crate::diag::{self, Namespace, Socket};
use crate::{process, sys};

/// Ids of a cgroup and of those below it; `None`: all of the host.
fn members(cgroup: &Path) -> Option<BTreeSet<u64>> {
    if is_root(cgroup) {
        return None;
    }
    let mut found = BTreeSet::new();
    let mut open = vec![cgroup.to_owned()];
    while let Some(here) = open.pop() {
        found.extend(fs::metadata(&here).map(|meta| meta.ino()));
        let below = fs::read_dir(&here).into_iter().flatten().flatten().map(|entry| entry.path());
        open.extend(below.filter(|path| path.is_dir()));
    }
    Some(found)
}

/// Why a connection may not go on.
enum Wrong {
    /// Its other end is protected, or refused by its port.
    Remote,
    /// Its own end is a guarded port of this host.
    Port,
}

impl Guard {
    fn tags(&self) -> io::Result<OwnedFd> {
        sys::pinned(&self.pins.join(format!("maps-{ABI_VERSION}")).join("TAGS"))
    }

    fn wrong(&self, one: &Socket, home: bool) -> Option<Wrong> {
        if one.tag != 0 {
            return None;
        }
        let (ip, port) = (one.remote.ip(), one.remote.port());
        let at =
            |place: &super::Place| place.network.contains(&ip) && (place.port == port || place.port == 0);
        if self.places.iter().any(at) {
            return Some(Wrong::Remote);
        }
        if home && self.ports.iter().any(|(guarded, _)| *guarded == one.local.port()) {
            return Some(Wrong::Port);
        }
        let (mode, ports) = &self.strangers;
        let stays = ip.is_loopback() || ip == one.local.ip();
        (*mode == Unregistered::Deny && !stays && ports.contains(&port)).then_some(Wrong::Remote)
    }

    /// Ends every connection that what is protected now would not have let come about. To be called after the tables have
    /// changed: what connects from then on is led away.
    pub(crate) fn end_older(&mut self) -> Vec<Event> {
        let members = members(&self.cgroup);
        let inside = |one: &Socket| members.as_ref().is_none_or(|ids| ids.contains(&one.cgroup));
        let mut events = Vec::new();
        let outcome = self.each_namespace(|guard, home, netlink, found| {
            let wrong: Vec<(Socket, Wrong)> = found
                .into_iter()
                .filter(|one| inside(one))
                .filter_map(|one| guard.wrong(&one, home).map(|why| (one, why)))
                .collect();
            let inodes: Vec<u32> = wrong.iter().map(|(one, _)| one.inode).filter(|n| *n != 0).collect();
            // asked before the end, which takes the socket away
            let holders = if inodes.is_empty() { Default::default() } else { diag::holders(&inodes) };
            for (one, why) in wrong {
                end(netlink, &one)?;
                events.push(event(&one, &why, holders.get(&one.inode).copied()));
            }
            Ok(())
        });
        self.no_destroy = outcome.err().map(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                "this kernel can't end connections (CONFIG_INET_DIAG_DESTROY): packets of older ones are dropped".to_owned()
            }
            _ => format!("older connections could not all be ended, their packets are dropped: {error}"),
        });
        if let Some(reason) = &self.no_destroy {
            tracing::warn!(reason);
        }
        events
    }

    /// Names the process behind flows that were recognised by what they said, and ends those that were refused: their
    /// program would send in vain until it gives up.
    pub(crate) fn end_spoken(&mut self, events: &mut [Event]) {
        let spoken = |event: &Event| event.is_spoken() && event.tgid == 0;
        if !events.iter().any(spoken) {
            return;
        }
        let outcome = self.each_namespace(|_, _, netlink, found| {
            let pairs: Vec<(usize, &Socket)> = events
                .iter()
                .enumerate()
                .filter(|(_, event)| spoken(event))
                .filter_map(|(at, event)| Some((at, found.iter().find(|one| one.cookie == event.cookie)?)))
                .collect();
            let inodes: Vec<u32> = pairs.iter().map(|(_, one)| one.inode).collect();
            let holders = if inodes.is_empty() { Default::default() } else { diag::holders(&inodes) };
            for (at, one) in pairs {
                let Some(event) = events.get_mut(at) else { continue };
                name(event, holders.get(&one.inode).copied());
                if event.verdict == Verdict::Dropped as u32 {
                    end(netlink, one)?;
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            tracing::debug!(%error, "a flow that was recognised could not be ended; it says nothing more");
        }
    }

    /// Looks into every network namespace; `act` learns whether it is this process's own.
    fn each_namespace(
        &self,
        mut act: impl FnMut(&Self, bool, &OwnedFd, Vec<Socket>) -> io::Result<()>,
    ) -> io::Result<()> {
        let tags = self.tags()?;
        for (number, namespace) in Namespace::all().iter().enumerate() {
            let asked = namespace.within(|netlink| {
                let found = diag::connections(netlink, tags.as_fd())?;
                Ok((netlink.try_clone()?, found))
            });
            match asked {
                Ok((netlink, found)) => act(self, number == 0, &netlink, found)?,
                // it has ended meanwhile
                Err(_) if number != 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a connection can be ended: one of the loader's own.
    pub(super) fn probe_established(&self) -> Layer {
        let (state, proof) = match (self.try_end(), &self.no_destroy) {
            (Ok(()), None) => (
                "enforced",
                "a connection of the loader's own was found and ended; older ones to what is protected have been".to_owned(),
            ),
            (_, Some(reason)) => ("absent", reason.clone()),
            (Err(error), None) => ("absent", format!("connections can't be ended ({error}); packets of older ones are dropped")),
        };
        Layer { name: "established", state, proof }
    }

    fn try_end(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut ours = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(1))?;
        ours.set_read_timeout(Some(Duration::from_secs(1)))?;
        let end: SocketAddr = ours.local_addr()?;
        let tags = self.tags()?;
        Namespace::own().within(|netlink| {
            let found = diag::connections(netlink, tags.as_fd())?;
            let one = found.iter().find(|one| one.local == end);
            diag::destroy(netlink, one.ok_or_else(|| io::Error::other("it was not found"))?)
        })?;
        match ours.read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            other => Err(io::Error::other(format!("it went on: {other:?}"))),
        }
    }
}

/// One that has ended by itself meanwhile is no failure.
fn end(netlink: &OwnedFd, one: &Socket) -> io::Result<()> {
    match diag::destroy(netlink, one) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

/// Puts a process into the event.
fn name(event: &mut Event, pid: Option<u32>) {
    let Some(pid) = pid else { return };
    let Some(first) = process::lineage(pid, 0).into_iter().next() else { return };
    event.tgid = pid;
    event.start_ns = first.start_ticks * (1_000_000_000 / process::ticks_per_second());
    event.sid = first.sid;
    event.loginuid = first.loginuid;
    event.comm = first.comm;
}

fn event(one: &Socket, why: &Wrong, pid: Option<u32>) -> Event {
    let (place, source) = match why {
        Wrong::Remote => (one.remote, None),
        Wrong::Port => (one.local, Some(one.remote)),
    };
    let mut event = Event {
        address: place.ip(),
        port: place.port(),
        source,
        tgid: 0,
        uid: one.uid,
        sid: 0,
        loginuid: u32::MAX,
        start_ns: 0,
        cgroup: one.cgroup,
        cookie: one.cookie,
        time_ns: sys::boot_ns(),
        comm: String::new(),
        road: Road::Established as u32,
        verdict: Verdict::Ended as u32,
        dropped: 0,
    };
    // of a service's own end its process is no culprit, but the other end is of this host
    let from_here = |ip: IpAddr| ip.is_loopback() || ip == one.local.ip();
    if matches!(why, Wrong::Remote) || !from_here(one.remote.ip()) {
        name(&mut event, pid);
    }
    event
}
