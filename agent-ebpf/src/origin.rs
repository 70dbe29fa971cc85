//! The origin travels from the client's socket to the accepted one, and the proxy asks for it.
//!
//! At the client's SYN its port is known: the record goes under the flow. When the listener's child is established
//! it takes the record out. Nothing is looked up by port alone, and nothing is left behind: a client that closes
//! before it was accepted takes its own record (told by the cookie) away.

use aya_ebpf::{
    bindings::{
        BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock_ops,
    },
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set},
    macros::{cgroup_sockopt, sock_ops},
    programs::{SockOpsContext, SockoptContext},
};
use sluice_abi::{Addr, Origin, SLUICE_ORIGIN, SOL_SLUICE, tag};

use crate::{
    context::{AF_INET, ALLOW, addr6, mapped, read, write},
    maps::{FLOWS, Flow, GOT, OWN, PORTS, TAGS, WANT, handle},
    spoken,
};

/// One of two addresses. Both are read whichever is meant: LLVM would make of a read in each branch one of
/// `context + variable`, which the verifier refuses ("dereference of modified ctx ptr").
#[inline(always)]
fn either(ops: *mut bpf_sock_ops, ip4: u32, ip6: [u32; 4]) -> Addr {
    if read!(ops, family) == AF_INET { mapped(ip4) } else { addr6(ip6) }
}

/// The socket's own end.
#[inline(always)]
fn local(ops: *mut bpf_sock_ops) -> (Addr, u16) {
    let ip4 = read!(ops, local_ip4);
    let ip6 = [
        read!(ops, local_ip6[0]),
        read!(ops, local_ip6[1]),
        read!(ops, local_ip6[2]),
        read!(ops, local_ip6[3]),
    ];
    (either(ops, ip4, ip6), read!(ops, local_port) as u16)
}

/// The socket's other end. The port stands in network order in the upper half of its field.
#[inline(always)]
fn remote(ops: *mut bpf_sock_ops) -> (Addr, u16) {
    let ip4 = read!(ops, remote_ip4);
    let ip6 = [
        read!(ops, remote_ip6[0]),
        read!(ops, remote_ip6[1]),
        read!(ops, remote_ip6[2]),
        read!(ops, remote_ip6[3]),
    ];
    (either(ops, ip4, ip6), u32::from_be(read!(ops, remote_port)) as u16)
}

/// The flow of a client's socket.
#[inline(always)]
fn flow_of_client(ops: *mut bpf_sock_ops) -> Flow {
    let ((client, client_port), (server, server_port)) = (local(ops), remote(ops));
    Flow { client, server, client_port, server_port }
}

/// The flow of an accepted socket.
#[inline(always)]
fn flow_of_server(ops: *mut bpf_sock_ops) -> Flow {
    let ((server, server_port), (client, client_port)) = (local(ops), remote(ops));
    Flow { client, server, client_port, server_port }
}

