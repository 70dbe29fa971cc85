//! The backstop: whatever made a packet (a raw socket, a translated address, a socket from before the guard), it
//! does not leave for a protected place unless its socket carries the proxy's tag.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{
        bpf_get_socket_cookie, bpf_get_socket_uid, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_cgroup_id,
        bpf_skb_load_bytes,
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use sluice_abi::{Addr, Listener, Road, Verdict};

use crate::{
    context::{AF_INET, AF_INET6, ALLOW, REFUSE, mapped, read},
    event::{self, Wanted},
    maps::{LISTENER, TAGS, handle},
    protected,
};

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// TCP's RST bit, in the byte of the flags.
const RST: u8 = 4;

/// What the headers of a packet say.
struct Packet {
    family: u32,
    to: Addr,
    /// Protocol behind the IP header and its extensions.
    protocol: u8,
    /// Where that begins.
    offset: u32,
    /// A fragment, or extensions that can't be followed: the ports are not to be trusted.
    opaque: bool,
}

/// Reads a piece of the packet; `None` where it ends before.
#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the helper checks the offset; the size is that of `bytes`.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(bytes)
}

/// An IPv4 packet's headers.
#[inline(always)]
fn parse4(skb: *mut __sk_buff) -> Option<Packet> {
    let h = load::<20>(skb, 0)?;
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    Some(Packet {
        family: AF_INET,
        to: mapped(u32::from_ne_bytes([h[16], h[17], h[18], h[19]])),
        protocol: h[9],
        offset: u32::from(h[0] & 0x0f) * 4,
        // More fragments follow, or this is not the first: the kernel's own are made behind this hook.
        opaque: fragment & 0x3fff != 0,
    })
}

/// An IPv6 packet's headers, over at most six extensions.
#[inline(always)]
fn parse6(skb: *mut __sk_buff) -> Option<Packet> {
    let h = load::<40>(skb, 0)?;
    let mut to = [0; 16];
    to.copy_from_slice(&h[24..40]);
    let mut packet = Packet { family: AF_INET6, to, protocol: h[6], offset: 40, opaque: false };
    for _ in 0..6 {
        match packet.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let Some(e) = load::<2>(skb, packet.offset) else {
                    packet.opaque = true;
                    return Some(packet);
                };
                packet.protocol = e[0];
                packet.offset += (u32::from(e[1]) + 1) * 8;
            }
            FRAGMENT | AUTHENTICATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                packet.opaque = true;
                return Some(packet);
            }
            _ => return Some(packet),
        }
    }
    packet.opaque = matches!(packet.protocol, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT);
    Some(packet)
}

/// Does the packet come from a socket of the proxy or of its listener?
#[inline(always)]
fn tagged(skb: *mut __sk_buff) -> bool {
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return false;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return false;
    }
    // SAFETY: map and socket are live; no value is created.
    !unsafe { bpf_sk_storage_get(handle(&TAGS), sk.cast(), core::ptr::null_mut(), 0) }.is_null()
}

/// A TCP segment that only resets: it carries nothing, and it ends what the guard does not want to last.
#[inline(always)]
fn resets(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let Some(b) = load::<2>(skb, packet.offset + 12) else { return false };
    let payload = packet.offset + u32::from(b[0] >> 4) * 4;
    packet.protocol == TCP && b[1] & RST != 0 && read!(skb, len) == payload
}

/// A dropped packet's record. The current task may be any (softirq), so the socket's word stands alone.
#[inline(always)]
fn tell(skb: *mut __sk_buff, packet: &Packet, port_be: u16, road: Road) {
    // SAFETY: the context of this program, in all three.
    let (uid, cookie, cgroup) =
        unsafe { (bpf_get_socket_uid(skb), bpf_get_socket_cookie(skb.cast()), bpf_skb_cgroup_id(skb)) };
    let wanted = Wanted { family: packet.family, addr: &packet.to, port_be, cookie, netns: 0 };
    // SAFETY: `tell` gives room for a record, and the first line fills it.
    event::tell(road, Verdict::Dropped, |to| unsafe {
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
    let ports = if packet.opaque { None } else { load::<4>(skb, packet.offset) };
    let from = ports.map_or(0, |p| u16::from_ne_bytes([p[0], p[1]]));
    let to = ports.map_or(0, |p| u16::from_ne_bytes([p[2], p[3]]));
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
    if !protected::address(&packet.to) || tagged(skb) {
        return true;
    }
    let known = matches!(packet.protocol, TCP | UDP | DCCP | SCTP | UDPLITE);
    if packet.opaque || (known && ports.is_none()) {
        tell(skb, packet, 0, Road::Packet);
        return false;
    }
    if !known
        || protected::place(&packet.to, to).is_none()
        || listener.is_some_and(|l| to_listener(packet, to, l))
        || resets(skb, packet)
    {
        return true;
    }
    tell(skb, packet, to, Road::Packet);
    false
}

/// Every packet that a process of the guarded cgroup sends.
#[cgroup_skb(egress)]
pub fn sluice_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let packet = match u32::from((read!(skb, protocol) as u16).to_be()) {
        ETH_P_IP => parse4(skb),
        ETH_P_IPV6 => parse6(skb),
        _ => return ALLOW,
    };
    // Too short for its own header: nothing that could arrive.
    let Some(packet) = packet else { return REFUSE };
    if pass(skb, &packet) { ALLOW } else { REFUSE }
}
