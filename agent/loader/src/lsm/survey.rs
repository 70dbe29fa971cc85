//! What is ours: the directories of the pins, and the maps and programs behind the pins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};
use sluice_abi::lsm::{Inode, object, part};

use crate::sys;

/// An [`Inode`] as the tables keep it.
pub(super) type Key = [u8; size_of::<Inode>()];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) inodes: BTreeMap<Inode, u32>,
    pub(super) objects: BTreeSet<u64>,
}

pub(super) fn key(inode: Inode) -> Key {
    let mut out = Key::default();
    out[..8].copy_from_slice(&inode.dev.to_ne_bytes());
    out[8..].copy_from_slice(&inode.ino.to_ne_bytes());
    out
}

/// The kernel's own number of the device has the major one above twenty bits.
pub(super) fn inode(metadata: &Metadata) -> Inode {
    let dev = metadata.dev();
    Inode { dev: major(dev) << 20 | minor(dev), ino: metadata.ino() }
}

/// Walks the directory of pins.
pub(super) fn survey(pins: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    walk(pins, &mut found)?;
    // not the root: programs that make a file system of their own put it there
    for above in pins.ancestors().skip(1).filter(|above| above.parent().is_some()) {
        found.inodes.insert(inode(&fs::metadata(above)?), part::ABOVE);
    }
    Ok(found)
}

fn walk(directory: &Path, found: &mut Found) -> io::Result<()> {
    found.inodes.insert(inode(&fs::metadata(directory)?), part::PINS);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
            continue;
        }
        // it has gone meanwhile: a device's link
        let Ok(pinned) = sys::pinned(&entry.path()) else { continue };
        let key = match Kind::of(&pinned)? {
            Kind::Map => object::map(sys::object_id(pinned.as_fd())?),
            Kind::Program => object::program(sys::object_id(pinned.as_fd())?),
            Kind::Link => object::program(sys::link_program(pinned.as_fd())?),
        };
        found.objects.insert(key);
    }
    Ok(())
}

enum Kind {
    Map,
    Program,
    Link,
}

impl Kind {
    /// As the kernel names the file behind the descriptor.
    fn of(pinned: &std::os::fd::OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let name = fs::read_link(format!("/proc/self/fd/{}", pinned.as_raw_fd()))?;
        match name.to_str().unwrap_or_default() {
            "anon_inode:bpf-map" => Ok(Self::Map),
            "anon_inode:bpf-prog" => Ok(Self::Program),
            // as older kernels, and newer ones, write it
            "anon_inode:bpf-link" | "anon_inode:bpf_link" => Ok(Self::Link),
            other => Err(io::Error::other(format!("a pin of an unknown kind: {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_numbered_as_the_kernel_does() {
        let metadata = fs::metadata("/proc/self").unwrap();
        let found = inode(&metadata);
        // file systems without a device have major 0
        assert_eq!((found.dev >> 20, found.ino), (0, metadata.ino()));
        assert_eq!(key(Inode { dev: 1, ino: 2 })[8], 2);
    }
}
