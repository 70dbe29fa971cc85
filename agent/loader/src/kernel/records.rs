//! Records of the kernel programs as bytes: maps are read and written without a cast.

use std::net::{IpAddr, Ipv6Addr};

use sluice_abi::{Addr, Destination, Listener, Protection, Proxy};

/// Size of an [`sluice_abi::Event`].
const EVENT: usize = size_of::<sluice_abi::Event>();

/// What the loader needs of an [`sluice_abi::Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The place that was asked for; IPv4-mapped addresses as IPv4.
    pub(crate) address: IpAddr,
    /// Host byte order.
    pub(crate) port: u16,
    /// The other end, where no process of this host is behind it.
    pub(crate) source: Option<std::net::SocketAddr>,
    /// Process id, 0 where unknown.
    pub(crate) tgid: u32,
    /// Real uid, `u32::MAX` where unknown.
    pub(crate) uid: u32,
    /// Session id.
    pub(crate) sid: u32,
    /// Audit login uid.
    pub(crate) loginuid: u32,
    /// Start of the process, nanoseconds since boot.
    pub(crate) start_ns: u64,
    /// Cgroup v2 id.
    pub(crate) cgroup: u64,
    /// Cookie of the socket.
    pub(crate) cookie: u64,
    /// When, nanoseconds since boot.
    pub(crate) time_ns: u64,
    /// What the task calls itself.
    pub(crate) comm: String,
    /// A [`sluice_abi::Road`].
    pub(crate) road: u32,
    /// A [`sluice_abi::Verdict`].
    pub(crate) verdict: u32,
    /// Lost in the ring before this one.
    pub(crate) dropped: u64,
}

fn u32_at(bytes: &[u8; EVENT], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8; EVENT], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The address that people know: IPv4 where the kernel's is mapped.
pub(crate) fn ip(addr: Addr) -> IpAddr {
    let v6 = Ipv6Addr::from(addr);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// The address that the kernel programs know: IPv4 mapped.
pub(crate) fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl Event {
    /// Reads a record of the ring; `None` for one of another size.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        use std::mem::offset_of;

        use sluice_abi::{Event as Raw, Origin};
        let bytes: &[u8; EVENT] = bytes.try_into().ok()?;
        let origin = offset_of!(Raw, origin);
        let at = |field| origin + field;
        let address: Addr = bytes.get(at(offset_of!(Origin, addr))..)?.get(..16)?.try_into().ok()?;
        let port = bytes.get(at(offset_of!(Origin, port))..)?.get(..2)?.try_into().ok()?;
        let comm = bytes.get(at(offset_of!(Origin, comm))..)?.get(..16)?;
        let comm = comm.split(|b| *b == 0).next().unwrap_or_default();
        Some(Self {
            address: ip(address),
            port: u16::from_ne_bytes(port),
            source: None,
            tgid: u32_at(bytes, at(offset_of!(Origin, tgid))),
            uid: u32_at(bytes, at(offset_of!(Origin, uid))),
            sid: u32_at(bytes, at(offset_of!(Origin, sid))),
            loginuid: u32_at(bytes, at(offset_of!(Origin, loginuid))),
            start_ns: u64_at(bytes, at(offset_of!(Origin, start_ns))),
            cgroup: u64_at(bytes, at(offset_of!(Origin, cgroup))),
            cookie: u64_at(bytes, at(offset_of!(Origin, cookie))),
            time_ns: u64_at(bytes, at(offset_of!(Origin, time_ns))),
            comm: String::from_utf8_lossy(comm).into_owned(),
            road: u32_at(bytes, offset_of!(Raw, road)),
            verdict: u32_at(bytes, offset_of!(Raw, verdict)),
            dropped: u64_at(bytes, offset_of!(Raw, dropped)),
        })
    }

    /// It happened at a guarded port of this host.
    pub(crate) fn is_of_port(&self) -> bool {
        self.road == 20 || (self.road == 21 && self.source.is_some())
    }

    /// It was recognised by what it said.
    pub(crate) fn is_spoken(&self) -> bool {
        matches!(self.road, 31..=33)
    }

    /// As `handover.proto` names it.
    pub(crate) fn road_name(&self) -> &'static str {
        match self.road {
            1 => "connect4",
            2 => "connect6",
            3 => "bind",
            4 => "packet",
            5 => "datagram",
            6 => "device",
            20 => "port",
            21 => "established",
            80 => "packet-socket",
            81 => "signal",
            82 => "trace",
            83 => "pins",
            84 => "mount",
            85 => "bpf",
            86 => "unix-socket",
            87 => "exec",
            88 => "kernel-code",
            89 => "traffic-control",
            30 => "unregistered",
            31 => "spoken-ssh",
            32 => "spoken-postgres",
            33 => "spoken-mysql",
            _ => "unknown",
        }
    }

    /// As `handover.proto` names it.
    pub(crate) fn verdict_name(&self) -> &'static str {
        match self.verdict {
            0x101 => "would-redirect",
            0x102 => "would-deny",
            0x103 => "would-drop",
            0x104 => "would-end",
            1 => "redirected",
            2 => "denied",
            3 => "dropped",
            4 => "ended",
            5 => "observed",
            _ => "unknown",
        }
    }
}

