//! `getpeername(2)`: the client sees the address that it asked for.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_sk_storage_get, macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use sluice_abi::{NOTED, Origin};

use crate::{
    context::{ALLOW, read, words, write},
    maps::{WANT, handle},
};

/// The record of the socket's connect, if it was redirected.
#[inline(always)]
fn wanted(ctx: *mut bpf_sock_addr) -> Option<&'static Origin> {
    let sk = read!(ctx, __bindgen_anon_1.sk);
    // SAFETY: map and socket are live; no value is created.
    let stored = unsafe { bpf_sk_storage_get(handle(&WANT), sk.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null, or the map's value, which outlives the program's run.
    unsafe { stored.cast::<Origin>().as_ref() }.filter(|origin| origin.flags & NOTED == 0)
}

/// The peer of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn sluice_getpeername4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    if let Some(origin) = wanted(ctx) {
        write!(ctx, words(&origin.addr)[3], user_ip4);
        write!(ctx, u32::from(origin.port.to_be()), user_port);
    }
    ALLOW
}

/// The peer of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn sluice_getpeername6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    if let Some(origin) = wanted(ctx) {
        let addr = words(&origin.addr);
        write!(ctx, addr[0], user_ip6[0]);
        write!(ctx, addr[1], user_ip6[1]);
        write!(ctx, addr[2], user_ip6[2]);
        write!(ctx, addr[3], user_ip6[3]);
        write!(ctx, u32::from(origin.port.to_be()), user_port);
    }
    ALLOW
}
