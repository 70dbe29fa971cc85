//! Processes as /proc tells of them: who is behind a pid, while it still is the same one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use sluice_api::common::Process;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// No process tree is deeper; also the end of a ring that /proc showed while pids were used again.
const MAX_DEPTH: usize = 64;
/// Arguments in all, in bytes; the rest of a longer line is left out.
const MAX_ARGUMENTS: usize = 4096;

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    ppid: u32,
    sid: u32,
    tty: i32,
    start_ticks: u64,
}

/// `comm` may contain anything, parentheses and spaces too: it ends at the last closing one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.split_once('(')?;
    let (comm, rest) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // field 3 of proc_pid_stat(5) is the first here
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        comm: comm.to_owned(),
        ppid: field(4)?.parse().ok()?,
        sid: field(6)?.parse().ok()?,
        tty: field(7)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

fn stat(pid: u32) -> Option<Stat> {
    // comm need not be UTF-8
    parse_stat(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Start of a process, in clock ticks since boot.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// Clock ticks per second.
pub(crate) fn ticks_per_second() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

/// The process and its ancestors; empty when it has ended, or when the pid is another's by now. `start_ns` 0: not
/// compared (the caller holds the process by other means).
pub(crate) fn lineage(pid: u32, start_ns: u64) -> Vec<Process> {
    let mut found = Vec::new();
    let Some(first) = describe(pid) else { return found };
    let ticks = start_ns / (SECOND / ticks_per_second());
    // a kernel and /proc that round differently are one tick apart
    if start_ns != 0 && first.start_ticks.abs_diff(ticks) > 1 {
        return found;
    }
    let (mut child_start, mut parent) = (first.start_ticks, first.ppid);
    found.push(first);
    while parent != 0 && found.len() < MAX_DEPTH {
        let Some(process) = describe(parent) else { break };
        // a parent that is younger than its child is another process under the same pid
        if process.start_ticks > child_start {
            break;
        }
        (child_start, parent) = (process.start_ticks, process.ppid);
        found.push(process);
    }
    // still the same one, after all of it was read
    if start_ticks(pid) == found.first().map(|process| process.start_ticks) { found } else { Vec::new() }
}

/// One process.
fn describe(pid: u32) -> Option<Process> {
    let stat = stat(pid)?;
    let dir = format!("/proc/{pid}");
    let uid = real_uid(&dir)?;
    let read = |name: &str| fs::read(format!("{dir}/{name}")).ok();
    let number = |name: &str| String::from_utf8_lossy(&read(name)?).trim().parse::<u32>().ok();
    let mut line = read("cmdline").unwrap_or_default();
    line.truncate(MAX_ARGUMENTS);
    let arguments = line
        .split(|b| *b == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let cgroup = String::from_utf8_lossy(&read("cgroup").unwrap_or_default())
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned();
    Some(Process {
        pid,
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        uid,
        loginuid: number("loginuid").unwrap_or(u32::MAX),
        sid: stat.sid,
        sid_start_ticks: if stat.sid == pid { stat.start_ticks } else { leader_start(stat.sid) },
        comm: stat.comm,
        exe: fs::read_link(format!("{dir}/exe"))
            .map(|p| p.to_string_lossy().into_owned())
            .unwrap_or_default(),
        arguments,
        tty: terminal(stat.tty),
        cgroup,
        user: User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name).unwrap_or_default(),
    })
}

/// Start of a session's leader; 0: it is gone (or in another pid namespace), and nothing is bound to such a session.
fn leader_start(sid: u32) -> u64 {
    if sid == 0 {
        return 0;
    }
    stat(sid).filter(|leader| leader.sid == sid).map_or(0, |leader| leader.start_ticks)
}

/// The owner of `/proc/PID` may be root for a process that can't be dumped; the status file tells.
fn real_uid(dir: &str) -> Option<u32> {
    let status = fs::read(format!("{dir}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The controlling terminal of this process, for people.
pub(crate) fn own_terminal() -> String {
    match stat(std::process::id()).map(|stat| terminal(stat.tty)) {
        Some(tty) if !tty.is_empty() => tty,
        _ => "no terminal".to_owned(),
    }
}

/// Name of a controlling terminal by its device number (`tty_nr`).
fn terminal(device: i32) -> String {
    let device = device.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => String::new(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

/// Id of a cgroup, as the kernel programs see it.
pub(crate) fn cgroup_id(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Directory of the cgroup (v2) that a process is in.
pub(crate) fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = crate::grounds::cgroup_mount(&mounts)?;
    Some(root.join(own.trim_start_matches('/')))
}

/// The process that traces this one; 0: nobody does.
pub(crate) fn tracer(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim().parse().ok()
}

/// How a child ended, by its status; nothing where it did not by itself within `patience`, and was ended.
pub(crate) fn ended(child: &mut Child, patience: Duration) -> io::Result<Option<i32>> {
    let began = Instant::now();
    while began.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_comm_hides_nothing() {
        let line = "12 (a) b (c) S 7 12 11 34818 12 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat, Stat { comm: "a) b (c".into(), ppid: 7, sid: 11, tty: 34818, start_ticks: 4711 });
        assert_eq!(terminal(stat.tty), "pts/2");
        assert!(parse_stat("12 (x S 7").is_none() && parse_stat("").is_none());
    }

    #[test]
    fn the_own_lineage_leads_to_pid_1() {
        let pid = std::process::id();
        let found = lineage(pid, 0);
        assert_eq!((found[0].pid, found[0].uid), (pid, nix::unistd::getuid().as_raw()));
        assert_eq!(found.last().map(|p| p.ppid), Some(0));
        assert!(found[0].exe.contains("loader"), "{:?}", found[0]);
        let ns = found[0].start_ticks * (SECOND / ticks_per_second());
        assert!(!lineage(pid, ns).is_empty());
        assert!(lineage(pid, ns + 5 * SECOND).is_empty(), "another start time is another process");
        assert!(lineage(u32::MAX, 0).is_empty());
    }
}
