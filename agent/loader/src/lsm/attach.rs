//! The programs at their hooks. A link of this kind takes no other program, so that the next loader attaches its own
//! before it lets go of the pinned one: for a moment both answer, and whoever one of them refuses is refused.

use std::path::Path;
use std::{fs, io};

use aya::programs::links::FdLink;
use aya::programs::{Lsm, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};

use super::last_words;
use crate::kernel::Found;
use crate::sys;

/// Program and hook. Those that tell who is trusted come first: the others ask them.
const HOOKS: [(&str, &str); 27] = [
    ("sluice_lsm_committed", "bprm_committed_creds"),
    ("sluice_lsm_kill", "task_kill"),
    ("sluice_lsm_sigio", "file_send_sigiotask"),
    ("sluice_lsm_ptrace", "ptrace_access_check"),
    ("sluice_lsm_rlimit", "task_setrlimit"),
    ("sluice_lsm_unlink", "inode_unlink"),
    ("sluice_lsm_rmdir", "inode_rmdir"),
    ("sluice_lsm_rename", "inode_rename"),
    ("sluice_lsm_link", "inode_link"),
    ("sluice_lsm_create", "inode_create"),
    ("sluice_lsm_mkdir", "inode_mkdir"),
    ("sluice_lsm_symlink", "inode_symlink"),
    ("sluice_lsm_mount", "sb_mount"),
    ("sluice_lsm_move", "move_mount"),
    ("sluice_lsm_umount", "sb_umount"),
    ("sluice_lsm_pivot", "sb_pivotroot"),
    ("sluice_lsm_map", "bpf_map"),
    ("sluice_lsm_program", "bpf_prog"),
    ("sluice_lsm_bpf", "bpf"),
    ("sluice_lsm_read_file", "kernel_read_file"),
    ("sluice_lsm_load_data", "kernel_load_data"),
    ("sluice_lsm_lockdown", "locked_down"),
    ("sluice_lsm_netlink", "netlink_send"),
    ("sluice_lsm_socket", "socket_create"),
    ("sluice_lsm_unix", "unix_stream_connect"),
    ("sluice_lsm_datagram", "unix_may_send"),
    ("sluice_lsm_exec", "bprm_check_security"),
];

/// Program and tracepoint.
const TRACEPOINTS: [(&str, &str); 2] =
    [("sluice_lsm_fork", "sched_process_fork"), ("sluice_lsm_exit", "sched_process_exit")];

/// Hands every program to the verifier.
///
/// # Errors
/// In words, on one line.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), String> {
    let btf =
        Btf::from_sys_fs().map_err(|error| format!("the kernel does not describe its types: {error}"))?;
    for (name, hook) in HOOKS {
        let Some(Program::Lsm(program)) = ebpf.program_mut(name) else { return Err(missing(name)) };
        program.load(hook, &btf).map_err(|error| format!("{hook}: {}", last_words(&error)))?;
    }
    for (name, _) in TRACEPOINTS {
        let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) else { return Err(missing(name)) };
        program.load().map_err(|error| format!("{name}: {}", last_words(&error)))?;
    }
    Ok(())
}

/// Attaches and pins all.
///
/// # Errors
/// In words, on one line.
pub(super) fn attach(ebpf: &mut Ebpf, pins: &Path) -> Result<(), String> {
    let dir = pins.join("lsm");
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for (name, tracepoint) in TRACEPOINTS {
        let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) else { return Err(missing(name)) };
        let link = at_tracepoint(program, tracepoint).map_err(|e| format!("{name}: {}", last_words(&e)))?;
        keep(link, &dir.join(name))?;
    }
    for (name, hook) in HOOKS {
        let Some(Program::Lsm(program)) = ebpf.program_mut(name) else { return Err(missing(name)) };
        let link = at_hook(program).map_err(|error| format!("{hook}: {}", last_words(&error)))?;
        keep(link, &dir.join(name))?;
    }
    Ok(())
}

/// Looks whether the links are still pinned, and puts them back where not: without its pin nothing holds a link.
pub(super) fn inspect(ebpf: &mut Ebpf, pins: &Path, found: &mut Found) {
    let dir = pins.join("lsm");
    for name in HOOKS.iter().chain(&TRACEPOINTS).map(|(name, _)| *name) {
        let pin = dir.join(name);
        if sys::pinned(&pin).is_ok() {
            continue;
        }
        let healed = again(ebpf, name).and_then(|link| {
            fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
            keep(link, &pin)
        });
        found.add("pin", name, "the pin is gone, and with it the program at the hook", healed);
    }
}

fn again(ebpf: &mut Ebpf, name: &str) -> Result<FdLink, String> {
    let tracepoint = TRACEPOINTS.iter().find(|(known, _)| *known == name);
    let link = match (ebpf.program_mut(name), tracepoint) {
        (Some(Program::Lsm(program)), _) => at_hook(program),
        (Some(Program::RawTracePoint(program)), Some((_, tracepoint))) => at_tracepoint(program, tracepoint),
        _ => return Err(missing(name)),
    };
    link.map_err(|error| last_words(&error))
}

fn missing(name: &str) -> String {
    format!("{name}: not in the object")
}

fn at_hook(program: &mut Lsm) -> Result<FdLink, ProgramError> {
    let id = program.attach()?;
    Ok(program.take_link(id)?.into())
}

fn at_tracepoint(program: &mut RawTracePoint, tracepoint: &str) -> Result<FdLink, ProgramError> {
    let id = program.attach(tracepoint)?;
    Ok(program.take_link(id)?.into())
}

/// The earlier loader's link goes once this one is in force.
fn keep(link: FdLink, pin: &Path) -> Result<(), String> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", pin.display()));
        }
        _ => {}
    }
    link.pin(pin).map(drop).map_err(|error| format!("{}: {error}", pin.display()))
}
