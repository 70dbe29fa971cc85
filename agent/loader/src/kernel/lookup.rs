//! The program that chooses the listener of new connections to guarded ports, in this network namespace (ingress).
//!
//! Its link is pinned like the others: without this process, and without a listener in the table, guarded ports answer
//! nobody. A kernel without `sk_lookup` (before 5.9), or one that refuses it, is a stated lesser mode: no port can be
//! guarded there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{HashMap, MapData, SockMap};
use aya::programs::{Program, SkLookup};
use sluice_abi::{Protection, seat};

use super::integrity::{self, Found};
use super::{Guard, GuardError, maps, records, words};
use crate::sys::{self, Attach};

/// Of the object.
const PROGRAM: &str = "sluice_lookup";
/// What a network namespace is known by.
const OWN_NAMESPACE: &str = "/proc/self/ns/net";

/// A port of this host and the index of its target in the configuration.
pub(crate) type Port = (u16, u32);

/// The link, and why there is none.
pub(super) struct Lookup {
    pin: PathBuf,
    link: Option<OwnedFd>,
    /// Why no port can be guarded.
    pub(super) fault: Option<String>,
}

/// Hands the program to the verifier. Its refusal is no reason not to guard by the other layers.
pub(super) fn load(ebpf: &mut Ebpf) -> Option<String> {
    let Some(Program::SkLookup(program)) = ebpf.program_mut(PROGRAM) else {
        return Some("not in the object".to_owned());
    };
    let refusal = program.load().err()?;
    // the verifier's first line, and its last but for the statistics
    let all = words(&refusal);
    let lines: Vec<&str> = all.lines().collect();
    let last = lines.len().saturating_sub(6);
    Some(format!("{} … {}", lines.first().unwrap_or(&""), lines.get(last..).unwrap_or_default().join(" / ")))
}

impl Lookup {
    /// Not attached yet. `fault`: what [`load`] said.
    pub(super) fn new(pins: &Path, fault: Option<String>) -> Self {
        Self { pin: pins.join("lookup"), link: None, fault }
    }

    /// Attaches, or swaps the program in place.
    pub(super) fn attach(&mut self, ebpf: &Ebpf, pins: &Path) -> Result<(), GuardError> {
        if self.fault.is_some() {
            return Ok(());
        }
        let Some(program) = program(ebpf) else { return Ok(()) };
        match hold(program, &self.pin) {
            Ok(Held::Link(link)) => self.link = Some(link),
            Ok(Held::Elsewhere) => return Err(GuardError::Namespace { pins: pins.to_owned() }),
            Err(error) => self.fault = Some(format!("{error} (sk_lookup needs Linux 5.9)")),
        }
        Ok(())
    }
}

impl Lookup {
    /// Looks whether the link is what was put there, and puts it there again where not.
    pub(super) fn inspect(&mut self, ebpf: &Ebpf, found: &mut Found) {
        let (Some(link), Some(program)) = (&self.link, program(ebpf)) else { return };
        let namespace = match File::open(OWN_NAMESPACE) {
            Ok(namespace) => namespace,
            Err(error) => {
                return found.add("link", PROGRAM, "its network namespace can't be asked", Err(error));
            }
        };
        let at = sys::number(namespace.as_fd());
        let fresh = || sys::link_create(program, at, Attach::SkLookup);
        let detached = sys::link_namespace(link.as_fd()).is_ok_and(|number| number == 0);
        let seat = integrity::Seat { name: PROGRAM, link: link.as_fd(), pin: &self.pin, program, detached };
        if let Some(link) = seat.inspect(fresh, found) {
            self.link = Some(link);
        }
        found.strangers(PROGRAM, at, Attach::SkLookup, &[program]);
    }
}

enum Held {
    Link(OwnedFd),
    Elsewhere,
}

