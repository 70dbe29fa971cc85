//! The layer `lsm`: what root may not do to the agent, nor to what it guards.
//!
//! Enters: the programs, the directory of pins, what the configuration asks for. Leaves: links that outlive this process,
//! tables that say what is ours, and the canary's word. What must hold: where the kernel does not run BPF-LSM programs
//! nothing is claimed; this process is registered as the loader before any program is attached, so that it never shuts
//! itself out; what is ours is looked up again whenever something was pinned.

mod attach;
mod canary;
mod judging;
mod manager;
mod survey;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use sluice_abi::lsm::{Settings, flag};
use sluice_config::{PacketSockets, SelfProtection};

use crate::kernel::{self, Found, Layer};
use crate::process;

pub(crate) use canary::{SESSION as CANARY, child as canary_child};
pub(crate) use judging::Judging;
pub(crate) use manager::instead as by_manager;

/// As [`sluice_config::Layer`] names it.
const NAME: &str = "lsm";
/// Which security modules run, in their order.
const MODULES: &str = "/sys/kernel/security/lsm";

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) protection: SelfProtection,
    pub(crate) packets: PacketSockets,
}

impl Wish {
    pub(crate) fn of(guard: &sluice_config::Guard) -> Self {
        Self { protection: guard.self_protection, packets: guard.packet_sockets }
    }

    fn flags(self) -> u32 {
        let own = match self.protection {
            SelfProtection::Off => 0,
            SelfProtection::On => flag::SELF,
            SelfProtection::Strict => flag::SELF | flag::STRICT,
        };
        own | if self.packets == PacketSockets::Deny { flag::PACKETS } else { 0 }
    }
}

/// The layer.
pub(crate) struct Lsm {
    pins: PathBuf,
    maps: PathBuf,
    cgroup: PathBuf,
    settings: Array<MapData, [u8; size_of::<Settings>()]>,
    inodes: HashMap<MapData, survey::Key, u32>,
    objects: HashMap<MapData, u64, u32>,
    services: HashMap<MapData, survey::Key, u32>,
    /// Proxies that the service manager has made: number and start, in nanoseconds since the boot.
    proxies: HashMap<MapData, u32, u64>,
    flags: u32,
    /// Why the programs do not run, or not all of them.
    fault: Option<String>,
}

impl Lsm {
    /// Loads the programs; attaches none. That they are refused is no reason not to guard by the other layers.
    ///
    /// # Errors
    /// In words: the object lacks the tables.
    pub(crate) fn load(ebpf: &mut Ebpf, pins: &Path, maps: &Path, cgroup: &Path) -> Result<Self, String> {
        let fault = running(Path::new(MODULES)).and_then(|()| attach::load(ebpf)).err();
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| format!("no map {name} in the object"));
        let words = |error: aya::maps::MapError| error.to_string();
        Ok(Self {
            pins: pins.to_owned(),
            maps: maps.to_owned(),
            cgroup: cgroup.to_owned(),
            settings: map("LSM_SETTINGS")?.try_into().map_err(words)?,
            inodes: map("LSM_INODES")?.try_into().map_err(words)?,
            objects: map("LSM_OBJECTS")?.try_into().map_err(words)?,
            services: map("UNIX_SERVICES")?.try_into().map_err(words)?,
            proxies: map("LSM_PROXIES")?.try_into().map_err(words)?,
            flags: 0,
            fault,
        })
    }

    /// Whether the programs run.
    pub(crate) fn runs(&self) -> bool {
        self.fault.is_none()
    }

    /// Whether the service manager has made the proxy with this number and start (clock ticks) out of the loader's own
    /// directory, and nobody was let at it since. Nothing where the programs do not run, or nothing is to be protected.
    pub(crate) fn is_of_manager(&self, pid: u32, start_ticks: u64) -> Option<bool> {
        if self.fault.is_some() || self.flags & flag::SELF == 0 {
            return None;
        }
        let tick = 1_000_000_000 / process::ticks_per_second();
        Some(self.proxies.get(&pid, 0).is_ok_and(|start| start / tick == start_ticks))
    }

    /// Puts the programs in force. This process is the registered loader by now, and what it asks of the kernel meanwhile
    /// tells the programs where it runs from.
    pub(crate) fn attach(&mut self, ebpf: &mut Ebpf) {
        if self.fault.is_none() {
            self.fault = attach::attach(ebpf, &self.pins).err();
        }
    }

    /// From now on this is refused. Without programs that run nothing is.
    ///
    /// # Errors
    /// In words: what was asked for is not in force.
    pub(crate) fn apply(&mut self, wish: Wish) -> Result<(), String> {
        self.look()?;
        self.flags = wish.flags();
        let number = |path: &str| -> Result<u32, String> {
            let found = fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
            u32::try_from(found.ino()).map_err(|error| format!("{path}: {error}"))
        };
        let cgroup = fs::metadata(&self.cgroup).map_err(|e| format!("{}: {e}", self.cgroup.display()))?;
        let settings = Settings {
            flags: self.flags,
            mount_ns: number("/proc/self/ns/mnt")?,
            net_ns: number("/proc/self/ns/net")?,
            pad: 0,
            cgroup: survey::inode(&cgroup),
        };
        self.settings.set(0, bytes(&settings), 0).map_err(|error| error.to_string())
    }

    /// Looks up what is ours: to be called after something was pinned.
    ///
    /// # Errors
    /// In words: something of ours may not be protected.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        if self.fault.is_some() {
            return Ok(());
        }
        let found = survey::survey(&self.pins).map_err(|e| format!("{}: {e}", self.pins.display()))?;
        let words = |error: aya::maps::MapError| error.to_string();
        for (inode, part) in &found.inodes {
            self.inodes.insert(survey::key(*inode), part, 0).map_err(words)?;
        }
        for object in &found.objects {
            self.objects.insert(object, 1, 0).map_err(words)?;
        }
        // what has gone makes room: ids are not used again soon
        let known: BTreeSet<u64> = self.objects.keys().filter_map(Result::ok).collect();
        for gone in known.difference(&found.objects) {
            self.objects.remove(gone).map_err(words)?;
        }
        let known: Vec<survey::Key> = self.inodes.keys().filter_map(Result::ok).collect();
        for gone in known.iter().filter(|key| !found.inodes.keys().any(|inode| survey::key(*inode) == **key))
        {
            self.inodes.remove(gone).map_err(words)?;
        }
        Ok(())
    }

    /// From now on nobody but the proxy connects to these Unix sockets, by whatever path, and to no others: to be said again
    /// when a service has made its socket anew.
    ///
    /// # Errors
    /// In words: one of them may be open.
    pub(crate) fn services(&mut self, sockets: &[PathBuf]) -> Result<(), String> {
        let words = |error: aya::maps::MapError| error.to_string();
        let there = |path: &PathBuf| fs::metadata(path).ok().map(|found| survey::key(survey::inode(&found)));
        let wanted: BTreeSet<survey::Key> = sockets.iter().filter_map(there).collect();
        for socket in &wanted {
            self.services.insert(socket, 1, 0).map_err(words)?;
        }
        let known: BTreeSet<survey::Key> = self.services.keys().filter_map(Result::ok).collect();
        for gone in known.difference(&wanted) {
            self.services.remove(gone).map_err(words)?;
        }
        Ok(())
    }

    /// Looks whether the programs are still at their hooks, and puts them back where not; then at what is ours, which
    /// may be pinned anew.
    pub(crate) fn inspect(&mut self, ebpf: &mut Ebpf, found: &mut Found) {
        if self.fault.is_some() {
            return;
        }
        attach::inspect(ebpf, &self.pins, found);
        if !found.is_empty()
            && let Err(error) = self.look()
        {
            tracing::error!(error, "what was put back may not be protected");
        }
    }

    /// What says which loader answers for judged sessions. Nothing where no program reads it.
    pub(crate) fn judging(&self) -> Option<Judging> {
        if !self.runs() {
            return None;
        }
        let opened = Judging::open(&self.maps);
        opened
            .inspect_err(|error| tracing::error!(%error, "judged sessions are not tied to this loader"))
            .ok()
    }

    /// Sends a canary, which goes into this cgroup.
    pub(crate) fn probe(&mut self, cgroup: &Path) -> Layer {
        if self.fault.is_none()
            && let Err(error) = self.look()
        {
            self.fault = Some(error);
        }
        let (state, proof) = match &self.fault {
            Some(fault) => ("absent", format!("root is not kept from the agent: {fault}")),
            None => canary::probe(self, cgroup),
        };
        Layer { name: NAME, state, proof }
    }
}