/// The value of a socket's storage; null where it has none.
#[inline(always)]
fn stored<M, T>(map: &'static M, ops: *mut bpf_sock_ops) -> Option<&'static T> {
    let sk = read!(ops, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    // SAFETY: map and socket are live; no value is created. What comes back is null or the map's value.
    unsafe { bpf_sk_storage_get(handle(map), sk.cast(), core::ptr::null_mut(), 0).cast::<T>().as_ref() }
}

/// Marks a socket, for as long as it lives.
#[inline(always)]
fn mark(ops: *mut bpf_sock_ops, mut value: u32) {
    let sk = read!(ops, __bindgen_anon_2.sk);
    if sk.is_null() {
        return;
    }
    // SAFETY: map, socket and value are live; the helper copies the value where the socket has none.
    unsafe {
        bpf_sk_storage_get(
            handle(&TAGS),
            sk.cast(),
            core::ptr::from_mut(&mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
}

#[inline(always)]
fn is_guarded(port: u16) -> bool {
    // SAFETY: only whether it is there counts.
    unsafe { PORTS.get(&u32::from(port)) }.is_some()
}

/// The proxy's own SYN to a guarded port: with its flow in the table it reaches the service. What does not fit stays a
/// plain upstream socket, whose SYN the backstop drops.
#[inline(always)]
fn own(ops: *mut bpf_sock_ops) {
    let flow = flow_of_client(ops);
    if is_guarded(flow.client_port) {
        mark(ops, tag::CLIENT);
    }
    if !is_guarded(flow.server_port) {
        return;
    }
    let sk = read!(ops, __bindgen_anon_2.sk);
    if sk.is_null() {
        return;
    }
    // SAFETY: map and socket are live; no value is created. What comes back is null or the map's value.
    let Some(kept) = (unsafe {
        bpf_sk_storage_get(handle(&TAGS), sk.cast(), core::ptr::null_mut(), 0).cast::<u32>().as_mut()
    }) else {
        return;
    };
    if *kept != tag::UPSTREAM && *kept != tag::OWN {
        return;
    }
    // SAFETY: the context of this program.
    let cookie = unsafe { bpf_get_socket_cookie(ops.cast()) };
    if OWN.insert(&flow, cookie, 0).is_err() {
        *kept = tag::UPSTREAM;
        return;
    }
    *kept = tag::OWN;
    watch(ops);
}

/// From now on the socket's changes of state are told.
#[inline(always)]
fn watch(ops: *mut bpf_sock_ops) {
    let flags = read!(ops, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG;
    // SAFETY: the context of this program.
    unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
}

/// The client's SYN is about to leave.
#[inline(always)]
fn syn(ops: *mut bpf_sock_ops) {
    spoken::forget(read!(ops, __bindgen_anon_2.sk));
    own(ops);
    let Some(origin) = stored::<_, Origin>(&WANT, ops) else { return };
    let flow = flow_of_client(ops);
    // A failure leaves the accepted socket without an origin: the proxy lets it not in.
    let _ = FLOWS.insert(&flow, origin, 0);
    watch(ops);
}

/// A child of a listener is established.
#[inline(always)]
fn established(ops: *mut bpf_sock_ops) {
    let flow = flow_of_server(ops);
    if stored::<_, u32>(&TAGS, ops).is_none_or(|t| *t != tag::LISTENER) {
        // SAFETY: only whether it is there counts.
        if unsafe { OWN.get(&flow) }.is_some() {
            mark(ops, tag::SERVICE);
        }
        spoken::answers(read!(ops, __bindgen_anon_2.sk));
        return;
    }
    // SAFETY: copied at once; an entry replaced meanwhile belongs to the same four ends.
    let Some(origin) = (unsafe { FLOWS.get(&flow) }) else { return };
    let mut origin = *origin;
    let sk = read!(ops, __bindgen_anon_2.sk);
    if !sk.is_null() {
        // SAFETY: map, socket and value are live; the helper copies the value.
        unsafe {
            bpf_sk_storage_get(
                handle(&GOT),
                sk.cast(),
                core::ptr::from_mut(&mut origin).cast(),
                u64::from(BPF_SK_STORAGE_GET_F_CREATE),
            )
        };
    }
    let _ = FLOWS.remove(&flow);
}

/// A client's socket changes its state.
#[inline(always)]
fn state(ops: *mut bpf_sock_ops) {
    if read!(ops, __bindgen_anon_1.args[1]) != BPF_TCP_CLOSE {
        return;
    }
    let flow = flow_of_client(ops);
    if stored::<_, u32>(&TAGS, ops).is_some_and(|t| *t == tag::OWN) {
        // SAFETY: the context of this program; the value is read at once.
        if unsafe { OWN.get(&flow).is_some_and(|kept| *kept == bpf_get_socket_cookie(ops.cast())) } {
            let _ = OWN.remove(&flow);
        }
        return;
    }
    let Some(origin) = stored::<_, Origin>(&WANT, ops) else { return };
    // SAFETY: one field is read at once.
    if unsafe { FLOWS.get(&flow) }.is_some_and(|kept| kept.cookie == origin.cookie) {
        let _ = FLOWS.remove(&flow);
    }
}

/// Carries the record along the handshake.
#[sock_ops]
pub fn sluice_sockops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    match read!(ops, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => syn(ops),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(ops),
        BPF_SOCK_OPS_STATE_CB => state(ops),
        _ => {}
    }
    1
}

/// Answers the proxy's question about an accepted socket.
#[cgroup_sockopt(getsockopt)]
pub fn sluice_getsockopt(ctx: SockoptContext) -> i32 {
    let ctx = ctx.sockopt;
    if read!(ctx, level) != SOL_SLUICE || read!(ctx, optname) != SLUICE_ORIGIN {
        return ALLOW;
    }
    let sk = read!(ctx, __bindgen_anon_1.sk);
    if sk.is_null() {
        return ALLOW;
    }
    // SAFETY: map and socket are live; no value is created. What comes back is null or the map's value.
    let Some(origin) = (unsafe {
        bpf_sk_storage_get(handle(&GOT), sk.cast(), core::ptr::null_mut(), 0).cast::<Origin>().as_ref()
    }) else {
        return ALLOW;
    };
    let out = read!(ctx, __bindgen_anon_2.optval).cast::<Origin>();
    let end = read!(ctx, __bindgen_anon_3.optval_end).cast::<Origin>();
    if out.wrapping_add(1) > end {
        return ALLOW;
    }
    // SAFETY: the line above leaves room for one record; the kernel allocates such a buffer aligned.
    unsafe { out.write(*origin) };
    write!(ctx, core::mem::size_of::<Origin>() as i32, optlen);
    write!(ctx, 0, retval);
    ALLOW
}
