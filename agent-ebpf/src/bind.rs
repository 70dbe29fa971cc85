//! `bind(2)`: the proxy's port belongs to the loader, also while nobody listens there.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use sluice_abi::{Addr, Road, Verdict, tag};

use crate::{
    connect::netns,
    context::{AF_INET, AF_INET6, ALLOW, REFUSE, SOCK_DGRAM, SOCK_RAW, addr6, mapped, read},
    event::{self, Wanted},
    maps::{BINDER, HOME, LISTENER, TAGS, handle},
    task,
};

/// Refuses, or marks the loader's own listener, whose children inherit the mark.
#[inline(always)]
fn judge(ctx: *mut bpf_sock_addr, family: u32, addr: &Addr) -> i32 {
    let port_be = read!(ctx, user_port) as u16;
    let kind = read!(ctx, type_);
    let Some(listener) = LISTENER.get(0) else { return ALLOW };
    // Datagrams and raw sockets accept no connection; a port of 0 is left to the kernel, which keeps clear of the
    // listener's (it is reserved), and an impostor's SYN-ACK from there would be dropped by the backstop.
    if port_be == 0 || listener.port.to_be() != port_be || kind == SOCK_DGRAM || kind == SOCK_RAW {
        return ALLOW;
    }
    if BINDER.get(0).is_some_and(task::is) {
        let Some(home) = HOME.get_ptr_mut(0) else { return REFUSE };
        // SAFETY: the map's own cell; the loader alone comes here, one bind after the other.
        unsafe { home.write_volatile(netns(ctx)) };
        let mut value = tag::LISTENER;
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
        return if stored.is_null() { REFUSE } else { ALLOW };
    }
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    let wanted = Wanted { family, addr, port_be, cookie, netns: 0 };
    // SAFETY: `tell` gives room for a record.
    event::tell(Road::Bind, Verdict::Denied, |to| unsafe { event::caller(to, wanted) });
    REFUSE
}

/// Guards the proxy's port against IPv4 sockets.
#[cgroup_sock_addr(bind4)]
pub fn sluice_bind4(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    judge(ctx, AF_INET, &mapped(read!(ctx, user_ip4)))
}

/// Guards the proxy's port against IPv6 sockets.
#[cgroup_sock_addr(bind6)]
pub fn sluice_bind6(ctx: SockAddrContext) -> i32 {
    let ctx = ctx.sock_addr;
    let addr = addr6([
        read!(ctx, user_ip6[0]),
        read!(ctx, user_ip6[1]),
        read!(ctx, user_ip6[2]),
        read!(ctx, user_ip6[3]),
    ]);
    judge(ctx, AF_INET6, &addr)
}