/// A [`Proxy`] as the map keeps it.
pub(crate) fn proxy(p: &Proxy) -> [u8; size_of::<Proxy>()] {
    let mut out = [0; size_of::<Proxy>()];
    out[..8].copy_from_slice(&p.cgroup.to_ne_bytes());
    out[8..16].copy_from_slice(&p.start_ticks.to_ne_bytes());
    out[16..20].copy_from_slice(&p.tgid.to_ne_bytes());
    out
}

/// A [`Listener`] as the map keeps it.
pub(crate) fn listener(l: &Listener) -> [u8; size_of::<Listener>()] {
    let mut out = [0; size_of::<Listener>()];
    out[..8].copy_from_slice(&l.netns.to_ne_bytes());
    out[8..12].copy_from_slice(&l.addr4);
    out[12..28].copy_from_slice(&l.addr6);
    out[28..30].copy_from_slice(&l.port.to_ne_bytes());
    out
}

/// A [`Protection`] as the map keeps it.
pub(crate) fn protection(p: &Protection) -> [u8; size_of::<Protection>()] {
    let mut out = [0; size_of::<Protection>()];
    out[..4].copy_from_slice(&p.target.to_ne_bytes());
    out[4..].copy_from_slice(&p.flags.to_ne_bytes());
    out
}

/// The data of a [`Destination`] behind its prefix length.
pub(crate) type Place = [u8; size_of::<Destination>() - 4];

/// A port and an address as the trie keeps them.
pub(crate) fn place(port: u16, address: Addr) -> Place {
    let mut out = Place::default();
    out[..2].copy_from_slice(&port.to_be_bytes());
    out[2..18].copy_from_slice(&address);
    out
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn layouts_are_those_of_the_abi() {
        assert_eq!((offset_of!(Proxy, start_ticks), offset_of!(Proxy, tgid)), (8, 16));
        assert_eq!((offset_of!(Listener, addr4), offset_of!(Listener, addr6)), (8, 12));
        assert_eq!(offset_of!(Listener, port), 28);
        assert_eq!(size_of::<Place>(), 20);
        let l = Listener { netns: 7, addr4: [127, 0, 0, 1], addr6: [9; 16], port: 15432, pad: 0 };
        assert_eq!(listener(&l)[28..30], 15432u16.to_ne_bytes());
    }

    #[test]
    fn an_event_of_another_size_is_none() {
        assert!(Event::parse(&[0; EVENT - 1]).is_none());
        assert!(Event::parse(&[0; EVENT + 1]).is_none());
        let mut bytes = [0; EVENT];
        bytes[8..24].copy_from_slice(&addr(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5))));
        bytes[24..26].copy_from_slice(&5432u16.to_ne_bytes());
        bytes[88..92].copy_from_slice(b"psql");
        let event = Event::parse(&bytes).unwrap();
        assert_eq!((event.address.to_string().as_str(), event.port), ("10.0.0.5", 5432));
        assert_eq!(event.comm, "psql");
    }
}
