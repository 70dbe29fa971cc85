//! Flows that were looked at: a TCP flow that touches nothing of what is guarded is not looked at again until a table changes.
//!
//! What is kept with its socket is where its packets go and the generation of the tables by which that was judged. What must
//! hold: the loader raises the generation after every change of what is protected; a packet that goes elsewhere than its
//! socket's last ones (translated, crafted), one that opens a connection, a fragment and one with options are looked at
//! whole.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
};
use sluice_abi::Addr;

use crate::{
    context::{AF_INET, AF_INET6, SOCK_STREAM, mapped, read},
    maps::{GENERATION, LISTENER, PORTS},
    packet::{Packet, SYN, TCP, load, ports},
    protected, spoken,
};

/// A header of IPv4 without options, and of TCP up to its flags.
const IPV4: usize = 34;
/// The same of IPv6 without extensions.
const IPV6: usize = 54;

/// That of the tables as they are; 0: nothing is remembered. To be read before the tables are.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    // SAFETY: the map's own cell, aligned to eight.
    GENERATION.get_ptr(0).map_or(0, |value| unsafe { value.read_volatile() })
}

/// The TCP socket that a packet comes from.
#[inline(always)]
fn stream(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return None;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() || read!(sk, type_) != SOCK_STREAM {
        return None;
    }
    let family = read!(sk, family);
    (family == AF_INET || family == AF_INET6).then_some(sk)
}

/// Where a plain TCP segment goes, whose header begins at `base`: address, both ports, flags.
#[inline(always)]
fn plain(skb: *mut __sk_buff, base: u32) -> Option<(Addr, [u8; 4], u8)> {
    let h = load::<IPV4>(skb, base)?;
    if h[0] == 0x45 {
        // neither a fragment nor the first of some
        let whole = h[6] & 0x3f == 0 && h[7] == 0;
        let to = mapped(u32::from_ne_bytes([h[16], h[17], h[18], h[19]]));
        return (h[9] == TCP && whole).then_some((to, [h[20], h[21], h[22], h[23]], h[33]));
    }
    if h[0] >> 4 != 6 || h[6] != TCP {
        return None;
    }
    let h = load::<IPV6>(skb, base)?;
    let mut to = [0; 16];
    to.copy_from_slice(&h[24..40]);
    Some((to, [h[40], h[41], h[42], h[43]], h[53]))
}

/// Was this packet's flow looked at, by the tables as they are? Its header begins at `base`.
#[inline(always)]
pub(crate) fn passes(skb: *mut __sk_buff, base: u32) -> bool {
    let Some(sk) = stream(skb) else { return false };
    let Some(first) = spoken::kept(sk, 0) else { return false };
    if first.generation == 0 || first.generation != generation() {
        return false;
    }
    let Some((to, ends, flags)) = plain(skb, base) else { return false };
    flags & SYN == 0 && ends == first.ends && to == first.to
}

/// The packet may leave. Remembers its flow where nothing that is guarded has a part in it.
#[inline(always)]
pub(crate) fn note(skb: *mut __sk_buff, packet: &Packet, generation: u64) {
    if generation == 0 || packet.protocol != TCP || packet.opaque {
        return;
    }
    let Some(sk) = stream(skb) else { return };
    let Some((from, to)) = ports(skb, packet) else { return };
    // SAFETY: only whether it is there counts.
    let guarded = |port: u32| unsafe { PORTS.get(&port) }.is_some();
    let proxys = LISTENER.get(0).is_none_or(|l| l.port.to_be() == from || l.port.to_be() == to);
    if proxys
        || guarded(u32::from(u16::from_be(to)))
        || guarded(read!(sk, src_port))
        || protected::address(&packet.to)
    {
        return;
    }
    // without memory nothing is remembered
    let Some(first) = spoken::kept(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) else { return };
    if !spoken::heard(first) {
        return;
    }
    let (from, to) = (from.to_ne_bytes(), to.to_ne_bytes());
    first.ends = [from[0], from[1], to[0], to[1]];
    first.to = packet.to;
    first.generation = generation;
}
