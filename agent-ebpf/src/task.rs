//! Who is calling: from the task itself, by offsets that the loader found in the kernel's BTF.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid, bpf_probe_read_kernel,
};
use sluice_abi::{Origin, Proxy};

/// Of an offset that the kernel's BTF does not tell: what depends on it stays unknown.
const MISSING: u32 = u32::MAX;

/// Nanoseconds in a clock tick of `/proc`.
pub(crate) const TICK_NS: u64 = 10_000_000;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: u32 = MISSING;)+
    };
}

offsets! {
    /// `task_struct.group_leader`
    OFF_GROUP_LEADER,
    /// `task_struct.start_boottime`
    OFF_START,
    /// `task_struct.loginuid`
    OFF_LOGINUID,
    /// `task_struct.real_cred`
    OFF_REAL_CRED,
    /// `cred.uid`
    OFF_UID,
    /// `task_struct.signal`
    OFF_SIGNAL,
    /// `signal_struct.pids[PIDTYPE_SID]`
    OFF_SESSION,
    /// `pid.numbers[0].nr`
    OFF_NUMBER,
    /// `task_struct.tgid`
    OFF_TGID,
    /// `task_struct.real_parent`
    OFF_PARENT,
    /// `task_struct.mm`
    OFF_MM,
    /// `cred.euid`
    OFF_EUID,
    /// `signal_struct.live`
    OFF_LIVE,
    /// `mm_struct.arg_start`
    OFF_ARG_START,
    /// `mm_struct.arg_end`
    OFF_ARG_END,
    /// `linux_binprm.filename`
    OFF_FILENAME,
    /// `linux_binprm.interp`
    OFF_INTERPRETER,
    /// `linux_binprm.fdpath`
    OFF_FDPATH,
    /// `linux_binprm.file`
    OFF_FILE,
    /// `file.f_path.dentry`
    OFF_DENTRY,
    /// `dentry.d_name.name`
    OFF_NAME,
    /// `file.f_inode`
    OFF_INODE,
    /// `inode.i_nlink`
    OFF_LINKS,
    /// `inode.i_ino`
    OFF_INO,
    /// `inode.i_sb`
    OFF_SB,
    /// `inode.i_uid`
    OFF_OWNER,
    /// `inode.i_mode`
    OFF_MODE,
    /// `super_block.s_dev`
    OFF_DEV,
    /// `dentry.d_inode`
    OFF_DENTRY_INODE,
    /// `dentry.d_parent`
    OFF_DENTRY_PARENT,
    /// `vfsmount.mnt_root`
    OFF_MOUNT_ROOT,
    /// `vfsmount.mnt_flags`
    OFF_MOUNT_FLAGS,
    /// `mount.mnt_t_flags`, from the `vfsmount` in it (Linux 6.17 and later)
    OFF_MOUNT_SHARED,
    /// `task_struct.ptrace`
    OFF_TRACED,
    /// `task_struct.nsproxy`
    OFF_NSPROXY,
    /// `nsproxy.mnt_ns`
    OFF_MOUNT_NS,
    /// `nsproxy.net_ns`
    OFF_NET_NS,
    /// `mnt_namespace.ns`
    OFF_MOUNT_NS_COMMON,
    /// `net.ns`
    OFF_NET_NS_COMMON,
    /// `ns_common.inum`
    OFF_INUM,
    /// `task_struct.files`
    OFF_FILES,
    /// `files_struct.fdt`
    OFF_FD_TABLE,
    /// `fdtable.fd`
    OFF_FD_ARRAY,
    /// `file.private_data`
    OFF_PRIVATE,
    /// `bpf_map.id`
    OFF_MAP_ID,
    /// `bpf_link.prog`
    OFF_LINK_PROGRAM,
    /// `bpf_prog.aux`
    OFF_PROGRAM_AUX,
    /// `bpf_prog_aux.id`
    OFF_PROGRAM_ID,
    /// `unix_sock.path.dentry`
    OFF_UNIX_DENTRY,
    /// `socket.sk`
    OFF_SOCKET_SK,
    /// `sock.sk_protocol`
    OFF_PROTOCOL,
    /// `sk_buff.data`
    OFF_SKB_DATA,
    /// `sk_buff.len`
    OFF_SKB_LEN,
    /// `mm_struct.exe_file`
    OFF_EXE_FILE,
}

/// The setting as the loader wrote it, not as the compiler saw it.
#[inline(always)]
fn setting(of: &'static u32) -> u32 {
    // SAFETY: a reference to a static.
    unsafe { core::ptr::from_ref(of).read_volatile() }
}