fn hold(program: BorrowedFd<'_>, pin: &Path) -> io::Result<Held> {
    let namespace = File::open(OWN_NAMESPACE)?;
    let own = u32::try_from(namespace.metadata()?.ino()).map_err(io::Error::other)?;
    match sys::pinned(pin) {
        Ok(link) => match sys::link_namespace(link.as_fd())? {
            number if number == own => {
                sys::link_update(link.as_fd(), program)?;
                return Ok(Held::Link(link));
            }
            // its namespace is gone, and with it everything that was guarded there
            0 => fs::remove_file(pin)?,
            _ => return Ok(Held::Elsewhere),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let link = sys::link_create(program, sys::number(namespace.as_fd()), Attach::SkLookup)?;
    sys::pin(link.as_fd(), pin)?;
    Ok(Held::Link(link))
}

fn program(ebpf: &Ebpf) -> Option<BorrowedFd<'_>> {
    let Program::SkLookup(program) = ebpf.program(PROGRAM)? else { return None };
    SkLookup::fd(program).ok().map(|fd| fd.as_fd())
}

impl Guard {
    /// Why no port of this host can be guarded, where that is so.
    pub(crate) fn no_lookup(&self) -> Option<&str> {
        self.lookup.fault.as_deref()
    }

    /// From now on new connections to these ports of this host go to the proxy, and no others: what is new comes before
    /// what is old goes.
    pub(crate) fn guard_ports(&mut self, wanted: &BTreeSet<Port>) -> Result<(), GuardError> {
        for (port, target) in wanted {
            self.set_port(*port, Protection { target: *target, flags: 0 })?;
        }
        let old: Vec<u16> = self.ports.iter().map(|(port, _)| *port).collect();
        for port in old {
            if !wanted.iter().any(|(still, _)| *still == port) {
                self.forget_port(port)?;
            }
        }
        self.ports = wanted.clone();
        Ok(())
    }

    pub(super) fn set_port(&mut self, port: u16, protection: Protection) -> Result<(), GuardError> {
        let value = records::protection(&protection);
        self.port_table()?.insert(u32::from(port), value, 0).map_err(|e| maps::fault("PORTS", &e))?;
        self.changed()
    }

    pub(super) fn forget_port(&mut self, port: u16) -> Result<(), GuardError> {
        self.port_table()?.remove(&u32::from(port)).map_err(|e| maps::fault("PORTS", &e))?;
        self.changed()
    }

    /// Whether the port stands in the table as it was written.
    pub(super) fn port_stands(&mut self, (port, target): Port) -> Result<bool, GuardError> {
        let value = records::protection(&Protection { target, flags: 0 });
        Ok(self.port_table()?.get(&u32::from(port), 0).is_ok_and(|found| found == value))
    }

    fn port_table(&mut self) -> Result<HashMap<&mut MapData, u32, [u8; 8]>, GuardError> {
        let map = self.ebpf.map_mut("PORTS").ok_or_else(|| maps::fault("PORTS", &"not in the object"))?;
        HashMap::try_from(map).map_err(|e| maps::fault("PORTS", &e))
    }

    /// What stands in the table, also from an earlier loader.
    pub(super) fn known_ports(&mut self) -> Result<BTreeSet<Port>, GuardError> {
        let table = self.port_table()?;
        let mut ports = BTreeSet::new();
        for entry in table.iter() {
            let (port, value) = entry.map_err(|e| maps::fault("PORTS", &e))?;
            let target = u32::from_ne_bytes([value[0], value[1], value[2], value[3]]);
            ports.extend(u16::try_from(port).ok().map(|port| (port, target)));
        }
        Ok(ports)
    }

    /// The proxy's listeners are there (IPv4, and IPv6 where the kernel has it): guarded ports lead to them.
    pub(crate) fn seat(&mut self, listeners: &[OwnedFd]) -> Result<(), GuardError> {
        for (number, listener) in [seat::IPV4, seat::IPV6].into_iter().zip(listeners) {
            self.take_seat(number, listener.as_fd())?;
        }
        Ok(())
    }

    pub(super) fn take_seat(&mut self, number: u32, listener: BorrowedFd<'_>) -> Result<(), GuardError> {
        if self.lookup.fault.is_some() {
            return Ok(());
        }
        let fault = |e: &dyn std::fmt::Display| maps::fault("LISTENERS", e);
        let map = self.ebpf.map_mut("LISTENERS").ok_or_else(|| fault(&"not in the object"))?;
        let mut table = SockMap::try_from(map).map_err(|e| fault(&e))?;
        table.set(number, &listener, 0).map_err(|e| fault(&e))
    }
}