/// Whether the kernel runs BPF-LSM programs.
fn running(modules: &Path) -> Result<(), String> {
    match fs::read_to_string(modules) {
        Ok(list) if list.trim().split(',').any(|module| module == "bpf") => Ok(()),
        Ok(list) => Err(format!(
            "the kernel runs no BPF-LSM programs; add bpf to lsm= on its command line (now {})",
            list.trim()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{} is not there: mount -t securityfs none /sys/kernel/security", modules.display()))
        }
        Err(error) => Err(format!("{}: {error}", modules.display())),
    }
}

/// An error of a program, cut: the verifier says the whole program before it says what is wrong.
fn last_words(error: &dyn std::error::Error) -> String {
    let all = kernel::words(error);
    let lines: Vec<&str> = all.lines().collect();
    let last = lines.len().saturating_sub(4);
    format!("{} … {}", lines.first().unwrap_or(&""), lines.get(last..).unwrap_or_default().join(" / "))
}

fn bytes(settings: &Settings) -> [u8; size_of::<Settings>()] {
    let mut out = [0; size_of::<Settings>()];
    out[..4].copy_from_slice(&settings.flags.to_ne_bytes());
    out[4..8].copy_from_slice(&settings.mount_ns.to_ne_bytes());
    out[8..12].copy_from_slice(&settings.net_ns.to_ne_bytes());
    out[16..].copy_from_slice(&survey::key(settings.cgroup));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_runs_them_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("lsm");
        assert!(running(&at).unwrap_err().contains("securityfs"));
        fs::write(&at, "lockdown,yama,bpfx\n").unwrap();
        assert!(running(&at).unwrap_err().contains("command line"));
        fs::write(&at, "lockdown,yama,bpf\n").unwrap();
        assert_eq!(running(&at), Ok(()));
    }

    #[test]
    fn what_is_asked_for() {
        let wish = |protection, packets| Wish { protection, packets }.flags();
        assert_eq!(wish(SelfProtection::Off, PacketSockets::Allow), 0);
        assert_eq!(wish(SelfProtection::Off, PacketSockets::Deny), flag::PACKETS);
        assert_eq!(wish(SelfProtection::Strict, PacketSockets::Allow), flag::SELF | flag::STRICT);
        let cgroup = sluice_abi::lsm::Inode { dev: 7, ino: 9 };
        let raw = bytes(&Settings { flags: 1, mount_ns: 2, net_ns: 3, pad: 0, cgroup });
        assert_eq!((raw[8], raw[16], raw[24]), (3, 7, 9));
    }
}
