//! What can be done in the kernel without a guard that stands: see whether an older one's programs hold, open them, or
//! refuse with those programs that this kernel takes.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use sluice_abi::ABI_VERSION;

use super::{Cookies, Guard, GuardError, Place, at, attach, btf, is_root, maps, open};
use crate::mode::Mode;
use crate::sys::{self, Attach};

/// Without a listener in their tables they refuse every connect and drop every packet to a protected place.
const REFUSING: [&str; 5] =
    ["sluice_connect4", "sluice_connect6", "sluice_sendmsg4", "sluice_sendmsg6", "sluice_egress"];

impl Guard {
    /// Whether programs of an earlier loader refuse connects.
    pub(crate) fn holds(pins: &Path) -> bool {
        REFUSING.iter().all(|name| {
            let link = sys::pinned(&attach::links(pins).join(name));
            link.is_ok_and(|link| sys::link_place(link.as_fd()).is_ok_and(|place| place.cgroup != 0))
        })
    }

    /// Another Sluice at the same cgroup: its program that leads connects away, which is in no link of ours.
    pub(crate) fn another(cgroup: &Path, pins: &Path) -> Option<String> {
        let guarded = File::open(cgroup).ok()?;
        let own = sys::pinned(&attach::links(pins).join("sluice_connect4")).ok();
        let own = own.and_then(|link| sys::link_ids(link.as_fd()).ok()).map(|(_, program)| program);
        let there = sys::programs_at(sys::number(guarded.as_fd()), Attach::Connect4).ok()?;
        let others = there.into_iter().filter(|id| Some(*id) != own).map(sys::program_words);
        others.into_iter().find(|words| words.starts_with("sluice_connect"))
    }

    /// Programs of others at the hooks of a cgroup.
    pub(crate) fn strangers(cgroup: &Path) -> Vec<String> {
        let Ok(guarded) = File::open(cgroup) else { return Vec::new() };
        let at = |hook| sys::programs_at(sys::number(guarded.as_fd()), hook).unwrap_or_default();
        let mut words: Vec<String> = attach::hooks().flat_map(at).map(sys::program_words).collect();
        words.retain(|words| !words.starts_with("sluice_"));
        words.sort();
        words.dedup();
        words
    }

    /// Lets the pinned programs enforce, or not. Where there are none there is nothing to do.
    pub(crate) fn open(pins: &Path, mode: Mode) -> Result<(), GuardError> {
        let pin = pins.join(format!("maps-{ABI_VERSION}")).join("MODE");
        if !pin.exists() {
            return Ok(());
        }
        let fault = |e: &dyn std::fmt::Display| maps::fault("MODE", e);
        let map = MapData::from_pin(&pin).map_err(|e| fault(&e))?;
        let mut array = Array::<_, u32>::try_from(Map::Array(map)).map_err(|e| fault(&e))?;
        array.set(0, mode.number(), 0).map_err(|e| fault(&e))
    }

    /// Refuses with those programs that the kernel takes, which are given by name.
    ///
    /// # Errors
    /// It takes none that refuses connects, and the last reason why.
    pub(crate) fn deny(
        object: &Path,
        cgroup: &Path,
        pins: &Path,
        places: &[Place],
    ) -> Result<Vec<&'static str>, GuardError> {
        let dir = pins.join(format!("maps-{ABI_VERSION}"));
        fs::create_dir_all(&dir).map_err(at("making the directory of pins", &dir))?;
        let bytes = fs::read(object).map_err(at("reading the kernel programs", object))?;
        let offsets = btf::offsets(Path::new(btf::VMLINUX));
        let kind = (Cookies::Nowhere, u32::from(is_root(cgroup)));
        let mut ebpf = open(object, &bytes, &offsets, &dir, kind)?;
        for place in places {
            maps::insert(&mut ebpf, *place, 0)?;
        }
        maps::changed(&mut ebpf)?;
        let mut refusing = Vec::new();
        let mut last = None;
        for name in REFUSING {
            match attach::alone(&mut ebpf, name, cgroup, pins) {
                Ok(()) => refusing.push(name),
                Err(error) => last = Some(error),
            }
        }
        Self::open(pins, Mode::Enforce)?;
        let both = ["sluice_connect4", "sluice_connect6"].iter().all(|name| refusing.contains(name));
        match last {
            Some(error) if !both && !refusing.contains(&"sluice_egress") => Err(error),
            _ => Ok(refusing),
        }
    }
}
