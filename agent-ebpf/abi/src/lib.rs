//! What the kernel programs and user space say to each other.
//!
//! Integers only, explicit padding, sizes and offsets asserted. Addresses are always sixteen bytes: IPv4 is
//! kept in its IPv4-mapped form (`::ffff:a.b.c.d`), so that one table and one comparison serve both families.
//! A change of any layout here raises [`ABI_VERSION`]; the loader refuses pinned maps of another version.
#![no_std]

#[cfg(feature = "user")]
extern crate std;

#[cfg(feature = "user")]
pub mod user;

pub mod lineage;
pub mod lsm;

/// Raised by every change of a layout or of a meaning in this file.
pub const ABI_VERSION: u32 = 3;

/// `level` of the getsockopt by which the owner of an accepted socket asks for its [`Origin`].
/// Far from every level that Linux assigns; answered by the `cgroup/getsockopt` program alone.
pub const SOL_SLUICE: i32 = 0x534c;
/// `optname` beside [`SOL_SLUICE`]: the whole [`Origin`] of the connection.
pub const SLUICE_ORIGIN: i32 = 1;

/// An address as the kernel programs keep it: IPv6, or IPv4 in its mapped form. Network byte order.
pub type Addr = [u8; 16];

/// Who connected and where to, as the connect hook saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// [`ABI_VERSION`] of the program that wrote the record.
    pub version: u32,
    /// `AF_INET` (2) or `AF_INET6` (10): the family of the client's socket.
    pub family: u32,
    /// The address that the client asked for.
    pub addr: Addr,
    /// The port that the client asked for, host byte order.
    pub port: u16,
    /// [`NOTED`] or zero.
    pub flags: u16,
    /// Thread group id (what people call the pid), in the initial pid namespace.
    pub tgid: u32,
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Session id (`setsid(2)`), in the initial pid namespace; 0 where the kernel's BTF lacks the way to it.
    pub sid: u32,
    /// Audit login uid; `u32::MAX` where unset or unknown.
    pub loginuid: u32,
    /// Start of the thread group's leader: nanoseconds of `CLOCK_BOOTTIME`, as in field 22 of `/proc/PID/stat`.
    pub start_ns: u64,
    /// Cgroup v2 id of the process.
    pub cgroup: u64,
    /// Cookie of the network namespace of the client's socket; 0 where the kernel has none (before 5.15).
    pub netns: u64,
    /// Cookie of the client's socket.
    pub cookie: u64,
    /// When the connect was seen, nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// `comm` of the task, NUL padded. The task chooses it: for display only.
    pub comm: [u8; 16],
}

/// In [`Origin::flags`]: the connect goes on as it is (ingress), so that the socket's peer is what its caller asked for.
pub const NOTED: u16 = 1;

/// What a kernel program did with a try.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connect was rewritten to the proxy's listener.
    Redirected = 1,
    /// The call was refused with EPERM.
    Denied = 2,
    /// The packet was dropped.
    Dropped = 3,
    /// The connection was ended.
    Ended = 4,
    /// It goes on: it would have been refused, but for the configuration, which only wants to know.
    Observed = 5,
}

/// Added to a [`Verdict`] in [`Event::verdict`]: nothing was enforced, this is what would have been done.
pub const WOULD: u32 = 0x100;

/// What the programs do with what they find, in the map `MODE`.
pub mod mode {
    /// Redirect, refuse, drop. Also what a map says that nobody has written.
    pub const ENFORCE: u32 = 0;
    /// Tell what would be done, and let it pass.
    pub const PASSIVE: u32 = 1;
}

/// Which road a try took.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// `connect(2)`, IPv4 socket.
    Connect4 = 1,
    /// `connect(2)`, IPv6 socket (IPv4-mapped addresses included).
    Connect6 = 2,
    /// `bind(2)` of the proxy's own port.
    Bind = 3,
    /// A packet that left for a protected address without the proxy's tag.
    Packet = 4,
    /// `sendmsg`/`sendto` of a datagram to a protected address.
    Datagram = 5,
    /// A packet that left a device for a protected address although no IP socket made it (packet socket, TUN).
    Device = 6,
    /// A packet from or to a guarded port of this host past the proxy.
    Port = 20,
    /// A connection that is older than what it is protected by.
    Established = 21,
    /// A packet, XDP or raw IP socket; the port is its family.
    PacketSocket = 80,
    /// A signal for the loader or the proxy; the port is its number.
    Signal = 81,
    /// Their memory or descriptors, by ptrace and its kin.
    Trace = 82,
    /// The pinned programs and maps: removed, moved, added to.
    Pins = 83,
    /// A mount over the pins, or their unmounting.
    Mount = 84,
    /// The programs and maps by bpf(2); the port is the command.
    Bpf = 85,
    /// A unix socket of a guarded service.
    UnixSocket = 86,
    /// A program in a judged session that nobody could be asked about.
    Exec = 87,
    /// A kernel module, another kernel, or the kernel's memory.
    KernelCode = 88,
    /// Traffic control, by netlink; the port is the message's type.
    TrafficControl = 89,
    /// A connect to a well-known port of a database or of SSH, where no target is registered.
    Unregistered = 30,
    /// A flow to no registered target that began as SSH does.
    SpokenSsh = 31,
    /// The same of PostgreSQL.
    SpokenPostgres = 32,
    /// The same of MySQL.
    SpokenMysql = 33,
}

