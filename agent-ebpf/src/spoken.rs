//! What a flow to no registered target speaks, by its first bytes: SSH, PostgreSQL and MySQL are refused on any port.
//!
//! The beginning of what a client says is gathered in its socket's storage, over as many packets as it takes, and looked at
//! once; from then on a packet costs one look-up. What is accepted here answers, and is not looked at.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_delete, bpf_sk_storage_get},
};
use sluice_abi::{
    Road, Verdict,
    unregistered::{DENY, OBSERVE},
};

use crate::{
    context::{SOCK_STREAM, read},
    egress::{tell, tell_verdict},
    maps::{FIRST, First, SPOKEN, TELLING, handle},
    packet::{Packet, TCP, load, opens, ports, tagged},
    unregistered,
};

/// States of a [`First`]: nothing is known yet (a new value is zeroed).
const LISTENING: u32 = 0;
/// It speaks something else.
const PASSES: u32 = 1;
/// It was recognised, and says nothing more.
const DENIED: u32 = 2;

/// What the bytes so far say.
#[derive(Clone, Copy)]
enum Said {
    /// It may still become one of them.
    More,
    Other,
    Known(Road),
}

/// `CLIENT_PROTOCOL_41` of MySQL, in the second byte of the flags.
const PROTOCOL_41: u8 = 0x02;
/// Behind flags, greatest packet and character set MySQL's clients send zeros; MariaDB's use the last four of them.
const ZEROS: core::ops::Range<usize> = 13..32;

/// Which protocol begins so.
#[inline(always)]
fn judge(b: &[u8; TELLING], n: usize) -> Said {
    let ssh = *b"SSH-";
    if b[0] == ssh[0] && (n < 2 || b[1] == ssh[1]) && (n < 3 || b[2] == ssh[2]) && (n < 4 || b[3] == ssh[3]) {
        return if n < 4 { Said::More } else { Said::Known(Road::SpokenSsh) };
    }
    // a length under 64 KiB, then 3.x of the protocol, or one of the requests that come before it
    if b[0] == 0 && (n < 2 || b[1] == 0) {
        if n < 8 {
            return Said::More;
        }
        let code = [b[4], b[5], b[6]];
        let starts = [b[4], b[5]] == [0, 3] && b[6] == 0;
        let asks = code == [0x04, 0xd2, 0x16] && matches!(b[7], 0x2e..=0x30);
        if starts || asks {
            return Said::Known(Road::SpokenPostgres);
        }
    }
    // a packet's length (three bytes, little endian) and its number: the client's first is the second of the connection
    if n >= 4 && b[3] != 1 {
        return Said::Other;
    }
    if n < TELLING {
        return Said::More;
    }
    let mut quiet = true;
    for at in ZEROS {
        quiet &= b[at] == 0;
    }
    let long = b[0] >= 32 || b[1] != 0;
    if long && b[2] == 0 && b[5] & PROTOCOL_41 != 0 && quiet {
        return Said::Known(Road::SpokenMysql);
    }
    Said::Other
}

