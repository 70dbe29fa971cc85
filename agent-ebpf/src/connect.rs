//! `connect(2)`: to the proxy, or not at all.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::generated::{
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_delete, bpf_sk_storage_get,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use sluice_abi::{Addr, CANARY, CANARY_ADDR, Listener, NOTED, Origin, Protection, Road, Verdict, tag};

use crate::{
    context::{
        AF_INET, AF_INET6, ALLOW, IPPROTO_MPTCP, IPPROTO_TCP, LOOPBACK4, LOOPBACK6, REFUSE, SOCK_DGRAM,
        SOCK_RAW, SOCK_STREAM, addr6, mapped, read, words, write,
    },
    event::{self, Wanted},
    maps::{LISTENER, PORTS, PROXY, TAGS, WANT, handle},
    mode, protected, task, unregistered,
};

/// 1 where the connect hook has `bpf_get_netns_cookie` (5.15 and later, as seen). The loader tries and sets it.
#[unsafe(no_mangle)]
pub static HAS_NETNS_COOKIE: u32 = 1;

/// Cookie of the network namespace of the socket; 0 where the kernel has none.
#[inline(always)]
pub(crate) fn netns(ctx: *mut bpf_sock_addr) -> u64 {
    // SAFETY: a reference to a static; the verifier sees the frozen value and skips the dead branch.
    if unsafe { core::ptr::addr_of!(HAS_NETNS_COOKIE).read_volatile() } == 0 {
        return 0;
    }
    // SAFETY: the context of this program.
    unsafe { bpf_get_netns_cookie(ctx.cast()) }
}

