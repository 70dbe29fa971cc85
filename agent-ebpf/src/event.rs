//! A record of the ring for every try, and a count of those that did not fit.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use sluice_abi::{ABI_VERSION, Addr, Origin, Road, Verdict, WOULD};

use crate::{
    maps::{DROPPED, EVENTS},
    mode, task,
};

/// A place that somebody wants to reach.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Family of the socket.
    pub family: u32,
    /// Where to.
    pub addr: &'a Addr,
    /// Network byte order.
    pub port_be: u16,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Cookie of its network namespace.
    pub netns: u64,
}

/// Writes a record that knows the place alone, where it is to stay: the stack has no room for copies.
///
/// # Safety
/// `to` points to room for a record.
#[inline(always)]
pub(crate) unsafe fn place(to: *mut Origin, wanted: Wanted<'_>) {
    // SAFETY: promised by the caller; the helper takes nothing.
    unsafe {
        to.write(Origin {
            version: ABI_VERSION,
            family: wanted.family,
            addr: *wanted.addr,
            port: u16::from_be(wanted.port_be),
            flags: 0,
            tgid: 0,
            tid: 0,
            uid: u32::MAX,
            sid: 0,
            loginuid: u32::MAX,
            start_ns: 0,
            cgroup: 0,
            netns: wanted.netns,
            cookie: wanted.cookie,
            time_ns: bpf_ktime_get_boot_ns(),
            comm: [0; 16],
        });
    }
}

/// Writes a record with the calling process, where it is to stay.
///
/// # Safety
/// `to` points to room for a record.
#[inline(always)]
pub(crate) unsafe fn caller(to: *mut Origin, wanted: Wanted<'_>) {
    // SAFETY: promised by the caller; initialised by the first line.
    unsafe {
        place(to, wanted);
        task::describe(&mut *to);
    }
}

/// Tells the loader; `fill` writes the record in place. A full ring raises the counter that the next record carries.
#[inline(always)]
pub(crate) fn tell(road: Road, verdict: Verdict, fill: impl FnOnce(*mut Origin)) {
    let Some(dropped) = DROPPED.get_ptr_mut(0) else { return };
    match EVENTS.reserve(0) {
        Some(mut entry) => {
            let event = entry.as_mut_ptr();
            // the proxy's own port is kept in every mode, and so is the agent itself
            let always = matches!(
                road,
                Road::Bind | Road::Signal | Road::Trace | Road::Pins | Road::Mount | Road::Bpf | Road::Exec
            );
            let would = if !always && mode::passive() { WOULD } else { 0 };
            // SAFETY: room for an event; every field is written before it is submitted.
            unsafe {
                fill(core::ptr::addr_of_mut!((*event).origin));
                core::ptr::addr_of_mut!((*event).road).write(road as u32);
                core::ptr::addr_of_mut!((*event).verdict).write(verdict as u32 | would);
                core::ptr::addr_of_mut!((*event).dropped).write(dropped.read_volatile());
            }
            entry.submit(0);
        }
        None => {
            // SAFETY: the map's own cell, aligned to eight. The compiler's atomics lack this target's addition.
            unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) dropped, in(reg) 1u64) };
        }
    }
}
