//! Is anything enforced at all? Only where the loader has said so in the map `MODE` nothing is: then everything is told
//! as it would be done, and passes. What goes to a canary is enforced in every mode, which proves that the programs see it,
//! and so is the proxy's own port, which nobody else has a use for.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE},
    helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_get},
};
use sluice_abi::{Addr, CANARY, mode, tag};

use crate::{
    context::read,
    maps::{MODE, TAGS, handle},
    protected,
};

/// Nothing is enforced.
#[inline(always)]
pub(crate) fn passive() -> bool {
    MODE.get(0).is_some_and(|mode| *mode == mode::PASSIVE)
}

/// What goes there is let pass.
#[inline(always)]
pub(crate) fn passes(addr: &Addr, port_be: u16) -> bool {
    passive() && protected::place(addr, port_be).is_none_or(|found| found.flags & CANARY == 0)
}

/// Marks the packet's socket as told of, so that its other packets are no events. Nothing depends on it.
#[inline(always)]
pub(crate) fn note(skb: *mut __sk_buff) {
    let sk = read!(skb, __bindgen_anon_2.sk);
    if sk.is_null() {
        return;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return;
    }
    let mut value = tag::OBSERVED;
    // SAFETY: map, socket and value are live; the helper copies the value, and leaves one that is there.
    unsafe {
        bpf_sk_storage_get(
            handle(&TAGS),
            sk.cast(),
            core::ptr::from_mut(&mut value).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
}
