//! The program at every network device of this network namespace, those that come later too.
//!
//! Links are pinned by the device's index, so that they hold without this process; the next loader puts its own program
//! into them. A kernel without tcx (before 6.6) has no such links: the layer is absent there, and says so.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::CgroupArray;
use aya::programs::{Program, SchedClassifier};
use nix::net::if_::if_nameindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use super::integrity::{self, Found};
use super::{GuardError, at, maps, words};
use crate::sys::{self, Attach};

/// Of the object.
const PROGRAM: &str = "sluice_device";
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` (linux/rtnetlink.h): devices and their addresses come and go.
const GROUPS: u32 = 1 | 0x10 | 0x100;

/// Devices and the links at them.
pub(super) struct Devices {
    pins: PathBuf,
    news: Option<OwnedFd>,
    held: BTreeMap<u32, OwnedFd>,
    /// Why there is no program at the devices, or not at all of them.
    pub(super) fault: Option<String>,
}

/// Hands the program to the verifier. Its refusal is no reason not to guard by the other layers.
pub(super) fn load(ebpf: &mut Ebpf) -> Option<String> {
    let Some(Program::SchedClassifier(program)) = ebpf.program_mut(PROGRAM) else {
        return Some("not in the object".to_owned());
    };
    program.load().err().map(|error| words(&error).lines().next().unwrap_or_default().to_owned())
}

impl Devices {
    /// At none yet. `fault`: what [`load`] said.
    pub(super) fn new(pins: &Path, fault: Option<String>) -> Self {
        Self { pins: pins.join("devices"), news: None, held: BTreeMap::new(), fault }
    }

    /// Where it is told that devices have come or gone.
    pub(super) fn news(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(|news| news.as_fd())
    }

    /// How many devices have the program.
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Attaches to what is there. Listens first: what comes while this looks around is found by the next look.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, cgroup: &Path) -> Result<(), GuardError> {
        match listen() {
            Ok(news) => self.news = Some(news),
            Err(error) => self.fault = Some(format!("new devices are not noticed: {error}")),
        }
        if self.fault.is_some() {
            return Ok(());
        }
        let guarded = File::open(cgroup).map_err(at("opening the guarded cgroup", cgroup))?;
        let map = ebpf.map_mut("GUARDED").ok_or_else(|| maps::fault("GUARDED", &"not in the object"))?;
        let mut array = CgroupArray::try_from(map).map_err(|e| maps::fault("GUARDED", &e))?;
        array.set(0, guarded, 0).map_err(|e| maps::fault("GUARDED", &e))?;
        fs::create_dir_all(&self.pins).map_err(at("making the directory of pins", &self.pins))?;
        self.look(ebpf);
        Ok(())
    }

    /// Devices have come or gone.
    pub(super) fn look(&mut self, ebpf: &Ebpf) {
        self.drain();
        let Some(program) = program(ebpf) else { return };
        let there: BTreeMap<u32, String> = match if_nameindex() {
            Ok(list) => {
                let list = list.iter().map(|d| (d.index(), d.name().to_string_lossy().into_owned()));
                list.collect()
            }
            Err(error) => return self.fault = Some(format!("the devices could not be listed: {error}")),
        };
        self.held.retain(|index, _| there.contains_key(index));
        self.forget_gone(&there);
        let mut fault = None;
        for (index, name) in &there {
            if self.held.contains_key(index) {
                continue;
            }
            match hold(program, *index, &self.pins) {
                Ok(link) => {
                    tracing::info!(device = name, "guarding a network device");
                    self.held.insert(*index, link);
                }
                // it has gone again meanwhile
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => fault = Some(format!("{name}: {error}{}", hint(&error))),
            }
        }
        if self.news.is_some() {
            self.fault = fault;
        }
    }

    /// Looks whether the links are what was put there, and puts them there again where not.
    pub(super) fn inspect(&mut self, ebpf: &Ebpf, found: &mut Found) {
        let Some(program) = program(ebpf) else { return };
        for (index, link) in &mut self.held {
            let pin = self.pins.join(index.to_string());
            let name = format!("{PROGRAM} at device {index}");
            // a device that has gone takes its link with it, which is no detachment
            let there = nix::net::if_::if_indextoname(*index).is_ok();
            let detached = there && sys::link_device(link.as_fd()).is_ok_and(|at| at == 0);
            let seat = integrity::Seat { name: &name, link: link.as_fd(), pin: &pin, program, detached };
            if there
                && let Some(fresh) =
                    seat.inspect(|| sys::link_create(program, *index, Attach::TcxEgress), found)
            {
                *link = fresh;
            }
            found.strangers(&name, *index, Attach::TcxEgress, &[program]);
        }
    }

    fn drain(&mut self) {
        let Some(news) = &self.news else { return };
        let mut buffer = [0; 8192];
        // what is said does not matter: that something was said does. A full queue is news as well.
        while recv(news.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|n| n > 0) {}
    }

    /// Pins of devices that are no more: their links hang in the air.
    fn forget_gone(&self, there: &BTreeMap<u32, String>) {
        let Ok(pins) = fs::read_dir(&self.pins) else { return };
        for pin in pins.flatten() {
            let gone = index_of(&pin.file_name()).is_none_or(|index| !there.contains_key(&index));
            if gone && let Err(error) = fs::remove_file(pin.path()) {
                tracing::warn!(pin = %pin.path().display(), %error, "a pin of a device that has gone stays");
            }
        }
    }
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let news = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(news.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(news)
}

fn program(ebpf: &Ebpf) -> Option<BorrowedFd<'_>> {
    let Program::SchedClassifier(program) = ebpf.program(PROGRAM)? else { return None };
    SchedClassifier::fd(program).ok().map(|fd| fd.as_fd())
}

fn index_of(pin: &OsStr) -> Option<u32> {
    pin.to_str()?.parse().ok()
}

/// The link at a device: the pinned one with this program in it, or a new one.
fn hold(program: BorrowedFd<'_>, index: u32, pins: &Path) -> io::Result<OwnedFd> {
    let path = pins.join(index.to_string());
    match sys::pinned(&path) {
        Ok(link) if sys::link_device(link.as_fd())? == index => {
            sys::link_update(link.as_fd(), program)?;
            return Ok(link);
        }
        // the index was another device's
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let link = sys::link_create(program, index, Attach::TcxEgress)?;
    sys::pin(link.as_fd(), &path)?;
    Ok(link)
}

/// What the errors of kernels without tcx mean.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => " (programs at devices need Linux 6.6)",
        _ => "",
    }
}
