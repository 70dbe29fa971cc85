//! Who is trusted: the loader, and the next one.
//!
//! The running loader has registered itself. The next one, which takes over after an upgrade or a crash, is known by how
//! it was started: by the service manager's own fork (pid 1), from a file of the loader's name in the directory that the
//! last loader ran from, which is root's and nobody else may write, and by nobody traced. Whoever can replace that file or
//! write units of the service manager decides what the next loader is: that is the road of an upgrade, and stays open to
//! root. A proxy that the service manager starts is known in the same way: it is not trusted with anything, but left alone by
//! everybody from its start on, so that the loader lets in what the service manager has started and nobody has changed.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_kernel_str},
    macros::{lsm, raw_tracepoint},
    programs::{LsmContext, RawTracePointContext},
};
use sluice_abi::{
    Proxy,
    lsm::{LOADER, PROXY as PROXY_NAME},
};

use super::{PERMIT, arg, inode, inode_of_dentry};
use crate::{
    maps::{BINDER, HOLDER, LSM_CHILDREN, LSM_HOME, LSM_LOADERS, LSM_PROXIES, PROXY},
    task::{
        self, OFF_DENTRY, OFF_DENTRY_PARENT, OFF_EXE_FILE, OFF_FILE, OFF_INODE, OFF_LINKS, OFF_LIVE, OFF_MM,
        OFF_MODE, OFF_NAME, OFF_OWNER, OFF_SIGNAL, OFF_TGID, OFF_TRACED, current, field,
    },
};

/// The service manager's process.
const MANAGER: u32 = 1;
/// Writable by its group or others.
const OTHERS_WRITE: u16 = 0o022;

/// The caller's process.
#[inline(always)]
pub(super) fn own() -> u32 {
    // SAFETY: takes nothing.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// A loader: the registered one, or one that the service manager has just started.
#[inline(always)]
pub(super) fn trusted() -> bool {
    if BINDER.get(0).is_some_and(task::is) {
        return true;
    }
    let Some(start) = LSM_LOADERS.get_ptr(own()) else { return false };
    // SAFETY: the map's own value, which is written once.
    unsafe { *start == task::start_of(current()) }
}

/// Pid 1.
#[inline(always)]
pub(super) fn is_manager() -> bool {
    own() == MANAGER
}

/// Whether a task is of the loader.
#[inline(always)]
pub(super) fn is_loader(other: u64) -> bool {
    if BINDER.get(0).is_some_and(|loader| task::is_of(other, loader)) {
        return true;
    }
    let Some(tgid) = field::<u32>(other, &OFF_TGID) else { return false };
    let Some(start) = LSM_LOADERS.get_ptr(tgid) else { return false };
    // SAFETY: the map's own value, which is written once.
    unsafe { *start == task::start_of(other) }
}

/// Whether a task is of the proxy, or of one that the loader has not let in yet.
#[inline(always)]
pub(super) fn is_proxy(other: u64) -> bool {
    if PROXY.get(0).is_some_and(|proxy| task::is_of(other, proxy)) {
        return true;
    }
    let Some(tgid) = field::<u32>(other, &OFF_TGID) else { return false };
    let Some(start) = LSM_PROXIES.get_ptr(tgid) else { return false };
    // SAFETY: the map's own value, which is written once.
    unsafe { *start == task::start_of(other) }
}

/// Notes where the loader runs from, in the kernel's own terms. To be called by the loader's own process.
#[inline(always)]
pub(super) fn learn_home() {
    let mm: u64 = field(current(), &OFF_MM).unwrap_or(0);
    let file: u64 = field(mm, &OFF_EXE_FILE).unwrap_or(0);
    let dentry: u64 = field(file, &OFF_DENTRY).unwrap_or(0);
    let Some(home) = inode_of_dentry(field(dentry, &OFF_DENTRY_PARENT).unwrap_or(0)) else { return };
    if let Some(cell) = LSM_HOME.get_ptr_mut(0) {
        // SAFETY: the map's own cell; the loader alone comes here.
        unsafe { cell.write_volatile(home) };
    }
}

/// The service manager makes processes.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sluice_lsm_fork(ctx: RawTracePointContext) -> i32 {
    if own() != MANAGER {
        return 0;
    }
    let child: u64 = ctx.arg(1);
    if let Some(tgid) = field::<u32>(child, &OFF_TGID).filter(|tgid| *tgid != MANAGER) {
        // one that does not fit is no loader
        let _ = LSM_CHILDREN.insert(&tgid, task::start_of(child), 0);
    }
    0
}