/// A field of a kernel object; `None` where the offset is not known or the read fails.
#[inline(always)]
pub(crate) fn field<T: Default>(object: u64, offset: &'static u32) -> Option<T> {
    let offset = setting(offset);
    if offset == MISSING || object == 0 {
        return None;
    }
    peek(object + u64::from(offset))
}

/// What stands at an address of the kernel's; `None` where the read fails. `T` has no invalid values.
#[inline(always)]
pub(crate) fn peek<T: Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper checks the address; the size is that of `value`.
    let failed = unsafe {
        bpf_probe_read_kernel(
            core::ptr::from_mut(&mut value).cast(),
            core::mem::size_of::<T>() as u32,
            address as *const _,
        )
    };
    (failed == 0).then_some(value)
}

/// The calling task.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_current_task() }
}

/// Start of the thread group's leader, nanoseconds since boot; 0 where unknown.
#[inline(always)]
fn start_ns() -> u64 {
    start_of(current())
}

/// The same of another task.
#[inline(always)]
pub(crate) fn start_of(task: u64) -> u64 {
    let leader: u64 = field(task, &OFF_GROUP_LEADER).unwrap_or(0);
    field(leader, &OFF_START).unwrap_or(0)
}

/// Effective user id; that of the helper where the way to it is not known.
#[inline(always)]
pub(crate) fn effective_uid() -> u32 {
    let cred: u64 = field(current(), &OFF_REAL_CRED).unwrap_or(0);
    // SAFETY: takes nothing.
    field(cred, &OFF_EUID).unwrap_or_else(|| unsafe { bpf_get_current_uid_gid() } as u32)
}

/// Real user id. The helper's is the effective one, which an io_uring personality changes.
#[inline(always)]
pub(crate) fn real_uid() -> u32 {
    let cred: u64 = field(current(), &OFF_REAL_CRED).unwrap_or(0);
    // SAFETY: takes nothing.
    field(cred, &OFF_UID).unwrap_or_else(|| unsafe { bpf_get_current_uid_gid() } as u32)
}

/// Session id; 0 where unknown.
#[inline(always)]
fn session() -> u32 {
    let signal: u64 = field(current(), &OFF_SIGNAL).unwrap_or(0);
    let pid: u64 = field(signal, &OFF_SESSION).unwrap_or(0);
    field(pid, &OFF_NUMBER).unwrap_or(0)
}

/// Is the caller the registered process? An empty registration is nobody.
#[inline(always)]
pub(crate) fn is(registered: &Proxy) -> bool {
    // SAFETY: takes nothing.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if registered.tgid == 0 || registered.tgid != tgid {
        return false;
    }
    // SAFETY: takes nothing.
    if registered.cgroup != 0 && registered.cgroup != unsafe { bpf_get_current_cgroup_id() } {
        return false;
    }
    registered.start_ticks == 0 || registered.start_ticks == start_ns() / TICK_NS
}

/// Fills in what the task says about itself.
#[inline(always)]
pub(crate) fn describe(origin: &mut Origin) {
    // SAFETY: takes nothing.
    let id = unsafe { bpf_get_current_pid_tgid() };
    origin.tgid = (id >> 32) as u32;
    origin.tid = id as u32;
    origin.uid = real_uid();
    origin.sid = session();
    origin.loginuid = field(current(), &OFF_LOGINUID).unwrap_or(u32::MAX);
    origin.start_ns = start_ns();
    // SAFETY: takes nothing.
    origin.cgroup = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: pointer and size are those of `comm`.
    unsafe { bpf_get_current_comm(origin.comm.as_mut_ptr().cast(), origin.comm.len() as u32) };
}

/// A field of an object that stands in another one.
#[inline(always)]
pub(crate) fn nested<T: Default>(object: u64, outer: &'static u32, inner: &'static u32) -> Option<T> {
    let outer = setting(outer);
    if outer == MISSING || object == 0 {
        return None;
    }
    field(object + u64::from(outer), inner)
}

/// Whether this task's process is the registered one.
#[inline(always)]
pub(crate) fn is_of(task: u64, registered: &Proxy) -> bool {
    let Some(tgid) = field::<u32>(task, &OFF_TGID) else { return false };
    registered.tgid != 0
        && registered.tgid == tgid
        && (registered.start_ticks == 0 || registered.start_ticks == start_of(task) / TICK_NS)
}
