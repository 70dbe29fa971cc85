//! At every network device: packets that no cgroup hook has seen, because no IP socket made them (packet sockets, TUN).
//!
//! The frame itself is read. What its sender says of it (`skb->protocol`) is no proof: a packet socket may say anything.

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_skb_under_cgroup, macros::classifier, programs::TcContext,
};
use sluice_abi::Road;

use crate::{
    egress::tell,
    known,
    maps::{GUARDED, handle},
    mode,
    packet::{ETH_P_IP, ETH_P_IPV6, Packet, goes_to, load, parse4, parse6, ports, tagged},
    protected, unregistered,
};

/// The next program decides (`TCX_NEXT`; `TC_ACT_UNSPEC` of the older hook).
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// Of an Ethernet frame: where its type stands.
const ETHER_TYPE: u32 = 12;
/// IEEE 802.1Q, 802.1ad, and the number that was in use before.
const VLANS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Tags that are looked behind.
const MOST_TAGS: u32 = 4;

/// Written by the loader: the root of cgroup v2 is guarded, so that nobody is outside.
#[unsafe(no_mangle)]
pub static WHOLE_HOST: u32 = 0;

/// Is this a packet of the guarded cgroup? One without a socket (forwarded, or out of a TUN device) is nobody's, which
/// is a matter of the whole host.
#[inline(always)]
fn guarded(skb: *mut __sk_buff) -> bool {
    // SAFETY: a reference to a static.
    if unsafe { core::ptr::addr_of!(WHOLE_HOST).read_volatile() } != 0 {
        return true;
    }
    of_the_guarded(skb)
}

/// Has a socket of the guarded cgroup made it? What this host forwards for others has none.
#[inline(always)]
fn of_the_guarded(skb: *mut __sk_buff) -> bool {
    // SAFETY: context and map of this program; 1: below it, 0: not, an error: no socket.
    unsafe { bpf_skb_under_cgroup(skb, handle(&GUARDED), 0) == 1 }
}

/// Where the IP header of an Ethernet frame begins, and what kind it is.
#[inline(always)]
fn ethernet(skb: *mut __sk_buff) -> Option<(u32, u16)> {
    let mut at = ETHER_TYPE;
    for _ in 0..=MOST_TAGS {
        let kind = u16::from_be_bytes(load::<2>(skb, at)?);
        if !VLANS.contains(&kind) {
            return Some((at + 2, kind));
        }
        at += 4;
    }
    None
}

/// Does it go where only the proxy may go?
#[inline(always)]
fn forbidden(skb: *mut __sk_buff, packet: Option<Packet>) -> bool {
    let Some(packet) = packet else { return false };
    if unregistered::opens(skb, &packet) && !tagged(skb) && of_the_guarded(skb) {
        let (_, to) = ports(skb, &packet).unwrap_or((0, 0));
        tell(skb, &packet, to, Road::Device);
        return !unregistered::free(&packet.to);
    }
    if !protected::address(&packet.to) {
        return false;
    }
    let Some(port) = goes_to(skb, &packet, ports(skb, &packet)) else { return false };
    if tagged(skb) || !guarded(skb) {
        return false;
    }
    tell(skb, &packet, port, Road::Device);
    if !mode::passes(&packet.to, port) {
        return true;
    }
    mode::note(skb);
    false
}

/// Every packet that leaves by a device.
#[classifier]
pub fn sluice_device(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // behind the header of an Ethernet frame; what makes no frames is looked at whole
    if known::passes(skb, ETHER_TYPE + 2) {
        return NEXT;
    }
    let framed = match ethernet(skb) {
        Some((at, kind)) if u32::from(kind) == ETH_P_IP => parse4(skb, at),
        Some((at, kind)) if u32::from(kind) == ETH_P_IPV6 => parse6(skb, at),
        _ => None,
    };
    if forbidden(skb, framed) {
        return DROP;
    }
    // Devices without frames (TUN, PPP, tunnels) begin with the IP header itself.
    let bare = match load::<1>(skb, 0).map(|first| first[0] >> 4) {
        Some(4) => parse4(skb, 0),
        Some(6) => parse6(skb, 0),
        _ => None,
    };
    if forbidden(skb, bare) { DROP } else { NEXT }
}
