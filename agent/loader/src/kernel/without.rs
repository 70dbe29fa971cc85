//! What can be done in the kernel without a guard that stands: see whether an older one's programs hold, open them, or
//! refuse with those programs that this kernel takes.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use sluice_abi::ABI_VERSION;

use super::{Cookies, Guard, GuardError, Place, at, attach, btf, is_root, maps, open};
use crate::mode::Mode;
use crate::sys;

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
