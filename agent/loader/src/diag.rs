//! Sockets of this host as the kernel's sock_diag tells of them, and their end.
//!
//! Enters: network namespaces. Leaves: TCP connections with both ends, their cgroup and their tag. What must hold: a socket
//! is ended by its cookie, so that never another one in its place is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// linux/inet_diag.h: of the request, and what it asks in it
const REQUEST_STORAGES: u16 = 2;
const STORAGE_OF_MAP: u16 = 1;
/// of the answer
const STORAGES: u16 = 20;
const CGROUP: u16 = 21;
const STORAGE: u16 = 1;
const STORAGE_VALUE: u16 = 3;
/// Sizes of `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEAD: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// Where the socket's id stands in an answer, and its size.
const MESSAGE_ID: usize = 4;
const ID: usize = 48;
/// States of a connection that has two ends or is getting a second one: not those that listen, have ended, or belong to a
/// handshake whose socket is not there yet.
const CONNECTED: u32 = (1 << 1) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 9) | (1 << 11);
/// Greater than any answer.
const BUFFER: usize = 64 * 1024;
/// Flag of nested attributes.
const NESTED: u16 = 1 << 15;

/// One end of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// IPv4-mapped addresses as IPv4.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// 0 where no process holds it any more.
    pub(crate) inode: u32,
    pub(crate) uid: u32,
    /// Of cgroup v2; 0 where the kernel does not tell.
    pub(crate) cgroup: u64,
    pub(crate) cookie: u64,
    /// What the programs have marked it with; 0: nothing.
    pub(crate) tag: u32,
    family: u8,
    id: [u8; ID],
}

/// A network namespace that sockets are looked for in.
pub(crate) struct Namespace {
    /// `None`: that of this process.
    at: Option<PathBuf>,
}

impl Namespace {
    /// That of this process.
    pub(crate) fn own() -> Self {
        Self { at: None }
    }

    /// All on this host that a process or a name holds, this process's first.
    pub(crate) fn all() -> Vec<Namespace> {
        let own = fs::read_link("/proc/self/ns/net").ok();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let at = entry.path().join("ns/net");
            if let Ok(link) = fs::read_link(&at)
                && Some(&link) != own.as_ref()
            {
                found.entry(link).or_insert(at);
            }
        }
        let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let all = found.into_values().chain(named.map(|entry| entry.path()));
        [Self::own()].into_iter().chain(all.map(|at| Self { at: Some(at) })).collect()
    }

    /// Does something with a socket that asks this namespace; nothing where it has ended.
    pub(crate) fn within<T: Send>(
        &self,
        act: impl FnOnce(&OwnedFd) -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let open = || {
            let kind = SockProtocol::NetlinkSockDiag;
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)
                .map_err(io::Error::from)
        };
        let Some(at) = &self.at else { return act(&open()?) };
        let namespace = File::open(at)?;
        // of a thread of its own, which ends with it
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                act(&open()?)
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside has ended")))
        })
    }
}

fn attribute(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn message(kind: u16, flags: libc::c_int, family: u8, id: &[u8; ID], rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD + REQUEST + rest.len()).unwrap_or(u32::MAX);
    let mut out = length.to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags as u16).to_ne_bytes());
    // sequence and port
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend_from_slice(&CONNECTED.to_ne_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(rest);
    out
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Type and body of the attributes in a row.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NESTED;
        let body = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The value that the asked map has for the socket.
fn tag(storages: &[u8]) -> Option<u32> {
    let storage = attributes(storages).find(|(kind, _)| *kind == STORAGE)?.1;
    let value = attributes(storage).find(|(kind, _)| *kind == STORAGE_VALUE)?.1;
    number(value, 0)
}

/// An address of a socket's id: four bytes in the first word, or all sixteen.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if i32::from(family) == libc::AF_INET {
        let four: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        return Some(Ipv4Addr::from(four).into());
    }
    let six: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(six)).to_canonical())
}

fn parse(bytes: &[u8]) -> Option<Socket> {
    let family = *bytes.first()?;
    let id: [u8; ID] = bytes.get(MESSAGE_ID..MESSAGE_ID + ID)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
    let mut socket = Socket {
        local: SocketAddr::new(address(family, id.get(4..20)?)?, port(0)?),
        remote: SocketAddr::new(address(family, id.get(20..36)?)?, port(2)?),
        // behind the id: expires, both queues, uid, inode
        uid: number(bytes, MESSAGE_ID + ID + 12)?,
        inode: number(bytes, MESSAGE_ID + ID + 16)?,
        cookie: u64::from(number(&id, 40)?) | u64::from(number(&id, 44)?) << 32,
        cgroup: 0,
        tag: 0,
        family,
        id,
    };
    for (kind, body) in attributes(bytes.get(MESSAGE..)?) {
        match kind {
            CGROUP => socket.cgroup = body.try_into().map_or(0, u64::from_ne_bytes),
            STORAGES => socket.tag = tag(body).unwrap_or(0),
            _ => {}
        }
    }
    Some(socket)
}

/// The connections of a namespace, with their tags in the map.
pub(crate) fn connections(netlink: &OwnedFd, tags: BorrowedFd<'_>) -> io::Result<Vec<Socket>> {
    let map = attribute(STORAGE_OF_MAP, &tags.as_raw_fd().to_ne_bytes());
    let asked = attribute(REQUEST_STORAGES | NESTED, &map);
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let ask = message(SOCK_DIAG_BY_FAMILY, flags, family as u8, &[0; ID], &asked);
        match answers(netlink, &ask, &mut |body| found.extend(parse(body))) {
            // a kernel without IPv6
            Err(error) if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            outcome => outcome?,
        }
    }
    Ok(found)
}

/// Ends a connection: its process gets ECONNABORTED, its other end a reset. EOPNOTSUPP: the kernel can't
/// (CONFIG_INET_DIAG_DESTROY).
pub(crate) fn destroy(netlink: &OwnedFd, one: &Socket) -> io::Result<()> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    answers(netlink, &message(SOCK_DESTROY, flags, one.family, &one.id, &[]), &mut |_| {})
}

/// Asks, and takes every part of the answer up to its end.
fn answers(netlink: &OwnedFd, ask: &[u8], take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    sendto(netlink.as_raw_fd(), ask, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(size) = number(rest, 0).and_then(|size| usize::try_from(size).ok()) {
            let kind = rest.get(4..6).and_then(|kind| kind.try_into().ok()).map_or(0, u16::from_ne_bytes);
            let Some(body) = rest.get(HEAD..size) else { break };
            match libc::c_int::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    return match number(body, 0).map(|code| code as i32) {
                        Some(0) => Ok(()),
                        Some(code) => Err(io::Error::from_raw_os_error(-code)),
                        None => Err(io::Error::other("the kernel's answer is cut")),
                    };
                }
                _ => take(body),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Processes that hold these sockets, by inode; of several one.
pub(crate) fn holders(inodes: &[u32]) -> BTreeMap<u32, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for descriptor in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(link) = fs::read_link(descriptor.path()) else { continue };
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok())
                && inodes.contains(&inode)
            {
                found.insert(inode, pid);
            }
        }
    }
    found
}
