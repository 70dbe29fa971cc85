//! What the proxy may still do once it runs: no capability, no new privilege, no dump, no file but its own, no
//! system call that a proxy has no use for. Applied before the first thread and before the first foreign byte, and
//! checked from the outside by a test.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Why the fence could not be put up. The process then has to end.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// A capability is still there: the loader should have taken it.
    #[error("this process still holds capabilities ({0}); sluiced has to be started by sluice-loader")]
    Capable(String),
    /// A system call failed.
    #[error("{act} failed")]
    Call {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The seccomp filter was refused.
    #[error("the seccomp filter could not be installed")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Landlock's rules were refused.
    #[error("the Landlock rules could not be applied")]
    Landlock(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What stands after [`enclose`], for `sluice status`.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Landlock: fully, partially (older kernel) or not there.
    pub landlock: &'static str,
}

/// Directories that the proxy may use.
pub struct Grounds {
    /// Read only: configuration, policy, certificates, the system's libraries and name service.
    pub read: Vec<PathBuf>,
    /// Read and write: recordings, keys, events.
    pub write: Vec<PathBuf>,
}

/// Puts the fence around this process. To be called while it has one thread.
///
/// # Errors
/// [`FenceError`]: nothing may be served then.
pub fn enclose(grounds: &Grounds) -> Result<Fence, FenceError> {
    no_capability()?;
    rustix::thread::set_no_new_privs(true).map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(call("prctl(PR_SET_DUMPABLE)"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(call("setrlimit(RLIMIT_CORE)"))?;
    let landlock = landlock(grounds)?;
    seccompiler::apply_filter(&filter()?).map_err(|e| FenceError::Seccomp(e.into()))?;
    Ok(Fence { landlock })
}

fn call(act: &'static str) -> impl Fn(rustix::io::Errno) -> FenceError {
    move |errno| FenceError::Call { act, source: errno.into() }
}

fn no_capability() -> Result<(), FenceError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|source| FenceError::Call { act: "reading /proc/self/status", source })?;
    // CapPrm: whoever holds a permitted capability can make it effective
    let permitted = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).map_or("unknown", str::trim);
    if permitted.chars().all(|c| c == '0') { Ok(()) } else { Err(FenceError::Capable(permitted.into())) }
}

fn landlock(grounds: &Grounds) -> Result<&'static str, FenceError> {
    let fail = |e: landlock::RulesetError| FenceError::Landlock(Box::new(e));
    let abi = ABI::V5;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(fail)?
        .create()
        .map_err(fail)?;
    for (paths, access) in [
        (&grounds.read, AccessFs::from_read(abi)),
        (&grounds.write, AccessFs::from_all(abi) & !AccessFs::Execute),
    ] {
        for path in paths {
            // what is not there can't be used either
            let Ok(descriptor) = PathFd::new(path) else { continue };
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
            ruleset = ruleset.add_rule(PathBeneath::new(descriptor, access)).map_err(fail)?;
        }
    }
    let status = ruleset.restrict_self().map_err(fail)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "enforced",
        RulesetStatus::PartiallyEnforced => "partially enforced (older kernel)",
        RulesetStatus::NotEnforced => "absent (the kernel has no Landlock)",
    })
}

/// The places that every proxy needs beside its own directories.
pub fn system_grounds() -> Vec<PathBuf> {
    [
        "/etc",
        "/usr",
        "/lib",
        "/lib64",
        "/proc",
        "/dev/null",
        "/dev/urandom",
        "/sys/fs/cgroup",
        "/run/systemd/resolve",
    ]
    .iter()
    .map(|p| Path::new(p).to_path_buf())
    .collect()
}

fn filter() -> Result<BpfProgram, FenceError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| FenceError::Seccomp(e.into()))?;
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        CALLS.iter().chain(LEGACY).map(|number| (*number, Vec::new())).collect();
    // EPERM and not a kill: an unforeseen call of a library becomes an error that is logged, never a crash loop
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)
        .map_err(|e| FenceError::Seccomp(e.into()))?;
    BpfProgram::try_from(filter).map_err(|e| FenceError::Seccomp(e.into()))
}

/// All that a proxy on tokio needs: no exec, no ptrace, no bpf, no mount, no namespaces, no io_uring, no keys.
#[rustfmt::skip]
const CALLS: &[i64] = &[
    // files
    libc::SYS_openat, libc::SYS_close, libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev,
    libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_getdents64, libc::SYS_mkdirat, libc::SYS_unlinkat,
    libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_readlinkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_fadvise64, libc::SYS_flock,
    libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_umask,
    libc::SYS_getcwd, libc::SYS_copy_file_range, libc::SYS_sendfile,
    // memory
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_membarrier, libc::SYS_mlock, libc::SYS_munlock,
    // network
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_accept4, libc::SYS_bind,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto,
    libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // waiting
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_ppoll,
    libc::SYS_futex, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_restart_syscall, libc::SYS_pselect6,
    // threads and the process itself
    libc::SYS_clone, libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid,
    libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_prctl, libc::SYS_prlimit64,
    libc::SYS_getrusage, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom, libc::SYS_getcpu,
    // signals
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Calls that only x86-64 still has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const LEGACY: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_mkdir, libc::SYS_rmdir,
    libc::SYS_rename, libc::SYS_link, libc::SYS_unlink, libc::SYS_readlink, libc::SYS_chmod, libc::SYS_poll,
    libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_time, libc::SYS_arch_prctl,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_leaves_out_what_an_intruder_wants() {
        assert!(!filter().unwrap().is_empty());
        for refused in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_bpf,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_io_uring_setup,
            libc::SYS_pidfd_getfd,
            libc::SYS_listen,
            libc::SYS_keyctl,
            libc::SYS_process_vm_readv,
            libc::SYS_memfd_create,
            libc::SYS_setuid,
            libc::SYS_fork,
        ] {
            assert!(!CALLS.contains(&refused) && !LEGACY.contains(&refused), "{refused}");
        }
    }
}