/// The loader that answers for judged sessions ends, before its descriptors are closed.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sluice_lsm_exit(_ctx: RawTracePointContext) -> i32 {
    let Some(holder) = HOLDER.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's own cell.
    let registered = unsafe { holder.read_volatile() };
    if registered.tgid == 0 || !task::is(&registered) {
        return 0;
    }
    let signal: u64 = field(current(), &OFF_SIGNAL).unwrap_or(0);
    // its last thread, or, where that can't be told, any
    if field::<i32>(signal, &OFF_LIVE).is_none_or(|live| live <= 0) {
        // SAFETY: the map's own cell.
        unsafe { holder.write_volatile(Proxy { cgroup: 0, start_ticks: 0, tgid: 0, pad: 0 }) };
    }
    0
}

/// Another program runs in this process from here on.
#[lsm(hook = "bprm_committed_creds")]
pub fn sluice_lsm_committed(ctx: LsmContext) -> i32 {
    let tgid = own();
    let start = task::start_of(current());
    let (mut loader, mut proxy) = (false, false);
    if let Some(name) = at_home(tgid, start, arg(&ctx, 0)) {
        (loader, proxy) = (has_name(name, LOADER), has_name(name, PROXY_NAME));
    }
    // what does not fit stays without trust
    if loader {
        let _ = LSM_LOADERS.insert(&tgid, start, 0);
    } else if LSM_LOADERS.get_ptr(tgid).is_some() {
        let _ = LSM_LOADERS.remove(&tgid);
    }
    if proxy {
        let _ = LSM_PROXIES.insert(&tgid, start, 0);
    } else if LSM_PROXIES.get_ptr(tgid).is_some() {
        let _ = LSM_PROXIES.remove(&tgid);
    }
    PERMIT
}

/// The name of the program, where the service manager has made the process, nobody traces it, and the file is one that root
/// alone may write, in the directory of the last loader.
#[inline(always)]
fn at_home(tgid: u32, start: u64, program: u64) -> Option<u64> {
    let born = LSM_CHILDREN.get_ptr(tgid)?;
    // SAFETY: the map's own value.
    if start == 0 || unsafe { *born } != start || field::<u32>(current(), &OFF_TRACED) != Some(0) {
        return None;
    }
    let file: u64 = field(program, &OFF_FILE).unwrap_or(0);
    let node: u64 = field(file, &OFF_INODE).unwrap_or(0);
    let safe = field::<u32>(node, &OFF_OWNER) == Some(0)
        && field::<u16>(node, &OFF_MODE).is_some_and(|mode| mode & OTHERS_WRITE == 0)
        && field::<u32>(node, &OFF_LINKS).is_some_and(|links| links > 0);
    if !safe {
        return None;
    }
    let dentry: u64 = field(file, &OFF_DENTRY).unwrap_or(0);
    let parent: u64 = field(dentry, &OFF_DENTRY_PARENT).unwrap_or(0);
    let (home, found) = (LSM_HOME.get(0)?, inode_of_dentry(parent)?);
    let here = home.ino != 0 && *home == found && inode(node).is_some();
    if here { Some(field(dentry, &OFF_NAME).unwrap_or(0)) } else { None }
}

/// Whether a name is this one, whose last byte is zero.
#[inline(always)]
fn has_name<const N: usize>(name: u64, wanted: &[u8; N]) -> bool {
    let mut read = [0u8; 16];
    // SAFETY: pointer and size are those of the array; the helper checks the address that it reads from.
    let length = unsafe { bpf_probe_read_kernel_str(read.as_mut_ptr().cast(), 16, name as *const _) };
    if length as usize != N {
        return false;
    }
    let mut same = true;
    for (at, byte) in wanted.iter().enumerate() {
        same &= read[at] == *byte;
    }
    same
}

/// Of a process and its start in clock ticks.
#[inline(always)]
pub(super) fn same(one: &Proxy, other: &Proxy) -> bool {
    one.tgid != 0 && one.tgid == other.tgid && one.start_ticks == other.start_ticks
}
