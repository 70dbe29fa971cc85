//! What the headers of a packet say, wherever in it they begin.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_load_bytes},
};
use sluice_abi::{Addr, tag};

use crate::{
    context::{AF_INET, AF_INET6, mapped, read},
    maps::{TAGS, handle},
    mode, protected,
};

pub(crate) const ETH_P_IP: u32 = 0x0800;
pub(crate) const ETH_P_IPV6: u32 = 0x86dd;

pub(crate) const TCP: u8 = 6;
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

/// TCP's bits, in the byte of the flags.
pub(crate) const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What the headers of a packet say.
pub(crate) struct Packet {
    pub family: u32,
    pub from: Addr,
    pub to: Addr,
    /// Protocol behind the IP header and its extensions.
    pub protocol: u8,
    /// Where that begins.
    pub offset: u32,
    /// A fragment, or extensions that can't be followed: the ports are not to be trusted.
    pub opaque: bool,
}

/// Reads a piece of the packet; `None` where it ends before.
#[inline(always)]
pub(crate) fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the helper checks the offset; the size is that of `bytes`.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(bytes)
}

/// The headers of an IPv4 packet that begins at `base`.
#[inline(always)]
pub(crate) fn parse4(skb: *mut __sk_buff, base: u32) -> Option<Packet> {
    let h = load::<20>(skb, base)?;
    let fragment = u16::from_be_bytes([h[6], h[7]]);
    Some(Packet {
        family: AF_INET,
        from: mapped(u32::from_ne_bytes([h[12], h[13], h[14], h[15]])),
        to: mapped(u32::from_ne_bytes([h[16], h[17], h[18], h[19]])),
        protocol: h[9],
        offset: base + u32::from(h[0] & 0x0f) * 4,
        // More fragments follow, or this is not the first: the kernel's own are made behind this hook.
        opaque: fragment & 0x3fff != 0,
    })
}

/// The headers of an IPv6 packet that begins at `base`, over at most six extensions.
#[inline(always)]
pub(crate) fn parse6(skb: *mut __sk_buff, base: u32) -> Option<Packet> {
    let h = load::<40>(skb, base)?;
    let (mut from, mut to) = ([0; 16], [0; 16]);
    from.copy_from_slice(&h[8..24]);
    to.copy_from_slice(&h[24..40]);
    let mut packet = Packet { family: AF_INET6, from, to, protocol: h[6], offset: base + 40, opaque: false };
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

/// The tag of the packet's socket; 0 where it has none.
#[inline(always)]
pub(crate) fn tag_of(skb: *mut __sk_buff) -> u32 {
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return 0;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: map and socket are live; no value is created. What comes back is null or the map's value.
    unsafe {
        bpf_sk_storage_get(handle(&TAGS), sk.cast(), core::ptr::null_mut(), 0)
            .cast::<u32>()
            .as_ref()
            .map_or(0, |tag| *tag)
    }
}

/// Does the packet come from a socket of the proxy or of its listener?
#[inline(always)]
pub(crate) fn tagged(skb: *mut __sk_buff) -> bool {
    match tag_of(skb) {
        tag::UPSTREAM | tag::LISTENER | tag::OWN => true,
        tag::OBSERVED => mode::passive(),
        _ => false,
    }
}

/// The first segment of a handshake.
#[inline(always)]
pub(crate) fn opens(skb: *mut __sk_buff, packet: &Packet) -> bool {
    packet.protocol == TCP
        && load::<1>(skb, packet.offset + 13).is_some_and(|flags| flags[0] & (SYN | ACK) == SYN)
}

/// A TCP segment that only resets: it carries nothing, and it ends what the guard does not want to last.
#[inline(always)]
pub(crate) fn resets(skb: *mut __sk_buff, packet: &Packet) -> bool {
    let Some(b) = load::<2>(skb, packet.offset + 12) else { return false };
    let payload = packet.offset + u32::from(b[0] >> 4) * 4;
    packet.protocol == TCP && b[1] & RST != 0 && read!(skb, len) == payload
}

/// The ports of a packet, network byte order; `None` where they can't be told.
#[inline(always)]
pub(crate) fn ports(skb: *mut __sk_buff, packet: &Packet) -> Option<(u16, u16)> {
    if packet.opaque {
        return None;
    }
    let p = load::<4>(skb, packet.offset)?;
    Some((u16::from_ne_bytes([p[0], p[1]]), u16::from_ne_bytes([p[2], p[3]])))
}

/// Is this a packet to what is protected, as far as its headers say? The port that it goes to, 0 where that can't be
/// told; `None`: it is not.
#[inline(always)]
pub(crate) fn goes_to(skb: *mut __sk_buff, packet: &Packet, ports: Option<(u16, u16)>) -> Option<u16> {
    let known = matches!(packet.protocol, TCP | UDP | DCCP | SCTP | UDPLITE);
    if packet.opaque || (known && ports.is_none()) {
        return Some(0);
    }
    let (_, to) = ports?;
    if !known || protected::place(&packet.to, to).is_none() || resets(skb, packet) {
        return None;
    }
    Some(to)
}
