//! `sk_lookup`: whoever comes to a guarded port of this host meets the proxy, from wherever it comes and by whatever address.
//!
//! The service keeps its port. What the proxy itself has connected is told by its flow and goes to the service; everything
//! else is given to the proxy's listener, and refused while there is none. Asked for every new connection that a packet of
//! this network namespace asks for, before any listener is looked for; never for one that is established.

use aya_ebpf::{bindings::bpf_sk_lookup, macros::sk_lookup, programs::SkLookupContext};
use sluice_abi::{Addr, CANARY, CANARY_SERVICE, Road, Verdict, seat};

use crate::{
    context::{AF_INET, addr6, mapped, read},
    event::{self, Wanted},
    maps::{Flow, LISTENERS, OWN, PORTS},
    mode,
    packet::TCP,
};

/// `SK_PASS`.
const PASS: u32 = 1;
/// `SK_DROP`: as if nobody listened.
const DROP: u32 = 0;
/// `BPF_SK_LOOKUP_F_REPLACE`: what another program has chosen before does not count.
const REPLACE: u64 = 1;

/// Both ends. All fields are read whichever are meant, as in `origin.rs`.
#[inline(always)]
fn flow(ctx: *mut bpf_sk_lookup, family: u32) -> Flow {
    let (local4, remote4) = (read!(ctx, local_ip4), read!(ctx, remote_ip4));
    let local6 = [
        read!(ctx, local_ip6[0]),
        read!(ctx, local_ip6[1]),
        read!(ctx, local_ip6[2]),
        read!(ctx, local_ip6[3]),
    ];
    let remote6 = [
        read!(ctx, remote_ip6[0]),
        read!(ctx, remote_ip6[1]),
        read!(ctx, remote_ip6[2]),
        read!(ctx, remote_ip6[3]),
    ];
    let either =
        |ip4: u32, ip6: [u32; 4]| -> Addr { if family == AF_INET { mapped(ip4) } else { addr6(ip6) } };
    Flow {
        client: either(remote4, remote6),
        server: either(local4, local6),
        client_port: u16::from_be(read!(ctx, remote_port)),
        server_port: read!(ctx, local_port) as u16,
    }
}

/// Chooses the listener of a new connection.
#[sk_lookup]
pub fn sluice_lookup(ctx: SkLookupContext) -> u32 {
    let lookup = ctx.lookup;
    if read!(lookup, protocol) != u32::from(TCP) {
        return PASS;
    }
    let port = read!(lookup, local_port);
    // SAFETY: copied at once.
    let Some(found) = (unsafe { PORTS.get(&port) }) else { return PASS };
    let canary = found.flags & CANARY != 0;
    let family = read!(lookup, family);
    let flow = flow(lookup, family);
    let seat = if canary {
        if flow.server != mapped(u32::from_ne_bytes(CANARY_SERVICE)) {
            return PASS;
        }
        seat::CANARY
    } else if family == AF_INET {
        seat::IPV4
    } else {
        seat::IPV6
    };
    // SAFETY: only whether it is there counts.
    if unsafe { OWN.get(&flow) }.is_some() {
        return PASS;
    }
    if !canary && mode::passive() {
        let wanted =
            Wanted { family, addr: &flow.server, port_be: flow.server_port.to_be(), cookie: 0, netns: 0 };
        // SAFETY: `tell` gives room for a record.
        event::tell(Road::Port, Verdict::Redirected, |to| unsafe { event::place(to, wanted) });
        return PASS;
    }
    match LISTENERS.redirect_sk_lookup(&ctx, seat, REPLACE) {
        Ok(()) => PASS,
        Err(_) => DROP,
    }
}
