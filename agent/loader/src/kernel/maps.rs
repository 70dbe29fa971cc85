//! The maps: what the programs know, written here alone.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, MapType};
use ipnet::IpNet;
use sluice_abi::{Addr, Protection};

use super::{Guard, GuardError, Place, records};

/// All of them are pinned under these names.
pub(super) const NAMES: [&str; 35] = [
    "DESTINATIONS",
    "ADDRESSES",
    "PROXY",
    "BINDER",
    "LISTENER",
    "WANT",
    "GOT",
    "FLOWS",
    "TAGS",
    "PORTS",
    "OWN",
    "LISTENERS",
    "GUARDED",
    "HOME",
    "EVENTS",
    "DROPPED",
    "MEMBERS_OF",
    "TALLIES",
    "EXECUTED",
    "MODE",
    "LSM_SETTINGS",
    "LSM_INODES",
    "LSM_OBJECTS",
    "LSM_HOME",
    "LSM_CHILDREN",
    "LSM_LOADERS",
    "LSM_PROXIES",
    "UNIX_SERVICES",
    "HOLDER",
    "JUDGED",
    "WELL_KNOWN",
    "SPOKEN",
    "LOCALS",
    "FIRST",
    "GENERATION",
];

pub(super) fn fault(map: &'static str, reason: &dyn Display) -> GuardError {
    GuardError::Map { map, reason: reason.to_string() }
}

/// The descriptor of a table that this process holds as one of the object's.
pub(super) fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LpmTrie(data)
    | Map::LruHashMap(data)
    | Map::SockMap(data)
    | Map::CgroupArray(data)
    | Map::RingBuf(data)
    | Map::SkStorage(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd())
}

/// Whether what is pinned under the names of our tables is of their kind: somebody else's is not written to.
///
/// # Errors
/// The first that is not.
pub(super) fn are_ours(ebpf: &Ebpf) -> Result<(), GuardError> {
    for name in NAMES {
        let Some((data, wanted)) = ebpf.map(name).and_then(kind) else { continue };
        let found = data.info().and_then(|info| info.map_type()).map_err(|e| fault(name, &e))?;
        if found != wanted {
            let reason = "a table of another kind is pinned under this name, which no loader has made: remove it, or \
                          choose other guard.pins";
            return Err(fault(name, &reason));
        }
    }
    Ok(())
}

/// A table of the object's, and of which kind it is to be.
fn kind(map: &Map) -> Option<(&MapData, MapType)> {
    Some(match map {
        Map::Array(data) => (data, MapType::Array),
        Map::HashMap(data) => (data, MapType::Hash),
        Map::LpmTrie(data) => (data, MapType::LpmTrie),
        Map::LruHashMap(data) => (data, MapType::LruHash),
        Map::SockMap(data) => (data, MapType::SockMap),
        Map::CgroupArray(data) => (data, MapType::CgroupArray),
        Map::RingBuf(data) => (data, MapType::RingBuf),
        Map::SkStorage(data) => (data, MapType::SkStorage),
        _ => return None,
    })
}

type Destinations<'a> = LpmTrie<&'a mut MapData, records::Place, [u8; 8]>;
type Addresses<'a> = LpmTrie<&'a mut MapData, Addr, [u8; 8]>;

/// Bits of a network in the mapped form.
fn bits(network: IpNet) -> u32 {
    let prefix = u32::from(network.prefix_len());
    if network.addr().is_ipv4() { 96 + prefix } else { prefix }
}

fn destination(place: Place) -> Key<records::Place> {
    let address = records::addr(place.network.network());
    Key::new(16 + bits(place.network), records::place(place.port, address))
}

fn address(network: IpNet) -> Key<Addr> {
    Key::new(bits(network), records::addr(network.network()))
}

