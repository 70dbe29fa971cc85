//! Routes that prohibit an address: the last wall where the kernel takes no program. rtnetlink(7), by hand: a table of
//! routes is all that is needed of it.
//!
//! What is made here carries a protocol number of its own, and only what carries it is taken away.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// Who has made a route (`rtm_protocol`): Sluice.
const OURS: u8 = 0x53;
/// `RTN_PROHIBIT`: the kernel answers EACCES.
const PROHIBIT: u8 = 8;
/// `RTA_DST` and `RTA_PRIORITY`.
const DESTINATION: u16 = 1;
const PRIORITY: u16 = 6;
/// The length of a netlink header and of an `rtmsg`.
const HEAD: usize = 16;
const ROUTE: usize = 12;
/// Wider networks than these would cut the host off.
const WIDEST: (u8, u8) = (8, 16);

fn open() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?)
}

fn message(kind: u16, flags: i32, network: Option<IpNet>, family: u8) -> Vec<u8> {
    let mut body =
        vec![family, 0, 0, 0, libc::RT_TABLE_MAIN, OURS, libc::RT_SCOPE_UNIVERSE, PROHIBIT, 0, 0, 0, 0];
    if let Some(network) = network {
        body[1] = network.prefix_len();
        let bytes = match network.network() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        body.extend_from_slice(&((bytes.len() + 4) as u16).to_ne_bytes());
        body.extend_from_slice(&DESTINATION.to_ne_bytes());
        body.extend_from_slice(&bytes);
        if network.addr().is_ipv6() && kind == libc::RTM_NEWROUTE {
            // before every other to the same network: 256 and 1024 are what others have
            body.extend_from_slice(&8u16.to_ne_bytes());
            body.extend_from_slice(&PRIORITY.to_ne_bytes());
            body.extend_from_slice(&1u32.to_ne_bytes());
        }
    }
    let mut message = Vec::with_capacity(HEAD + body.len());
    message.extend_from_slice(&((HEAD + body.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&body);
    message
}

/// Asks for a change and hears whether it was done.
fn change(kind: u16, flags: i32, network: IpNet) -> io::Result<()> {
    let family = if network.addr().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let netlink = open()?;
    let message = message(kind, flags | libc::NLM_F_ACK, Some(network), family);
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0u8; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // nlmsgerr: the error stands behind the header, negative; 0 is the acknowledgement
    let code =
        answer.get(HEAD..HEAD + 4).filter(|_| length >= HEAD + 4).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel gave no answer")),
    }
}

/// From now on nothing of this host reaches the network; before whatever other route there is to the same.
pub(crate) fn prohibit(network: IpNet) -> io::Result<()> {
    let widest = if network.addr().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
    if network.prefix_len() < widest {
        return Err(io::Error::other(format!("wider than /{widest}: the host itself would be cut off")));
    }
    // without more flags IPv4 puts it before a route of somebody's to the same network
    match change(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, network) {
        // it is there already
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        outcome => outcome,
    }
}

/// Takes away every route that was made here.
pub(crate) fn allow() -> io::Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        for network in ours(family as u8)? {
            match change(libc::RTM_DELROUTE, 0, network) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn ours(family: u8) -> io::Result<Vec<IpNet>> {
    let netlink = open()?;
    let message = message(libc::RTM_GETROUTE, libc::NLM_F_DUMP, None, family);
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, after)) = split(rest) {
            if kind == libc::NLMSG_DONE as u16 || kind == libc::NLMSG_ERROR as u16 {
                return Ok(found);
            }
            found.extend(of_ours(body));
            rest = after;
        }
        if length == 0 {
            return Ok(found);
        }
    }
}

/// The next message: its kind, its body, and what comes behind it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEAD..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The network of a route that was made here.
fn of_ours(body: &[u8]) -> Option<IpNet> {
    let (prefix, protocol, kind) = (*body.get(1)?, *body.get(5)?, *body.get(7)?);
    if protocol != OURS || kind != PROHIBIT {
        return None;
    }
    let mut attributes = body.get(ROUTE..)?;
    while let Some(head) = attributes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]])).max(4);
        if u16::from_ne_bytes([head[2], head[3]]) == DESTINATION {
            let value = attributes.get(4..length)?;
            let ip = match value.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
            };
            return IpNet::new(ip, prefix).ok();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_recognised_as_ours() {
        for network in ["10.77.0.2/32", "fd00:77::/64"] {
            let network: IpNet = network.parse().unwrap();
            let message = message(libc::RTM_NEWROUTE, 0, Some(network), 2);
            let (kind, body, after) = split(&message).unwrap();
            assert_eq!((kind, of_ours(body), after.len()), (libc::RTM_NEWROUTE, Some(network), 0));
        }
        let mut other = message(libc::RTM_NEWROUTE, 0, Some("10.0.0.0/8".parse().unwrap()), 2);
        other[HEAD + 5] = 4;
        assert_eq!(split(&other).and_then(|(_, body, _)| of_ours(body)), None);
        assert!(split(&[0; 8]).is_none());
    }

    #[test]
    fn the_whole_net_is_not_prohibited() {
        assert!(prohibit("0.0.0.0/0".parse().unwrap()).is_err());
    }
}
