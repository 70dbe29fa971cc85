//! Programs and links. A link is pinned; a later loader finds it and puts its own program into it.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::{CgroupSkb, CgroupSockAddr, CgroupSockopt, Program, SockOps};

use super::{GuardError, at, words};
use crate::sys::{self, Attach};

/// Every program and its hook. The order is that of a first start: what keeps others away comes before what leads to
/// the proxy, and the backstop last, when everybody is led already.
const PROGRAMS: [(&str, Attach); 12] = [
    ("sluice_bind4", Attach::Bind4),
    ("sluice_bind6", Attach::Bind6),
    ("sluice_sockops", Attach::SockOps),
    ("sluice_getsockopt", Attach::Getsockopt),
    ("sluice_getpeername4", Attach::Getpeername4),
    ("sluice_getpeername6", Attach::Getpeername6),
    ("sluice_connect4", Attach::Connect4),
    ("sluice_connect6", Attach::Connect6),
    ("sluice_sendmsg4", Attach::Sendmsg4),
    ("sluice_sendmsg6", Attach::Sendmsg6),
    ("sluice_ingress", Attach::Ingress),
    ("sluice_egress", Attach::Egress),
];

/// Where the links are pinned.
pub(super) fn links(pins: &Path) -> PathBuf {
    pins.join("links")
}

/// The verifier's last words: what it says before them is the whole program.
const LAST_LINES: usize = 6;

fn refused(program: &str, reason: impl std::error::Error) -> GuardError {
    let all = words(&reason);
    let lines: Vec<&str> = all.lines().collect();
    let cut = lines.len().saturating_sub(LAST_LINES);
    let reason = match lines.get(cut..) {
        Some(last) if cut > 0 => format!("{} …\n{}", lines.first().unwrap_or(&""), last.join("\n")),
        _ => all,
    };
    GuardError::Program { program: program.to_owned(), reason }
}

fn missing(program: &str) -> GuardError {
    GuardError::Program { program: program.to_owned(), reason: "not in the object".to_owned() }
}

/// Hands every program to the verifier.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), GuardError> {
    PROGRAMS.iter().try_for_each(|(name, _)| load_one(ebpf, name))
}

fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<(), GuardError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockopt(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(missing(name)),
    }
    .map_err(|e| refused(name, e))
}

/// Loads and attaches one program whatever becomes of the others.
pub(super) fn alone(ebpf: &mut Ebpf, name: &str, cgroup: &Path, pins: &Path) -> Result<(), GuardError> {
    load_one(ebpf, name)?;
    let guarded = File::open(cgroup).map_err(at("opening the guarded cgroup", cgroup))?;
    let (_, hook) = *PROGRAMS.iter().find(|(known, _)| *known == name).ok_or_else(|| missing(name))?;
    let program = program(ebpf, name).ok_or_else(|| missing(name))?;
    let path = links(pins).join(name);
    fs::create_dir_all(links(pins)).map_err(at("making the directory of pins", &path))?;
    match sys::pinned(&path) {
        Ok(link) if sys::link_place(link.as_fd()).is_ok_and(|place| place.cgroup != 0) => {
            sys::link_update(link.as_fd(), program).map_err(|e| refused(name, e))
        }
        _ => {
            let _ = fs::remove_file(&path);
            fresh(program, &guarded, hook, &path).map(drop).map_err(|e| refused(name, e))
        }
    }
}

fn descriptor(program: &Program) -> Option<BorrowedFd<'_>> {
    let fd = match program {
        Program::CgroupSockAddr(p) => CgroupSockAddr::fd(p),
        Program::CgroupSkb(p) => CgroupSkb::fd(p),
        Program::CgroupSockopt(p) => CgroupSockopt::fd(p),
        Program::SockOps(p) => SockOps::fd(p),
        _ => return None,
    };
    fd.ok().map(AsFd::as_fd)
}

/// A program of ours in its link.
pub(super) struct Seat {
    pub(super) name: &'static str,
    pub(super) hook: Attach,
    pub(super) link: OwnedFd,
}

/// The program of a seat.
pub(super) fn program<'a>(ebpf: &'a Ebpf, name: &str) -> Option<BorrowedFd<'a>> {
    ebpf.program(name).and_then(descriptor)
}

/// Attaches all, or swaps them in place; gives the links, which the pins keep alive without this process.
pub(super) fn attach(ebpf: &Ebpf, cgroup: &Path, pins: &Path) -> Result<Vec<Seat>, GuardError> {
    let guarded = File::open(cgroup).map_err(at("opening the guarded cgroup", cgroup))?;
    let id = guarded.metadata().map_err(at("asking", cgroup))?.ino();
    let dir = links(pins);
    fs::create_dir_all(&dir).map_err(at("making the directory of pins", &dir))?;
    let mut held = Vec::new();
    for (name, hook) in PROGRAMS {
        let program = ebpf.program(name).and_then(descriptor).ok_or_else(|| missing(name))?;
        let path = dir.join(name);
        let link = match sys::pinned(&path) {
            Ok(link) => {
                let place = sys::link_place(link.as_fd()).map_err(|e| refused(name, e))?;
                if place.cgroup != 0 && (place.cgroup != id || place.attach != hook as u32) {
                    return Err(GuardError::Elsewhere { pins: pins.to_owned(), cgroup: cgroup.to_owned() });
                }
                if place.cgroup == 0 {
                    // its cgroup is gone, and with it everybody who was guarded: it guards nothing any more
                    fs::remove_file(&path).map_err(at("removing", &path))?;
                    fresh(program, &guarded, hook, &path).map_err(|e| refused(name, e))?
                } else {
                    sys::link_update(link.as_fd(), program).map_err(|e| refused(name, e))?;
                    link
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                fresh(program, &guarded, hook, &path).map_err(|e| refused(name, e))?
            }
            Err(e) => return Err(at("opening the pinned link", &path)(e)),
        };
        held.push(Seat { name, hook, link });
    }
    Ok(held)
}

pub(super) fn fresh(
    program: BorrowedFd<'_>,
    cgroup: &File,
    hook: Attach,
    pin: &Path,
) -> std::io::Result<OwnedFd> {
    let link = sys::link_create(program, sys::number(cgroup.as_fd()), hook)?;
    sys::pin(link.as_fd(), pin)?;
    Ok(link)
}