impl Guard {
    pub(super) fn set_array<const N: usize>(
        &mut self,
        name: &'static str,
        value: [u8; N],
    ) -> Result<(), GuardError> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| fault(name, &"not in the object"))?;
        let mut array = Array::<_, [u8; N]>::try_from(map).map_err(|e| fault(name, &e))?;
        array.set(0, value, 0).map_err(|e| fault(name, &e))?;
        self.integrity.wrote(name, &value);
        Ok(())
    }

    pub(super) fn array<const N: usize>(&self, name: &'static str) -> Option<[u8; N]> {
        Array::<_, [u8; N]>::try_from(self.ebpf.map(name)?).ok()?.get(&0, 0).ok()
    }

    /// From now on these places are protected, and no others: what is new comes before what is old goes.
    pub(crate) fn protect(&mut self, places: &[Place]) -> Result<(), GuardError> {
        let wanted: BTreeSet<Place> = places.iter().copied().collect();
        let outcome = self.replace(&wanted);
        // also where not all of them are there
        self.changed()?;
        outcome?;
        self.places = wanted;
        Ok(())
    }

    fn replace(&mut self, wanted: &BTreeSet<Place>) -> Result<(), GuardError> {
        for place in wanted {
            insert(&mut self.ebpf, *place, 0)?;
        }
        // another target at the same network and port has the same key
        let keys: BTreeSet<_> = wanted.iter().map(|place| (place.network, place.port)).collect();
        let networks: BTreeSet<_> = wanted.iter().map(|place| place.network).collect();
        let old: Vec<Place> = self.places.difference(wanted).copied().collect();
        for place in old {
            if !keys.contains(&(place.network, place.port)) {
                self.take_out(place, networks.contains(&place.network))?;
            }
        }
        Ok(())
    }

    /// The address first: a place without it is not looked at.
    pub(super) fn add(&mut self, place: Place, flags: u32) -> Result<(), GuardError> {
        insert(&mut self.ebpf, place, flags)?;
        self.changed()
    }

    /// The tables are others now: what was judged by them before is judged again. To be called after each change.
    pub(super) fn changed(&mut self) -> Result<(), GuardError> {
        self.set_array("GENERATION", crate::sys::boot_ns().to_ne_bytes())
    }

    /// Whether the place stands in both tables as it was written.
    pub(super) fn stands(&mut self, place: Place) -> Result<bool, GuardError> {
        let value = records::protection(&Protection { target: place.target, flags: 0 });
        let map: Addresses<'_> = self.trie("ADDRESSES")?;
        let by_address = map.get(&address(place.network), 0).is_ok();
        let map: Destinations<'_> = self.trie("DESTINATIONS")?;
        Ok(by_address && map.get(&destination(place), 0).is_ok_and(|found| found == value))
    }

    pub(super) fn forget(&mut self, place: Place, keep_address: bool) -> Result<(), GuardError> {
        self.take_out(place, keep_address)?;
        self.changed()
    }

    fn take_out(&mut self, place: Place, keep_address: bool) -> Result<(), GuardError> {
        if !keep_address {
            let mut map: Addresses<'_> = self.trie("ADDRESSES")?;
            map.remove(&address(place.network)).map_err(|e| fault("ADDRESSES", &e))?;
        }
        let mut map: Destinations<'_> = self.trie("DESTINATIONS")?;
        map.remove(&destination(place)).map_err(|e| fault("DESTINATIONS", &e))
    }

    fn trie<'a, T>(&'a mut self, name: &'static str) -> Result<T, GuardError>
    where
        T: TryFrom<&'a mut Map>,
        T::Error: Display,
    {
        trie(&mut self.ebpf, name)
    }

    /// What stands in the table, also from an earlier loader.
    pub(super) fn known_places(&mut self) -> Result<BTreeSet<Place>, GuardError> {
        let map: Destinations<'_> = self.trie("DESTINATIONS")?;
        let mut places = BTreeSet::new();
        for entry in map.iter() {
            let (key, value) = entry.map_err(|e| fault("DESTINATIONS", &e))?;
            places.extend(place(key.prefix_len(), key.data(), value));
        }
        Ok(places)
    }
}

fn trie<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<T, GuardError>
where
    T: TryFrom<&'a mut Map>,
    T::Error: Display,
{
    let map = ebpf.map_mut(name).ok_or_else(|| fault(name, &"not in the object"))?;
    T::try_from(map).map_err(|e| fault(name, &e))
}

/// Protects a place.
pub(super) fn insert(ebpf: &mut Ebpf, place: Place, flags: u32) -> Result<(), GuardError> {
    let value = records::protection(&Protection { target: place.target, flags });
    let mut map: Destinations<'_> = trie(ebpf, "DESTINATIONS")?;
    map.insert(&destination(place), value, 0).map_err(|e| fault("DESTINATIONS", &e))?;
    let mut map: Addresses<'_> = trie(ebpf, "ADDRESSES")?;
    map.insert(&address(place.network), value, 0).map_err(|e| fault("ADDRESSES", &e))
}

/// The same as [`Guard::changed`], where there is no guard.
pub(super) fn changed(ebpf: &mut Ebpf) -> Result<(), GuardError> {
    let map = ebpf.map_mut("GENERATION").ok_or_else(|| fault("GENERATION", &"not in the object"))?;
    let mut array = Array::<_, [u8; 8]>::try_from(map).map_err(|e| fault("GENERATION", &e))?;
    array.set(0, crate::sys::boot_ns().to_ne_bytes(), 0).map_err(|e| fault("GENERATION", &e))
}

fn place(prefix: u32, data: records::Place, value: [u8; 8]) -> Option<Place> {
    let port = u16::from_be_bytes([data[0], data[1]]);
    let address: Addr = data.get(2..18)?.try_into().ok()?;
    let target = u32::from_ne_bytes(value.get(..4)?.try_into().ok()?);
    let ip = records::ip(address);
    let bits = prefix.checked_sub(if ip.is_ipv4() { 16 + 96 } else { 16 })?;
    let network = IpNet::new(ip, u8::try_from(bits).ok()?).ok()?;
    Some(Place { network, port, target })
}

/// A single address.
pub(super) fn single(address: IpAddr, port: u16) -> Place {
    Place { network: IpNet::from(address), port, target: u32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (network, port) in
            [("10.0.0.0/8", 5432), ("10.77.0.2/32", 0), ("fd00::/8", 1), ("::1/128", 65535)]
        {
            let before = Place { network: network.parse().unwrap(), port, target: 7 };
            let key = destination(before);
            let value = records::protection(&Protection { target: 7, flags: 0 });
            assert_eq!(place(key.prefix_len(), key.data(), value), Some(before));
        }
    }
}
