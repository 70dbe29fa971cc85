//! Who is connected to what is to be protected, at this moment: /proc/net/tcp of every network namespace that a process
//! of this host is in, and the descriptors of the processes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;
use sluice_config::{Config, Host};

use super::super::terminal::Table;
use super::{Finding, State};

/// State numbers of /proc/net/tcp (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// Somewhere that the guard would protect.
pub(super) struct Place {
    target: String,
    network: IpNet,
    port: u16,
}

/// A connection past Sluice, with whom it belongs to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Open {
    target: String,
    remote: SocketAddr,
    /// The user of the socket.
    uid: u32,
    user: String,
    /// 0: whose descriptor it is can't be seen from here.
    pid: u32,
    exe: String,
    /// The systemd unit, or the end of the cgroup's path.
    unit: String,
    /// In another network namespace, where the guard refuses instead of serving.
    elsewhere: bool,
}

/// The places of the configuration; its names are looked up now.
pub(super) fn places(config: &Config, findings: &mut Vec<Finding>) -> Vec<Place> {
    let mut places = Vec::new();
    for target in &config.targets {
        for host in &target.hosts {
            let networks = match host {
                Host::Network(network) => vec![*network],
                Host::Name(name) => match (name.as_str(), 0).to_socket_addrs() {
                    Ok(found) => found.map(|address| IpNet::from(address.ip())).collect(),
                    Err(error) => {
                        findings.push(
                            Finding::new(
                                format!("name {name}"),
                                State::Bad,
                                format!("does not resolve here: {error}"),
                            )
                            .means(format!(
                                "no address of target {} is known to the guard by it",
                                target.name
                            ))
                            .todo("correct `hosts`, or the host's resolver"),
                        );
                        continue;
                    }
                },
            };
            for port in &target.ports {
                let place = |network| Place { target: target.name.clone(), network, port: *port };
                places.extend(networks.iter().copied().map(place));
            }
        }
    }
    places
}

/// The connections that go there.
pub(super) fn open(places: &[Place]) -> Result<Vec<Open>, String> {
    let own = namespace("self").ok_or("/proc/self/ns/net can't be read")?;
    // one process of each network namespace, to read its tables by
    let mut namespaces = BTreeMap::from([(own.clone(), "self".to_owned())]);
    for pid in pids() {
        if let Some(id) = namespace(&pid) {
            namespaces.entry(id).or_insert(pid);
        }
    }
    let mut found = Vec::new();
    for (id, pid) in namespaces {
        for line in table(&pid).filter(|line| line.state == ESTABLISHED) {
            let there = |place: &&Place| {
                place.network.contains(&line.remote.ip().to_canonical()) && place.port == line.remote.port()
            };
            if let Some(place) = places.iter().find(there) {
                found.push((place.target.clone(), id != own, line));
            }
        }
    }
    let inodes = found.iter().map(|(_, _, line)| line.inode).collect();
    let holders = holders(&inodes);
    let mut open: Vec<Open> = found
        .into_iter()
        .map(|(target, elsewhere, line)| {
            let holder = holders.get(&line.inode).map(String::as_str);
            Open {
                target,
                remote: line.remote,
                uid: line.uid,
                user: user(line.uid),
                pid: holder.and_then(|pid| pid.parse().ok()).unwrap_or(0),
                exe: holder.map(exe).unwrap_or_default(),
                unit: holder.map(unit).unwrap_or_default(),
                elsewhere,
            }
        })
        // what the proxy itself has open is the way that everybody is to go
        .filter(|open| !open.exe.ends_with("/sluiced"))
        .collect();
    open.sort_by(|a, b| (&a.target, a.uid, a.pid, a.remote).cmp(&(&b.target, b.uid, b.pid, b.remote)));
    Ok(open)
}

/// As a table for people.
pub(super) fn table_text(open: &[Open]) -> String {
    let mut table = Table::new(["TARGET", "USER", "PID", "UNIT", "PROGRAM", "DESTINATION"]);
    for one in open {
        let pid = if one.pid == 0 { "?".to_owned() } else { one.pid.to_string() };
        let there = if one.elsewhere {
            format!("{} (another network namespace)", one.remote)
        } else {
            one.remote.to_string()
        };
        table.row([one.target.clone(), one.user.clone(), pid, one.unit.clone(), one.exe.clone(), there]);
    }
    table.render()
}

/// Who listens on a port of this network namespace: the program's name and its pid.
pub(super) fn listener(port: u16) -> Option<String> {
    let inodes: BTreeSet<u64> = table("self")
        .filter(|line| line.state == LISTEN && line.local.port() == port)
        .map(|line| line.inode)
        .collect();
    let holders = holders(&inodes);
    let pid = holders.values().next()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

struct Line {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    uid: u32,
    inode: u64,
}

fn table(pid: &str) -> impl Iterator<Item = Line> {
    ["tcp", "tcp6"].into_iter().flat_map(move |name| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        text.lines().skip(1).filter_map(parse).collect::<Vec<_>>()
    })
}

/// A line of /proc/net/tcp or tcp6 (proc_pid_net(5)).
fn parse(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    Some(Line {
        local: address(fields.get(1)?)?,
        remote: address(fields.get(2)?)?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `0100007F:1F90`: each four bytes of the address as a number in the machine's own order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn pids() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn namespace(pid: &str) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.display().to_string())
}

/// Inode of a socket → a process that has it open, as far as that can be seen from here.
fn holders(inodes: &BTreeSet<u64>) -> HashMap<u64, String> {
    let mut holders = HashMap::new();
    if inodes.is_empty() {
        return holders;
    }
    for pid in pids() {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            let Some(inode) = socket_inode(&link).filter(|inode| inodes.contains(inode)) else { continue };
            holders.entry(inode).or_insert_with(|| pid.clone());
        }
    }
    holders
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn user(uid: u32) -> String {
    let found = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    found.ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn exe(pid: &str) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string()).unwrap_or_default()
}

/// `0::/system.slice/app.service/…` → `app.service`.
fn unit(pid: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let kinds = [".service", ".scope"];
    let named = path.split('/').find(|part| kinds.iter().any(|kind| part.ends_with(kind)));
    named.or_else(|| path.rsplit('/').next()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(address("0100007F:1538"), Some("127.0.0.1:5432".parse().unwrap()));
        assert_eq!(address("00000000000000000000000001000000:0016"), Some("[::1]:22".parse().unwrap()));
        assert_eq!(address("0100007F"), None);
        assert_eq!(address("é100007F:1538"), None);
    }

    /// A connection of this very process is found, and is this process's.
    #[test]
    fn who_is_connected_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let place = Place { target: "shop".into(), network: IpNet::from(there.ip()), port: there.port() };
        assert!(open(std::slice::from_ref(&place)).unwrap().is_empty());
        let _client = TcpStream::connect(there).unwrap();
        let found = open(&[place]).unwrap();
        let own = std::process::id();
        let ours = found.iter().find(|one| one.remote == there).unwrap();
        assert!(ours.pid == own && !ours.elsewhere && ours.target == "shop", "{found:?}");
    }

    /// The port's holder is named.
    #[test]
    fn who_listens_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let who = listener(taken.local_addr().unwrap().port()).unwrap();
        assert!(who.contains(&std::process::id().to_string()), "{who}");
    }
}
