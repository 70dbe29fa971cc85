//! Which processes serve a connection: those that hold the socket at its other end.
//!
//! The socket is looked for by its two addresses in the tables of the network namespaces that belong to this host's own
//! user namespace (anybody may make a namespace inside a user namespace of his own, with any address in it), then by its
//! inode among the descriptors of all processes. Whoever also listens at the port is the server as a whole, and serves
//! everybody: it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_ESTABLISHED` and `TCP_LISTEN`, as /proc/net/tcp has them.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// The socket and those that wait for connections at its port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) socket: u64,
    listeners: BTreeSet<u64>,
}

/// Looks for the target's end of a connection.
///
/// # Errors
/// In words: why there is none that could be believed.
pub(super) fn socket(target: SocketAddr, proxy: SocketAddr) -> Result<Found, String> {
    if let Some(found) = table("/proc/self/net", target, proxy) {
        return Ok(found);
    }
    let mut all: Vec<Found> =
        namespaces().values().filter_map(|pid| table(&format!("/proc/{pid}/net"), target, proxy)).collect();
    match (all.pop(), all.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(_), false) => Err("several network namespaces of this host have such a connection".to_owned()),
        (None, _) => Err("its server does not run on this host".to_owned()),
    }
}

/// A process in each network namespace but our own, of our own user namespace.
fn namespaces() -> BTreeMap<String, u32> {
    let link = |pid: &str, kind: &str| {
        let path = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        Some(path.to_string_lossy().into_owned())
    };
    let (net, user) = (link("self", "net"), link("self", "user"));
    let mut found = BTreeMap::new();
    for pid in pids() {
        let own = link(&pid.to_string(), "net");
        if own == net || link(&pid.to_string(), "user") != user {
            continue;
        }
        if let Some(namespace) = own {
            found.entry(namespace).or_insert(pid);
        }
    }
    found
}

fn table(dir: &str, target: SocketAddr, proxy: SocketAddr) -> Option<Found> {
    let mut found = Found::default();
    for name in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("{dir}/{name}")).unwrap_or_default();
        search(&text, target, proxy, &mut found);
    }
    (found.socket != 0).then_some(found)
}

fn search(text: &str, target: SocketAddr, proxy: SocketAddr, found: &mut Found) {
    for line in text.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if state != ESTABLISHED && state != LISTEN {
            continue;
        }
        let Some(inode) = fields.nth(5).and_then(|text| text.parse::<u64>().ok()) else { continue };
        let Some(local) = address(local) else { continue };
        if state == LISTEN && local.port() == target.port() {
            found.listeners.insert(inode);
        } else if state == ESTABLISHED && local == target && address(remote) == Some(proxy) && inode != 0 {
            found.socket = inode;
        }
    }
}

/// `0100007F:0016`, or the same with four words: each word in the machine's own order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (part, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes that hold the socket and wait for nobody else.
pub(super) fn holders(found: &Found) -> Vec<u32> {
    pids().filter(|pid| holds(*pid, found)).collect()
}

/// Whether it still does.
pub(super) fn holds(pid: u32, found: &Found) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut has = false;
    for entry in entries.flatten() {
        let Some(inode) = fs::read_link(entry.path()).ok().and_then(|link| inode(&link.to_string_lossy()))
        else {
            continue;
        };
        if found.listeners.contains(&inode) {
            return false;
        }
        has |= inode == found.socket;
    }
    has
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        assert_eq!(address("0100007F:0016"), "127.0.0.1:22".parse().ok());
        assert_eq!(address("0000000000000000FFFF00000100007F:0016"), "127.0.0.1:22".parse().ok());
        assert_eq!(address("00000000000000000000000001000000:0016"), "[::1]:22".parse().ok());
        for bad in ["", ":", "0100007F", "0100007F:x", "01:16", "é100007F:0016"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!((inode("socket:[17]"), inode("pipe:[17]"), inode("socket:[")), (Some(17), None, None));
    }

    #[test]
    fn the_other_end_of_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let ends = (accepted.local_addr().unwrap(), ours.local_addr().unwrap());
        let found = socket(ends.0, ends.1).unwrap();
        assert!(holders(&found).is_empty(), "who listens there serves everybody");
        drop(listener);
        let found = socket(ends.0, ends.1).unwrap();
        assert_eq!(holders(&found), [std::process::id()]);
        drop(accepted);
        assert!(socket(ends.0, ends.1).is_err());
    }
}
