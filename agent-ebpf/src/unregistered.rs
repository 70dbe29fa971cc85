//! Destinations that no target names, at the well-known ports of databases and SSH: refused, or told of.
//!
//! So that no database is reached around Sluice, also one whose protocol it does not speak. What goes to this host itself
//! passes: whether it goes on from here is asked again where it does.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
};
use sluice_abi::{Addr, CANARY_NET, Road, Verdict, unregistered::DENY};

use crate::{
    connect::netns,
    context::{LOOPBACK6, SOCK_STREAM, read},
    event::{self, Wanted},
    maps::{LISTENER, LOCALS, WELL_KNOWN},
    packet::{Packet, TCP, opens as is_syn, ports},
    port::HAS_PACKET_NETNS,
    protected,
};

/// Beginning of an IPv4 address in its mapped form.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Loopback, but for the canary's part of it.
#[inline(always)]
fn loopback(addr: &Addr) -> bool {
    if *addr == LOOPBACK6 {
        return true;
    }
    let four = addr[..12] == MAPPED && addr[12] == 127;
    four && addr[12..15] != CANARY_NET
}

/// Is it an address of this host, seen from a socket in the network namespace `netns`? Another namespace may have the same
/// address elsewhere.
#[inline(always)]
fn local(addr: &Addr, netns: impl FnOnce() -> u64) -> bool {
    if loopback(addr) {
        return true;
    }
    // SAFETY: only whether it is there counts.
    unsafe { LOCALS.get(addr) }.is_some() && LISTENER.get(0).is_some_and(|home| home.netns == netns())
}

/// The same for a packet. Before Linux 6.15 its namespace can't be told, and every one counts as the loader's.
#[inline(always)]
pub(crate) fn stays(skb: *mut __sk_buff, packet: &Packet) -> bool {
    local(&packet.to, || {
        // SAFETY: a reference to a static; the verifier sees the frozen value and skips the dead branch.
        if unsafe { core::ptr::addr_of!(HAS_PACKET_NETNS).read_volatile() } == 0 {
            return LISTENER.get(0).map_or(0, |home| home.netns);
        }
        // SAFETY: the context of this program.
        unsafe { bpf_get_netns_cookie(skb.cast()) }
    })
}

/// What becomes of connections to a port; 0: they pass.
#[inline(always)]
fn mode(port_be: u16) -> u32 {
    let port = u32::from(u16::from_be(port_be));
    // SAFETY: copied at once.
    unsafe { WELL_KNOWN.get(&port) }.map_or(0, |mode| *mode)
}

/// May a connect to what is not protected go on?
#[inline(always)]
pub(crate) fn pass(ctx: *mut bpf_sock_addr, family: u32, addr: &Addr, port_be: u16) -> bool {
    let mode = mode(port_be);
    if mode == 0 || read!(ctx, type_) != SOCK_STREAM || local(addr, || netns(ctx)) {
        return true;
    }
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let wanted = Wanted { family, addr, port_be, cookie, netns: netns(ctx) };
    let denied = mode == DENY;
    let verdict = if denied { Verdict::Denied } else { Verdict::Observed };
    // SAFETY: `tell` gives room for a record.
    event::tell(Road::Unregistered, verdict, |to| unsafe { event::caller(to, wanted) });
    !denied || free(addr)
}

/// Nothing is enforced, but for the canary's part of loopback.
#[inline(always)]
pub(crate) fn free(addr: &Addr) -> bool {
    let canary = addr[..12] == MAPPED && addr[12..15] == CANARY_NET;
    !canary && crate::mode::passive()
}

/// Is this the first segment of a connection that is refused by its port? For what did not come by a connect: raw and packet
/// sockets, and translated addresses.
#[inline(always)]
pub(crate) fn opens(skb: *mut __sk_buff, packet: &Packet) -> bool {
    if packet.protocol != TCP || !is_syn(skb, packet) {
        return false;
    }
    let Some((_, to)) = ports(skb, packet) else { return false };
    // what a target names is told of, and stopped, as such
    mode(to) == DENY && protected::place(&packet.to, to).is_none() && !stays(skb, packet)
}
