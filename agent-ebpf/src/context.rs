//! Access to the fields of a program's context.
//!
//! Volatile, field by field: LLVM merges two neighbouring 32-bit accesses into one of 64, and the verifier refuses
//! that ("invalid bpf_context access").

/// Reads a field of a context: `read!(pointer, field)`.
macro_rules! read {
    ($pointer:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands the program a valid context, and the verifier checks offset and size.
        unsafe { core::ptr::addr_of!((*$pointer).$($field)+).read_volatile() }
    };
}

/// Writes a field of a context: `write!(pointer, value, field)`.
macro_rules! write {
    ($pointer:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as with `read!`.
        unsafe { core::ptr::addr_of_mut!((*$pointer).$($field)+).write_volatile($value) }
    };
}

pub(crate) use {read, write};

use sluice_abi::Addr;

/// `AF_INET`.
pub(crate) const AF_INET: u32 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u32 = 10;

pub(crate) const SOCK_STREAM: u32 = 1;
pub(crate) const SOCK_DGRAM: u32 = 2;
pub(crate) const SOCK_RAW: u32 = 3;

pub(crate) const IPPROTO_TCP: u32 = 6;
pub(crate) const IPPROTO_MPTCP: u32 = 262;

/// What a `cgroup/…` program answers to let the call go on.
pub(crate) const ALLOW: i32 = 1;
/// What it answers to refuse it (EPERM; a packet is dropped).
pub(crate) const REFUSE: i32 = 0;

/// `::ffff:127.0.0.1`.
pub(crate) const LOOPBACK4: Addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
/// `::1`.
pub(crate) const LOOPBACK6: Addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An IPv4 address as the kernel's fields keep it (network order in memory) in its mapped form.
#[inline(always)]
pub(crate) fn mapped(ip4: u32) -> Addr {
    let b = ip4.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]]
}

/// Four words of an IPv6 address as the kernel's fields keep it.
#[inline(always)]
pub(crate) fn addr6(words: [u32; 4]) -> Addr {
    let (a, b, c, d) =
        (words[0].to_ne_bytes(), words[1].to_ne_bytes(), words[2].to_ne_bytes(), words[3].to_ne_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// The words of an address, for the kernel's fields.
#[inline(always)]
pub(crate) fn words(a: &Addr) -> [u32; 4] {
    [
        u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
    ]
}
