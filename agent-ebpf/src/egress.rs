//! The backstop: whatever made a packet (a raw socket, a translated address, a socket from before the guard), it
//! does not leave for a protected place unless its socket carries the proxy's tag.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_get_socket_uid, bpf_skb_cgroup_id},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use sluice_abi::{Listener, Road, Verdict, tag};

use crate::{
    context::{ALLOW, REFUSE, mapped, read},
    event::{self, Wanted},
    known,
    maps::{LISTENER, PORTS},
    mode,
    packet::{
        ETH_P_IP, ETH_P_IPV6, Packet, TCP, goes_to, opens, parse4, parse6, ports, resets, tag_of, tagged,
    },
    port, protected, spoken,
};

/// A dropped packet's record. The current task may be any (softirq), so the socket's word stands alone.
#[inline(always)]
pub(crate) fn tell(skb: *mut __sk_buff, packet: &Packet, port_be: u16, road: Road) {
    tell_verdict(skb, packet, port_be, road, Verdict::Dropped);
}

/// The same of a packet that may have passed.
#[inline(always)]
pub(crate) fn tell_verdict(skb: *mut __sk_buff, packet: &Packet, port_be: u16, road: Road, verdict: Verdict) {
    // SAFETY: the context of this program, in all three.
    let (uid, cookie, cgroup) =
        unsafe { (bpf_get_socket_uid(skb), bpf_get_socket_cookie(skb.cast()), bpf_skb_cgroup_id(skb)) };
    let wanted = Wanted { family: packet.family, addr: &packet.to, port_be, cookie, netns: 0 };
    // SAFETY: `tell` gives room for a record, and the first line fills it.
    event::tell(road, verdict, |to| unsafe {
        event::place(to, wanted);
        (*to).uid = uid;
        (*to).cgroup = cgroup;
    });
}

/// Is the packet one of a client to the proxy's listener (which may itself lie on a protected address)?
#[inline(always)]
fn to_listener(packet: &Packet, port_be: u16, listener: &Listener) -> bool {
    packet.protocol == TCP
        && port_be == listener.port.to_be()
        && (packet.to == listener.addr6 || packet.to == mapped(u32::from_ne_bytes(listener.addr4)))
}

/// May the packet leave?
#[inline(always)]
fn pass(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let ports = ports(skb, packet);
    let (from, to) = ports.unwrap_or((0, 0));
    let listener = LISTENER.get(0);
    // Nobody answers in the proxy's place: an impostor's listener (bound by narrowing the range of automatic
    // ports, say) never gets a handshake done.
    if packet.protocol == TCP
        && from != 0
        && listener.is_some_and(|l| l.port.to_be() == from)
        && !tagged(skb)
        && !resets(skb, packet)
    {
        tell(skb, packet, from, Road::Bind);
        return false;
    }
    // The proxy's own connect to a guarded port whose flow could not be noted: it would come back to the proxy itself.
    let guarded = u32::from(u16::from_be(to));
    // SAFETY: only whether it is there counts.
    if unsafe { PORTS.get(&guarded) }.is_some() && tag_of(skb) == tag::UPSTREAM && opens(skb, packet) {
        tell(skb, packet, to, Road::Port);
        return false;
    }
    if !port::pass(skb, packet, true) {
        return false;
    }
    if !protected::address(&packet.to) || tagged(skb) {
        return true;
    }
    if listener.is_some_and(|l| !packet.opaque && to_listener(packet, to, l)) {
        return true;
    }
    let Some(port) = goes_to(skb, packet, ports) else { return true };
    tell(skb, packet, port, Road::Packet);
    if !mode::passes(&packet.to, port) {
        return false;
    }
    mode::note(skb);
    true
}

/// Every packet that a process of the guarded cgroup sends.
#[cgroup_skb(egress)]
pub fn sluice_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    if known::passes(skb, 0) {
        return ALLOW;
    }
    let generation = known::generation();
    let packet = match u32::from((read!(skb, protocol) as u16).to_be()) {
        ETH_P_IP => parse4(skb, 0),
        ETH_P_IPV6 => parse6(skb, 0),
        _ => return ALLOW,
    };
    // Too short for its own header: nothing that could arrive.
    let Some(packet) = packet else { return REFUSE };
    if !pass(skb, &packet) || !spoken::pass(skb, &packet) {
        return REFUSE;
    }
    known::note(skb, &packet, generation);
    ALLOW
}
