//! The programs at their tracepoints. The links are pinned, so that forks are noted while no loader runs.

use std::path::Path;
use std::{fs, io};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{Program, RawTracePoint};

use crate::kernel::{Found, words};
use crate::sys;

/// Program and tracepoint.
const PROGRAMS: [(&str, &str); 3] = [
    ("sluice_exit", "sched_process_exit"),
    ("sluice_fork", "sched_process_fork"),
    ("sluice_exec", "sched_process_exec"),
];

/// Attaches all.
///
/// # Errors
/// In words, on one line.
pub(super) fn attach(ebpf: &mut Ebpf, pins: &Path) -> Result<(), String> {
    let dir = pins.join("lineage");
    let fault = |what: &str, error: &dyn std::error::Error| {
        let words = words(error);
        format!("{what}: {}", words.lines().next().unwrap_or_default())
    };
    fs::create_dir_all(&dir).map_err(|error| fault("pins", &error))?;
    for (name, tracepoint) in PROGRAMS {
        let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) else {
            return Err(format!("{name}: not in the object"));
        };
        program.load().map_err(|error| fault(name, &error))?;
        let link = link(program, tracepoint).map_err(|error| fault(tracepoint, &error))?;
        // the earlier loader's goes only now: something may be seen twice, but nothing is missed
        let pin = dir.join(name);
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("pins", &error)),
            _ => {}
        }
        link.pin(&pin).map_err(|error| fault("pins", &error))?;
    }
    Ok(())
}

/// Puts back what is not there any more. Without its pin a link is gone: this process does not hold it.
pub(super) fn inspect(ebpf: &mut Ebpf, pins: &Path, found: &mut Found) {
    for (name, tracepoint) in PROGRAMS {
        let pin = pins.join("lineage").join(name);
        if sys::pinned(&pin).is_ok() {
            continue;
        }
        let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) else { continue };
        let healed = link(program, tracepoint).map_err(|error| words(&error)).and_then(|link| {
            let dir = fs::create_dir_all(pins.join("lineage"));
            dir.map_err(|error| error.to_string())?;
            // whatever is there in its place is no link
            let _ = fs::remove_file(&pin);
            link.pin(&pin).map(drop).map_err(|error| words(&error))
        });
        found.add("pin", name, "the pin is gone, and with it the program at the tracepoint", healed);
    }
}

fn link(program: &mut RawTracePoint, tracepoint: &str) -> Result<FdLink, aya::programs::ProgramError> {
    let id = program.attach(tracepoint)?;
    Ok(program.take_link(id)?.into())
}