/// What becomes of connections to destinations that no target names: the value under a well-known port, and of what is
/// recognised by its first bytes. No entry, or zero: they pass.
pub mod unregistered {
    /// Refused, with an event.
    pub const DENY: u32 = 1;
    /// Told of, and nothing else.
    pub const OBSERVE: u32 = 2;
}

/// One record of the ring buffer: a try, who it was, what became of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who, where to, when. For [`Road::Packet`] the process fields may be 0 (softirq).
    pub origin: Origin,
    /// A [`Road`].
    pub road: u32,
    /// A [`Verdict`].
    pub verdict: u32,
    /// Records that did not fit into the ring before this one, since boot of the programs.
    pub dropped: u64,
}

/// Key of the trie of protected destinations: longest prefix of (port, address).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Bits that count: 16 for the port, plus those of the address (an IPv4 prefix of /24 is 16 + 96 + 24).
    pub prefix_len: u32,
    /// Network byte order; 0 in an entry for every port.
    pub port_be: u16,
    /// See [`Addr`].
    pub addr: Addr,
    /// Zero.
    pub pad: u16,
}

/// What stands under a [`Destination`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Index of the target in the loader's list, for events.
    pub target: u32,
    /// [`CANARY`] or zero.
    pub flags: u32,
}

/// In [`Protection::flags`]: the loader's own test destination. A connect to it is rewritten to [`CANARY_ADDR`] at
/// the proxy's port instead of the proxy's listener, so that a probe never meets the proxy.
pub const CANARY: u32 = 1;

/// Where connects to a [`CANARY`] end: the loader's own listener, for as long as a probe lasts.
pub const CANARY_ADDR: [u8; 4] = [127, 83, 76, 67];

/// The canary's own service, at a port that is in the table of guarded ports with [`CANARY`]: for this address alone.
pub const CANARY_SERVICE: [u8; 4] = [127, 83, 76, 3];

/// Loopback addresses under these three octets are the canary's: they do not count as this host's own where destinations
/// that no target names are refused.
pub const CANARY_NET: [u8; 3] = [127, 83, 76];

/// Where in the table of listeners a guarded port's new connections are taken to.
pub mod seat {
    /// The proxy's listener for IPv4.
    pub const IPV4: u32 = 0;
    /// The proxy's listener for IPv6.
    pub const IPV6: u32 = 1;
    /// The loader's own, for as long as a probe lasts.
    pub const CANARY: u32 = 2;
}

/// A process that the programs make an exception for, written by the loader alone: in one map the proxy (whose
/// upstream sockets pass), in another the loader itself (the only one to bind the proxy's port).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Cgroup v2 id that only the loader puts a process into; 0: any.
    pub cgroup: u64,
    /// Start of the thread group's leader in clock ticks of 10 ms, as field 22 of `/proc/PID/stat` says it (the
    /// loader knows no better); 0 where the kernel's BTF lacks the way to it: not compared.
    pub start_ticks: u64,
    /// Thread group id.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

/// Tag of a socket, in its storage; children of a listener inherit it. A packet of a tagged socket passes the backstop.
pub mod tag {
    /// Connected by the proxy to a protected destination.
    pub const UPSTREAM: u32 = 1;
    /// Bound to the proxy's port by the loader, or accepted there.
    pub const LISTENER: u32 = 2;
    /// Connected by the proxy to a guarded port, and its flow is in the table of own flows.
    pub const OWN: u32 = 3;
    /// The service's end of such a connection.
    pub const SERVICE: u32 = 4;
    /// Connected by anybody from a guarded port as its source: no service's end.
    pub const CLIENT: u32 = 5;
    /// Its way to a protected place was told of while nothing was enforced. Counts for nothing otherwise.
    pub const OBSERVED: u32 = 90;
}

/// Where the programs send what they take. One entry, written by the loader alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Cookie of the network namespace that the listeners live in; connects from elsewhere are refused.
    pub netns: u64,
    /// Listener for IPv4 sockets, network byte order.
    pub addr4: [u8; 4],
    /// Listener for IPv6 sockets, network byte order.
    pub addr6: [u8; 16],
    /// Port of both, host byte order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Origin>() == 104);
    assert!(offset_of!(Origin, port) == 24);
    assert!(offset_of!(Origin, start_ns) == 48);
    assert!(offset_of!(Origin, comm) == 88);
    assert!(size_of::<Event>() == 120);
    assert!(size_of::<Destination>() == 24);
    assert!(size_of::<Proxy>() == 24);
    assert!(size_of::<Listener>() == 32);
};
