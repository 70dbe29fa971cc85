//! Which session a process belongs to, and what it executes.
//!
//! The loader marks the processes that serve a connection; children inherit the mark at fork, before they run. These
//! programs see every process of the system and have no verdict: who is not marked costs one look-up. What can't be
//! noted is counted under the session, so that its record can say what it lacks.

use core::arch::asm;

use aya_ebpf::{
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use sluice_abi::{
    ABI_VERSION,
    lineage::{ARGUMENTS, Executed, Member, NAME, PATH, Session, flag},
};

use crate::{
    maps::{EXECUTED, MEMBERS_OF, TALLIES},
    task::{
        self, OFF_ARG_END, OFF_ARG_START, OFF_DENTRY, OFF_FDPATH, OFF_FILE, OFF_FILENAME, OFF_INODE,
        OFF_INTERPRETER, OFF_LINKS, OFF_LIVE, OFF_MM, OFF_NAME, OFF_PARENT, OFF_TGID, TICK_NS, current,
        field,
    },
};

/// A process has been made and does not run yet.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sluice_fork(ctx: RawTracePointContext) -> i32 {
    let tgid = own();
    let Some(member) = member(tgid) else { return 0 };
    let child: u64 = ctx.arg(1);
    let Some(child_tgid) = field::<u32>(child, &OFF_TGID) else {
        lost_fork(&member.session);
        return 0;
    };
    // a thread is no process
    if child_tgid == tgid {
        return 0;
    }
    let heir = Member { session: member.session, start_ns: task::start_of(child) };
    if MEMBERS_OF.insert(child_tgid, heir, 0).is_err() {
        lost_fork(&member.session);
    }
    0
}

/// A process has begun to run another program.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sluice_exec(ctx: RawTracePointContext) -> i32 {
    let tgid = own();
    let Some(member) = member(tgid) else { return 0 };
    match EXECUTED.reserve(0) {
        Some(mut entry) => {
            // SAFETY: room for a record; every field is written before it is submitted.
            unsafe { describe(entry.as_mut_ptr(), &member, tgid, ctx.arg(2)) };
            entry.submit(0);
        }
        None => {
            if let Some(tally) = TALLIES.get_ptr_mut(member.session) {
                // SAFETY: the map's own cell, aligned to eight.
                unsafe { increase(core::ptr::addr_of_mut!((*tally).records)) };
            }
        }
    }
    0
}

/// A thread has ended; with the last one, its process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sluice_exit(_ctx: RawTracePointContext) -> i32 {
    let tgid = own();
    if MEMBERS_OF.get_ptr(tgid).is_none() {
        return 0;
    }
    let signal: u64 = field(current(), &task::OFF_SIGNAL).unwrap_or(0);
    let last = match field::<i32>(signal, &OFF_LIVE) {
        Some(live) => live <= 0,
        // SAFETY: takes nothing.
        None => (unsafe { bpf_get_current_pid_tgid() }) as u32 == tgid,
    };
    if last {
        // it is there, and nobody else removes it
        let _ = MEMBERS_OF.remove(tgid);
    }
    0
}