/// What becomes of a connect.
enum Outcome {
    /// Goes on as it is.
    Pass,
    /// EPERM.
    Refuse,
    /// To the proxy's listener.
    Proxy(&'static Listener),
    /// To the loader's own listener, at the proxy's port.
    Canary(&'static Listener),
}

/// Marks the proxy's own socket; without the mark the backstop would drop its packets, so a failure refuses.
#[inline(always)]
fn tag_upstream(ctx: *mut bpf_sock_addr) -> Outcome {
    if mark(ctx, tag::UPSTREAM) { Outcome::Pass } else { Outcome::Refuse }
}

/// Marks a socket; `false` where the kernel has no memory.
#[inline(always)]
fn mark(ctx: *mut bpf_sock_addr, mut value: u32) -> bool {
    let sk = read!(ctx, __bindgen_anon_1.sk);
    // SAFETY: map, socket and value are live; the helper copies the value.
    let stored = unsafe {
        bpf_sk_storage_get(
            handle(&TAGS),
            sk.cast(),
            core::ptr::from_mut(&mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    !stored.is_null()
}

/// Room with the client's socket for what was asked for; `None` where the kernel has no memory.
#[inline(always)]
fn room(ctx: *mut bpf_sock_addr) -> Option<*mut Origin> {
    let sk = read!(ctx, __bindgen_anon_1.sk);
    // SAFETY: map and socket are live; a new value is zeroed.
    let stored = unsafe {
        bpf_sk_storage_get(
            handle(&WANT),
            sk.cast(),
            core::ptr::null_mut(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    (!stored.is_null()).then_some(stored.cast())
}

/// Forgets an older connect of the same socket.
#[inline(always)]
fn forget(ctx: *mut bpf_sock_addr) {
    let sk = read!(ctx, __bindgen_anon_1.sk);
    // SAFETY: map and socket are live.
    unsafe { bpf_sk_storage_delete(handle(&WANT), sk.cast()) };
}

/// The way of a connect to a protected place.
#[inline(always)]
fn steer(ctx: *mut bpf_sock_addr, family: u32, addr: &Addr, port_be: u16, found: Protection) -> Outcome {
    let kind = read!(ctx, type_);
    // Sends nothing: resolvers connect datagram sockets to learn their source address. What is sent is dropped.
    if kind == SOCK_DGRAM || kind == SOCK_RAW {
        return Outcome::Pass;
    }
    let road = if family == AF_INET { Road::Connect4 } else { Road::Connect6 };
    if PROXY.get(0).is_some_and(task::is) {
        return tag_upstream(ctx);
    }
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let wanted = Wanted { family, addr, port_be, cookie, netns: netns(ctx) };
    let protocol = read!(ctx, protocol);
    let ours = kind == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    if found.flags & CANARY == 0 && mode::passive() {
        let verdict = if ours { Verdict::Redirected } else { Verdict::Denied };
        // SAFETY: `tell` gives room for a record.
        event::tell(road, verdict, |to| unsafe { event::caller(to, wanted) });
        // its packets are no further events; without the mark each of them is one
        mark(ctx, tag::OBSERVED);
        return Outcome::Pass;
    }
    let listener = LISTENER.get(0).filter(|l| ours && l.port != 0 && l.netns == wanted.netns);
    let (Some(listener), Some(record)) = (listener, room(ctx)) else {
        // SAFETY: `tell` gives room for a record.
        event::tell(road, Verdict::Denied, |to| unsafe { event::caller(to, wanted) });
        return Outcome::Refuse;
    };
    // SAFETY: the value of the storage, which lives as long as the socket, whose lock the caller holds.
    unsafe { event::caller(record, wanted) };
    // SAFETY: both have the size of a record.
    event::tell(road, Verdict::Redirected, |to| unsafe { to.write(*record) });
    if found.flags & CANARY != 0 { Outcome::Canary(listener) } else { Outcome::Proxy(listener) }
}

/// The way of a connect to what is not protected. A guarded port of this host is reached by the address that was asked for
/// (`lookup.rs` gives it to the proxy); who asks is noted, so that the proxy knows. Without the note the caller is a
/// stranger to it, as somebody from another host or network namespace is.
#[inline(always)]
fn note(ctx: *mut bpf_sock_addr, family: u32, addr: &Addr, port_be: u16) -> i32 {
    if !unregistered::pass(ctx, family, addr, port_be) {
        return REFUSE;
    }
    let port = u32::from(u16::from_be(port_be));
    // SAFETY: only whether it is there counts.
    if unsafe { PORTS.get(&port) }.is_none() {
        forget(ctx);
        return ALLOW;
    }
    let protocol = read!(ctx, protocol);
    let ours = read!(ctx, type_) == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    if ours && PROXY.get(0).is_some_and(task::is) {
        return match tag_upstream(ctx) {
            Outcome::Refuse => REFUSE,
            _ => ALLOW,
        };
    }
    let home = netns(ctx);
    if !ours || LISTENER.get(0).is_none_or(|listener| listener.netns != home) {
        forget(ctx);
        return ALLOW;
    }
    let Some(record) = room(ctx) else { return ALLOW };
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    // SAFETY: the value of the storage, which lives as long as the socket, whose lock the caller holds.
    unsafe {
        event::caller(record, Wanted { family, addr, port_be, cookie, netns: home });
        (*record).flags = NOTED;
    }
    ALLOW
}

/// Redirects connects of IPv4 sockets.
#[cgroup_sock_addr(connect4)]
pub fn sluice_connect4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    let port_be = read!(ctx, user_port) as u16;
    let mut addr = mapped(read!(ctx, user_ip4));
    if read!(ctx, user_ip4) == 0 {
        // The kernel takes the bound source address for 0.0.0.0, and loopback without one.
        let sk = read!(ctx, __bindgen_anon_1.sk);
        let bound = read!(sk, src_ip4);
        addr = if bound == 0 { LOOPBACK4 } else { mapped(bound) };
    }
    let Some(found) = protected::place(&addr, port_be) else {
        return note(ctx, AF_INET, &addr, port_be);
    };
    let (to, port) = match steer(ctx, AF_INET, &addr, port_be, found) {
        Outcome::Pass => {
            forget(ctx);
            return ALLOW;
        }
        Outcome::Refuse => return REFUSE,
        Outcome::Proxy(listener) => (listener.addr4, listener.port),
        Outcome::Canary(listener) => (CANARY_ADDR, listener.port),
    };
    write!(ctx, u32::from_ne_bytes(to), user_ip4);
    write!(ctx, u32::from(port.to_be()), user_port);
    ALLOW
}

/// The places that an address of an IPv6 socket may stand for: usually itself, and for `::` and `::ffff:0.0.0.0`
/// what the kernel makes of them.
#[inline(always)]
fn place6(ctx: *mut bpf_sock_addr, addr: &mut Addr, port_be: u16) -> Option<Protection> {
    let w = words(addr);
    let unspecified = w[0] == 0 && w[1] == 0 && w[3] == 0 && (w[2] == 0 || w[2] == 0xffff_u32.to_be());
    if !unspecified {
        return protected::place(addr, port_be);
    }
    // `::` becomes ::1, or 127.0.0.1 for a socket bound to a mapped address; `::ffff:0.0.0.0` is 0.0.0.0.
    let sk = read!(ctx, __bindgen_anon_1.sk);
    let bound = read!(sk, src_ip4);
    let first = if w[2] == 0 { LOOPBACK6 } else { LOOPBACK4 };
    *addr = first;
    if let Some(found) = protected::place(addr, port_be) {
        return Some(found);
    }
    *addr = if bound == 0 { LOOPBACK4 } else { mapped(bound) };
    protected::place(addr, port_be)
}

/// Redirects connects of IPv6 sockets, to IPv4-mapped addresses too.
#[cgroup_sock_addr(connect6)]
pub fn sluice_connect6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    let port_be = read!(ctx, user_port) as u16;
    let mut addr = addr6([
        read!(ctx, user_ip6[0]),
        read!(ctx, user_ip6[1]),
        read!(ctx, user_ip6[2]),
        read!(ctx, user_ip6[3]),
    ]);
    let Some(found) = place6(ctx, &mut addr, port_be) else {
        return note(ctx, AF_INET6, &addr, port_be);
    };
    let (to, port) = match steer(ctx, AF_INET6, &addr, port_be, found) {
        Outcome::Pass => {
            forget(ctx);
            return ALLOW;
        }
        Outcome::Refuse => return REFUSE,
        // A mapped address stays one: the socket may be bound to a mapped source.
        Outcome::Proxy(l)
            if words(&addr)[2] == 0xffff_u32.to_be() && words(&addr)[0] == 0 && words(&addr)[1] == 0 =>
        {
            (mapped(u32::from_ne_bytes(l.addr4)), l.port)
        }
        Outcome::Proxy(l) => (l.addr6, l.port),
        Outcome::Canary(l) => (mapped(u32::from_ne_bytes(CANARY_ADDR)), l.port),
    };
    let to = words(&to);
    write!(ctx, to[0], user_ip6[0]);
    write!(ctx, to[1], user_ip6[1]);
    write!(ctx, to[2], user_ip6[2]);
    write!(ctx, to[3], user_ip6[3]);
    write!(ctx, u32::from(port.to_be()), user_port);
    ALLOW
}
