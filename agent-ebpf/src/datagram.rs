//! `sendmsg(2)` of datagrams with an address: nothing goes to a protected place.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_socket_cookie, macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use sluice_abi::{Addr, Road, Verdict};

use crate::{
    context::{AF_INET, AF_INET6, ALLOW, LOOPBACK4, LOOPBACK6, REFUSE, addr6, mapped, read},
    event::{self, Wanted},
    mode, protected,
};

/// Refuses what goes to a protected place.
#[inline(always)]
fn judge(ctx: *mut bpf_sock_addr, family: u32, addr: &Addr) -> i32 {
    let port_be = read!(ctx, user_port) as u16;
    if protected::place(addr, port_be).is_none() {
        return ALLOW;
    }
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let wanted = Wanted { family, addr, port_be, cookie, netns: 0 };
    // SAFETY: `tell` gives room for a record.
    event::tell(Road::Datagram, Verdict::Denied, |to| unsafe { event::caller(to, wanted) });
    if mode::passes(addr, port_be) { ALLOW } else { REFUSE }
}

/// Datagrams of IPv4 sockets.
#[cgroup_sock_addr(sendmsg4)]
pub fn sluice_sendmsg4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    let ip = read!(ctx, user_ip4);
    judge(ctx, AF_INET, &if ip == 0 { LOOPBACK4 } else { mapped(ip) })
}

/// Datagrams of IPv6 sockets.
#[cgroup_sock_addr(sendmsg6)]
pub fn sluice_sendmsg6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    let w =
        [read!(ctx, user_ip6[0]), read!(ctx, user_ip6[1]), read!(ctx, user_ip6[2]), read!(ctx, user_ip6[3])];
    let unspecified = w[0] == 0 && w[1] == 0 && w[2] == 0 && w[3] == 0;
    judge(ctx, AF_INET6, &if unspecified { LOOPBACK6 } else { addr6(w) })
}
