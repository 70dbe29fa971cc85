//! What the BPF-LSM programs are told: what is to be protected, how strictly, and from whom not.

use crate::Proxy;

/// A file or directory of the host. `dev` is the kernel's own number of the device (major × 2²⁰ + minor).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode {
    /// Of its file system.
    pub dev: u64,
    /// Within that.
    pub ino: u64,
}

/// The value under an [`Inode`].
pub mod part {
    /// A directory of the pins: nothing in it is made, moved or removed, and nothing is mounted on it.
    pub const PINS: u32 = 1;
    /// A directory above those: nothing is mounted on it, and it is not unmounted.
    pub const ABOVE: u32 = 2;
}

/// In [`Settings::flags`].
pub mod flag {
    /// The loader, the proxy, pins, programs and maps are protected.
    pub const SELF: u32 = 1;
    /// So is the kernel itself: modules, kexec, memory, traffic control, loading programs.
    pub const STRICT: u32 = 2;
    /// Packet, XDP and raw IP sockets are refused.
    pub const PACKETS: u32 = 4;
}

/// One entry, written by the loader alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// See [`flag`]. None: nothing is refused.
    pub flags: u32,
    /// Number of the mount namespace that the pins are mounted in.
    pub mount_ns: u32,
    /// Number of the guarded network namespace.
    pub net_ns: u32,
    /// Zero.
    pub pad: u32,
    /// The guarded cgroup's directory.
    pub cgroup: Inode,
}

/// Key of a kernel object that is the loader's: kind and id.
pub mod object {
    /// A map of this id.
    #[must_use]
    pub const fn map(id: u32) -> u64 {
        1 << 32 | id as u64
    }

    /// A program of this id.
    #[must_use]
    pub const fn program(id: u32) -> u64 {
        2 << 32 | id as u64
    }
}

/// Last name of the loader's own file: what is started under it, by the service manager and out of the directory that the
/// loader ran from, is the next loader.
pub const LOADER: &[u8; 14] = b"sluice-loader\0";

/// Last name of the proxy's file, in the same directory.
pub const PROXY: &[u8; 8] = b"sluiced\0";

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Inode>() == 16);
    assert!(size_of::<Settings>() == 32);
    assert!(offset_of!(Settings, cgroup) == 16);
    assert!(size_of::<Proxy>() == 24);
};
