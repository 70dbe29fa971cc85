//! Is a place protected?

use aya_ebpf::btf_maps::lpm_trie::Key;
use sluice_abi::{Addr, Protection};

use crate::maps::{ADDRESSES, DESTINATIONS, Place};

/// Is the address protected on any port?
#[inline(always)]
pub(crate) fn address(addr: &Addr) -> bool {
    ADDRESSES.get(&Key::new(128, *addr)).is_some()
}

/// The protection of a place: that of its port first, then that of every port.
#[inline(always)]
pub(crate) fn place(addr: &Addr, port_be: u16) -> Option<Protection> {
    if !address(addr) {
        return None;
    }
    let mut key = Key::new(144, Place { port_be, addr: *addr, pad: 0 });
    if let Some(found) = DESTINATIONS.get(&key) {
        return Some(*found);
    }
    key.data.port_be = 0;
    DESTINATIONS.get(&key).copied()
}
