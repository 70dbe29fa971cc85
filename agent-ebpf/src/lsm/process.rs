//! The loader and the proxy as processes: no signal, no tracer, no limit from anybody else.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::Road;

use super::{PERMIT, arg, guarded, refuse, trust};
use crate::task::{OFF_TGID, field};

const SIGHUP: u32 = 1;
/// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU: who is stopped serves nobody, and is not started again either.
const STOPS: core::ops::RangeInclusive<u32> = 19..=22;
/// `PTRACE_MODE_ATTACH`: whoever wants to read or write memory, registers or descriptors. What `ps` reads is less.
const ATTACH: u32 = 2;

/// Of the loader or the proxy, and not the caller's own.
#[inline(always)]
fn is_ours(other: u64) -> bool {
    (trust::is_loader(other) || trust::is_proxy(other))
        && field::<u32>(other, &OFF_TGID) != Some(trust::own())
}

/// kill(2) and its kin. The service manager ends a unit; SIGHUP asks the loader to read its configuration.
#[lsm(hook = "task_kill")]
pub fn sluice_lsm_kill(ctx: LsmContext) -> i32 {
    let signal = arg(&ctx, 2) as u32;
    if signal == 0 || guarded().is_none() {
        return PERMIT;
    }
    if trust::is_manager() && !STOPS.contains(&signal) {
        return PERMIT;
    }
    let other = arg(&ctx, 0);
    if !is_ours(other) || (signal == SIGHUP && trust::is_loader(other)) {
        return PERMIT;
    }
    refuse(Road::Signal, signal)
}

/// A signal by way of a descriptor's owner (`F_SETOWN`, `F_SETSIG`).
#[lsm(hook = "file_send_sigiotask")]
pub fn sluice_lsm_sigio(ctx: LsmContext) -> i32 {
    if guarded().is_none() || !is_ours(arg(&ctx, 0)) {
        return PERMIT;
    }
    refuse(Road::Signal, arg(&ctx, 2) as u32)
}

/// ptrace(2), `/proc/PID/mem`, process_vm_writev(2), pidfd_getfd(2).
#[lsm(hook = "ptrace_access_check")]
pub fn sluice_lsm_ptrace(ctx: LsmContext) -> i32 {
    if arg(&ctx, 1) as u32 & ATTACH == 0 || guarded().is_none() || !is_ours(arg(&ctx, 0)) {
        return PERMIT;
    }
    refuse(Road::Trace, 0)
}

/// prlimit(2): a limit on processor time kills, one on descriptors blinds.
#[lsm(hook = "task_setrlimit")]
pub fn sluice_lsm_rlimit(ctx: LsmContext) -> i32 {
    if guarded().is_none() || trust::is_manager() || !is_ours(arg(&ctx, 0)) {
        return PERMIT;
    }
    refuse(Road::Trace, 1)
}