#[inline(always)]
fn own() -> u32 {
    // SAFETY: takes nothing.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// The mark of the calling process, unless it is an earlier process's.
#[inline(always)]
pub(crate) fn member(tgid: u32) -> Option<Member> {
    // SAFETY: an entry is written once, before its process runs, or by the loader.
    let member = unsafe { *MEMBERS_OF.get_ptr(tgid)? };
    // the loader knows the start in ticks alone
    (member.start_ns / TICK_NS == task::start_of(current()) / TICK_NS).then_some(member)
}

#[inline(always)]
fn lost_fork(session: &Session) {
    if let Some(tally) = TALLIES.get_ptr_mut(session) {
        // SAFETY: the map's own cell, aligned to eight.
        unsafe { increase(core::ptr::addr_of_mut!((*tally).forks)) };
    }
}

/// # Safety
/// `cell` is a map's own, aligned to eight.
#[inline(always)]
unsafe fn increase(cell: *mut u64) {
    // SAFETY: promised by the caller. The compiler's atomics lack this target's addition.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) cell, in(reg) 1u64) };
}

/// Writes a record in place: the stack has no room for one.
///
/// # Safety
/// `to` points to room for a record.
#[inline(always)]
unsafe fn describe(to: *mut Executed, member: &Member, tgid: u32, program: u64) {
    let parent: u64 = field(current(), &OFF_PARENT).unwrap_or(0);
    let file: u64 = field(program, &OFF_FILE).unwrap_or(0);
    let mut flags = 0;
    if field::<u32>(field(file, &OFF_INODE).unwrap_or(0), &OFF_LINKS) == Some(0) {
        flags |= flag::UNLINKED;
    }
    if field::<u64>(program, &OFF_FDPATH).is_some_and(|path| path != 0) {
        flags |= flag::BY_DESCRIPTOR;
    }
    // SAFETY: promised by the caller; helpers check the addresses that they read from.
    unsafe {
        let (length, more) = arguments(core::ptr::addr_of_mut!((*to).arguments).cast());
        core::ptr::addr_of_mut!((*to).version).write(ABI_VERSION);
        core::ptr::addr_of_mut!((*to).flags).write(flags | more);
        core::ptr::addr_of_mut!((*to).session).write(member.session);
        core::ptr::addr_of_mut!((*to).time_ns).write(bpf_ktime_get_boot_ns());
        core::ptr::addr_of_mut!((*to).start_ns).write(task::start_of(current()));
        core::ptr::addr_of_mut!((*to).pid).write(tgid);
        core::ptr::addr_of_mut!((*to).parent).write(field(parent, &OFF_TGID).unwrap_or(0));
        core::ptr::addr_of_mut!((*to).uid).write(task::real_uid());
        core::ptr::addr_of_mut!((*to).euid).write(task::effective_uid());
        core::ptr::addr_of_mut!((*to).length).write(length);
        core::ptr::addr_of_mut!((*to).pad).write(0);
        let asked = field(program, &OFF_FILENAME).unwrap_or(0);
        text(core::ptr::addr_of_mut!((*to).program).cast(), PATH as u32, asked);
        let interpreter = field(program, &OFF_INTERPRETER).unwrap_or(0);
        text(core::ptr::addr_of_mut!((*to).interpreter).cast(), PATH as u32, interpreter);
        let name = field(field(file, &OFF_DENTRY).unwrap_or(0), &OFF_NAME).unwrap_or(0);
        text(core::ptr::addr_of_mut!((*to).file).cast(), NAME as u32, name);
    }
}

/// A string of the kernel's; empty where it can't be read.
///
/// # Safety
/// `to` points to room for `size` bytes, which is not 0.
#[inline(always)]
unsafe fn text(to: *mut u8, size: u32, from: u64) {
    // SAFETY: promised by the caller; the helper checks the address that it reads from.
    unsafe {
        if from == 0 || bpf_probe_read_kernel_str(to.cast(), size, from as *const _) < 0 {
            to.write(0);
        }
    }
}

/// The arguments as the new program finds them; gives their length, and flags.
///
/// # Safety
/// `to` points to room for [`ARGUMENTS`] bytes.
#[inline(always)]
unsafe fn arguments(to: *mut u8) -> (u32, u32) {
    let mm: u64 = field(current(), &OFF_MM).unwrap_or(0);
    let (start, end) =
        (field::<u64>(mm, &OFF_ARG_START).unwrap_or(0), field::<u64>(mm, &OFF_ARG_END).unwrap_or(0));
    if start == 0 || end < start {
        return (0, flag::UNREADABLE);
    }
    let mut length = end - start;
    let mut more = 0;
    if length > ARGUMENTS as u64 {
        length = ARGUMENTS as u64;
        more = flag::TRUNCATED;
    }
    // SAFETY: promised by the caller; the helper checks the address that it reads from.
    if length == 0 || unsafe { bpf_probe_read_user(to.cast(), length as u32, start as *const _) } == 0 {
        return (length as u32, more);
    }
    (0, flag::UNREADABLE)
}