/// The storage of a socket.
#[inline(always)]
pub(crate) fn kept(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut First> {
    // SAFETY: map and socket are live; a new value is zeroed. What comes back is null or the map's value.
    unsafe {
        bpf_sk_storage_get(handle(&FIRST), sk.cast(), core::ptr::null_mut(), flags).cast::<First>().as_mut()
    }
}

/// Whether what it says is of no interest any more.
#[inline(always)]
pub(crate) fn heard(first: &First) -> bool {
    first.state == PASSES || !listens(SPOKEN.get(0).map_or(0, |mode| *mode))
}

#[inline(always)]
fn listens(mode: u32) -> bool {
    mode == DENY || mode == OBSERVE
}

/// A socket connects, perhaps once more: what it said before was said to somebody else.
#[inline(always)]
pub(crate) fn forget(sk: *mut bpf_sock) {
    if !sk.is_null() {
        // SAFETY: map and socket are live.
        unsafe { bpf_sk_storage_delete(handle(&FIRST), sk.cast()) };
    }
}

/// A socket that was accepted: a server of this host may say what it likes.
#[inline(always)]
pub(crate) fn answers(sk: *mut bpf_sock) {
    if sk.is_null() {
        return;
    }
    if let Some(first) = kept(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) {
        first.state = PASSES;
    }
}

/// Takes in what the packet says further; whether it says anything new.
#[inline(always)]
fn gather(skb: *mut __sk_buff, packet: &Packet, payload: u32, length: u32, first: &mut First) -> bool {
    let Some(seq) = load::<4>(skb, packet.offset + 4) else { return false };
    // what comes with a SYN (TCP Fast Open) begins behind it
    let seq = u32::from_be_bytes(seq).wrapping_add(u32::from(opens(skb, packet)));
    if first.count == 0 {
        first.next = seq;
    }
    // bytes at the beginning that came before: a packet that is sent again
    let old = first.next.wrapping_sub(seq);
    if old >= length {
        return false;
    }
    let mut count = first.count as usize;
    let mut at = old;
    for _ in 0..TELLING {
        if count >= TELLING || at >= length {
            break;
        }
        let Some(byte) = load::<1>(skb, payload + at) else { break };
        if let Some(place) = first.bytes.get_mut(count) {
            *place = byte[0];
        }
        count += 1;
        at += 1;
    }
    first.next = seq.wrapping_add(at);
    first.count = count as u32;
    true
}

/// May the packet leave, as far as what it says goes? Everything but the beginning of a client's TCP flow may.
#[inline(always)]
pub(crate) fn pass(skb: *mut __sk_buff, packet: &Packet) -> bool {
    if packet.protocol != TCP || packet.opaque {
        return true;
    }
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return true;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return true;
    }
    // what a raw socket sends belongs to any number of flows
    let stream = read!(sk, type_) == SOCK_STREAM;
    let known = if stream { kept(sk, 0) } else { None };
    if known.as_ref().is_some_and(|first| first.state == PASSES) {
        return true;
    }
    if unregistered::opens(skb, packet) && !tagged(skb) {
        let (_, to) = ports(skb, packet).unwrap_or((0, 0));
        tell(skb, packet, to, Road::Unregistered);
        return unregistered::free(&packet.to);
    }
    let mode = SPOKEN.get(0).map_or(0, |mode| *mode);
    if !listens(mode) {
        return true;
    }
    let Some(words) = load::<1>(skb, packet.offset + 12) else { return true };
    let payload = packet.offset + u32::from(words[0] >> 4) * 4;
    let all = read!(skb, len);
    if !stream || all <= payload {
        return true;
    }
    speaks(skb, packet, (payload, all - payload), mode, sk)
}

/// The packet carries `length` bytes from `payload` on.
#[inline(always)]
fn speaks(
    skb: *mut __sk_buff,
    packet: &Packet,
    (payload, length): (u32, u32),
    mode: u32,
    sk: *mut bpf_sock,
) -> bool {
    // without memory nothing is remembered; nothing of this is what the guard is for in the first place
    let Some(first) = kept(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) else { return true };
    if first.state == DENIED {
        return unregistered::free(&packet.to);
    }
    if tagged(skb) || unregistered::stays(skb, packet) {
        first.state = PASSES;
        return true;
    }
    if !gather(skb, packet, payload, length, first) {
        return true;
    }
    let road = match judge(&first.bytes, first.count as usize) {
        Said::More => return true,
        Said::Other => {
            first.state = PASSES;
            return true;
        }
        Said::Known(road) => road,
    };
    let denied = mode == DENY;
    first.state = if denied { DENIED } else { PASSES };
    let (_, to) = ports(skb, packet).unwrap_or((0, 0));
    let verdict = if denied { Verdict::Dropped } else { Verdict::Observed };
    tell_verdict(skb, packet, to, road, verdict);
    !denied || unregistered::free(&packet.to)
}

const _: () = assert!(LISTENING == 0);
