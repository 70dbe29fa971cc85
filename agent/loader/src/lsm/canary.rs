//! Live proof of the layer: a process of root's own tries what is refused to root, by means that do no harm where it is
//! not refused.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_abi::lineage::{Member, Session};
use sluice_abi::lsm::flag;

use super::Lsm;
use crate::{process, sys};

/// The session of canaries that nobody answers for: no UUID that the proxy makes.
pub(crate) const SESSION: Session = [0xfe; 16];
/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(4);
/// Status of a lineage canary that was refused what it wanted to execute.
const REFUSED: Option<i32> = Some(77);
/// Nanoseconds in a clock tick, as the kernel programs compare start times.
const TICK_NS: u64 = 10_000_000;
/// What self-protection is shown by.
const ACTS: [&str; 6] = ["signal", "memory", "make", "remove", "mount", "map"];

/// State and proof.
pub(super) fn probe(lsm: &Lsm, cgroup: &Path) -> (&'static str, String) {
    let said = match ask(lsm, cgroup) {
        Ok(said) => said,
        Err(error) => return ("absent", format!("not tried: {error}")),
    };
    let mut wanted: Vec<&str> = Vec::new();
    let mut proof = Vec::new();
    if lsm.flags & flag::SELF != 0 {
        wanted.extend(ACTS);
        proof.push("a canary of root's was refused to signal and trace the loader, to change and cover the pins, and our maps");
    } else {
        proof.push("guard.self_protection is off: root may do to the agent what it likes");
    }
    if lsm.flags & flag::PACKETS != 0 && !is_passive(lsm) {
        wanted.push("packet");
        proof.push("a packet socket");
    }
    let missing = wanted.iter().find(|act| said.get(**act).map(String::as_str) != Some("refused"));
    if let Some(act) = missing {
        let saw = said.get(*act).map_or("the canary said nothing of it", String::as_str);
        return ("absent", format!("{act}: expected `refused`, but saw `{saw}`"));
    }
    match executes(lsm, cgroup) {
        Ok(REFUSED) => proof.push("a program in a judged session that nobody answers for"),
        Ok(code) => {
            return ("absent", format!("exec: a session that nobody answers for ran a program ({code:?})"));
        }
        Err(error) => return ("absent", format!("exec: not tried: {error}")),
    }
    // a layer that refuses root nothing is not claimed
    let state = if lsm.flags & flag::SELF != 0 { "enforced" } else { "absent" };
    (state, proof.join("; "))
}

/// Nothing but the agent itself is protected then: sockets are told of and made.
fn is_passive(lsm: &Lsm) -> bool {
    let mode = MapData::from_pin(lsm.maps.join("MODE")).map(Map::Array);
    let mode = mode.ok().and_then(|map| Array::<_, u32>::try_from(map).ok());
    mode.and_then(|mode| mode.get(&0, 0).ok()) == Some(sluice_abi::mode::PASSIVE)
}

fn ask(lsm: &Lsm, cgroup: &Path) -> io::Result<BTreeMap<String, String>> {
    let map = sys::object_id(sys::pinned(&lsm.maps.join("LSM_SETTINGS"))?.as_fd())?;
    let mut child = Command::new("/proc/self/exe")
        .arg("lsm-canary")
        .arg(cgroup)
        .arg(&lsm.pins)
        .args([std::process::id().to_string(), map.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    process::ended(&mut child, PATIENCE)?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(act, what)| (act.to_owned(), what.to_owned())).collect())
}

/// A process of a judged session that nobody answers for wants to execute something; how it ended.
fn executes(lsm: &Lsm, cgroup: &Path) -> io::Result<Option<i32>> {
    let members = MapData::from_pin(lsm.maps.join("MEMBERS_OF")).map_err(io::Error::other)?;
    let mut members: HashMap<_, u32, [u8; size_of::<Member>()]> =
        Map::HashMap(members).try_into().map_err(io::Error::other)?;
    let mut child = Command::new("/proc/self/exe")
        .arg("lineage-canary")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let pid = child.id();
    let marked = fs::write(cgroup.join("cgroup.procs"), pid.to_string()).and_then(|()| {
        let start_ns = process::start_ticks(pid).unwrap_or(0) * TICK_NS;
        let mut record = [0; size_of::<Member>()];
        record[..16].copy_from_slice(&SESSION);
        record[16..].copy_from_slice(&start_ns.to_ne_bytes());
        members.insert(pid, record, 0).map_err(io::Error::other)
    });
    if let Some(mut stdin) = child.stdin.take() {
        // it has ended: its status says so
        let _ = stdin.write_all(b"!");
    }
    let code = process::ended(&mut child, PATIENCE);
    marked?;
    code
}

/// The canary itself: `sluice-loader lsm-canary CGROUP PINS LOADER MAP`. Says what became of it, act by act.
pub(crate) fn child(cgroup: &Path, pins: &Path, loader: i32, map: u32) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    // ignored by whoever does not ask for it
    println!("signal={}", said(kill(Pid::from_raw(loader), Signal::SIGWINCH).map_err(io::Error::from)));
    println!("memory={}", said(open_memory(loader).map(drop)));
    let made = pins.join("canary");
    let making = fs::create_dir(&made);
    if making.is_ok() {
        // the loader says that nothing is protected here
        let _ = fs::remove_dir(&made);
    }
    println!("make={}", said(making));
    // never empty: not refused, it is ENOTEMPTY
    println!("remove={}", said(fs::remove_dir(pins.join("links"))));
    // no mount point: not refused, it is EINVAL
    let none: Option<&str> = None;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    println!("mount={}", said(mount(none, pins, none, flags, none).map_err(io::Error::from)));
    println!("map={}", said(sys::map_by_id(map).map(drop)));
    println!("packet={}", said(sys::packet_socket().map(drop)));
    Ok(())
}

fn open_memory(pid: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))
}

/// EACCES is what /proc makes of a tracer's EPERM.
fn said(outcome: io::Result<()>) -> String {
    match outcome {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            "refused".to_owned()
        }
        Err(error) => error.to_string(),
        Ok(()) => "went through".to_owned(),
    }
}
