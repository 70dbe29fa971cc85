//! The second wall around a guarded port of this host: no packet comes to the service's sockets or leaves them but for
//! the proxy's own connections. Holds for what is older than the guard, and where `sk_lookup` was got around.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_fullsock, bpf_sk_storage_get},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use sluice_abi::{CANARY, Road};

use crate::{
    context::{ALLOW, REFUSE, read},
    egress::tell,
    maps::{Flow, LISTENER, OWN, PORTS, TAGS, handle},
    mode,
    packet::{ETH_P_IP, ETH_P_IPV6, Packet, TCP, parse4, parse6, ports, resets},
};

/// 1 where programs that see packets have `bpf_get_netns_cookie` (6.15 and later). Without it the wall does not stand: a
/// container's own service at the same port would be taken for the host's. The loader tries and sets it.
#[unsafe(no_mangle)]
pub static HAS_PACKET_NETNS: u32 = 1;

/// The packet's socket, if it is a whole one; a listener where a handshake is under way.
#[inline(always)]
fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    (!sk.is_null()).then_some(sk)
}

/// The guarded port that the packet's socket sits on without belonging to the proxy.
#[inline(always)]
fn guarded(skb: *mut __sk_buff) -> Option<u16> {
    // SAFETY: a reference to a static; the verifier sees the frozen value and skips the dead branch.
    if unsafe { core::ptr::addr_of!(HAS_PACKET_NETNS).read_volatile() } == 0 {
        return None;
    }
    let sk = socket(skb)?;
    let port = read!(sk, src_port);
    // SAFETY: copied at once.
    let found = unsafe { PORTS.get(&port) }?;
    // where nothing is enforced `lookup.rs` tells who comes
    if mode::passive() {
        return None;
    }
    if found.flags & CANARY != 0 || read!(sk, protocol) != u32::from(TCP) {
        return None;
    }
    // SAFETY: map and socket are live; no value is created.
    if !unsafe { bpf_sk_storage_get(handle(&TAGS), sk.cast(), core::ptr::null_mut(), 0) }.is_null() {
        return None;
    }
    let home = LISTENER.get(0)?.netns;
    // SAFETY: the context of this program.
    (unsafe { bpf_get_netns_cookie(skb.cast()) } == home).then_some(port as u16)
}

/// Is it a packet of one of the proxy's own connections (whose service's end has no tag before it is established)?
#[inline(always)]
fn own(packet: &Packet, from: u16, to: u16, leaves: bool) -> bool {
    let (client, server) = if leaves { (packet.to, packet.from) } else { (packet.from, packet.to) };
    let (client_port, server_port) = if leaves { (to, from) } else { (from, to) };
    let flow = Flow {
        client,
        server,
        client_port: u16::from_be(client_port),
        server_port: u16::from_be(server_port),
    };
    // SAFETY: only whether it is there counts.
    packet.protocol == TCP && unsafe { OWN.get(&flow) }.is_some()
}

/// May the packet pass? The packet of a socket that sits on no guarded port always may.
#[inline(always)]
pub(crate) fn pass(skb: *mut __sk_buff, packet: &Packet, leaves: bool) -> bool {
    let Some(port) = guarded(skb) else { return true };
    let at = ports(skb, packet);
    if at.is_some_and(|(from, to)| own(packet, from, to, leaves)) || (leaves && resets(skb, packet)) {
        return true;
    }
    tell(skb, packet, port.to_be(), Road::Port);
    false
}

/// Every packet that a socket of the guarded cgroup is about to receive.
#[cgroup_skb(ingress)]
pub fn sluice_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    if guarded(skb).is_none() {
        return ALLOW;
    }
    let packet = match u32::from((read!(skb, protocol) as u16).to_be()) {
        ETH_P_IP => parse4(skb, 0),
        ETH_P_IPV6 => parse6(skb, 0),
        _ => None,
    };
    let Some(packet) = packet else { return REFUSE };
    if pass(skb, &packet, false) { ALLOW } else { REFUSE }
}
