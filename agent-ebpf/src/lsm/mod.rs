//! BPF-LSM: what root may not do to the agent, nor to what it guards.
//!
//! One file a concern. Enters: what the loader wrote into the settings; who is trusted, which `trust.rs` tells. Leaves:
//! EPERM and an event, or nothing. Must hold: without settings nothing is refused; whoever is trusted is never refused;
//! what can't be told of a protected object is no reason to refuse the rest of the host anything.

mod bpf;
mod exec;
mod kernel;
mod pins;
mod process;
mod socket;
mod trust;

use aya_ebpf::{EbpfContext as _, programs::LsmContext};
use sluice_abi::{
    Road, Verdict,
    lsm::{Inode, Settings, flag},
};

use crate::{
    event::{self, Wanted},
    maps::LSM_SETTINGS,
    mode,
    task::{self, OFF_DENTRY_INODE, OFF_DEV, OFF_INO, OFF_SB, field, peek},
};

/// What a hook answers to let the call go on.
const PERMIT: i32 = 0;
/// EPERM.
const REFUSE: i32 = -1;
/// Place of `dentry` in `struct path`, behind `mnt`.
const PATH_DENTRY: u64 = 8;

/// An argument of the hook. Read as memory, so that the verifier takes it for a number: what it points to is read by
/// offsets that the loader found.
#[inline(always)]
fn arg(ctx: &LsmContext, n: usize) -> u64 {
    peek(ctx.as_ptr() as u64 + n as u64 * 8).unwrap_or(0)
}

/// The settings, where they ask for this.
#[inline(always)]
fn asked(flag: u32) -> Option<&'static Settings> {
    LSM_SETTINGS.get(0).filter(|settings| settings.flags & flag != 0)
}

/// Whether self-protection refuses the caller this.
#[inline(always)]
fn guarded() -> Option<&'static Settings> {
    asked(flag::SELF).filter(|_| !trust::trusted())
}

/// The same for what the service manager itself may do.
#[inline(always)]
fn guarded_but_for_manager() -> Option<&'static Settings> {
    guarded().filter(|_| !trust::is_manager())
}

/// EPERM, and an event with who it was.
#[inline(always)]
fn refuse(road: Road, detail: u32) -> i32 {
    let wanted = Wanted { family: 0, addr: &[0; 16], port_be: (detail as u16).to_be(), cookie: 0, netns: 0 };
    // SAFETY: `tell` gives room for a record.
    event::tell(road, Verdict::Denied, |to| unsafe { event::caller(to, wanted) });
    REFUSE
}

/// The same where the guard enforces. The agent itself is protected in every mode, as the proxy's port is: nobody else has a
/// use for it, and whoever may open the guard has a road of his own.
#[inline(always)]
fn deny(road: Road, detail: u32) -> i32 {
    let verdict = refuse(road, detail);
    if mode::passive() { PERMIT } else { verdict }
}

/// What an inode is known by.
#[inline(always)]
fn inode(inode: u64) -> Option<Inode> {
    let sb: u64 = field(inode, &OFF_SB)?;
    let dev: u32 = field(sb, &OFF_DEV)?;
    Some(Inode { dev: u64::from(dev), ino: field(inode, &OFF_INO)? })
}

/// The same of a directory's entry; nothing where it has no inode.
#[inline(always)]
fn inode_of_dentry(dentry: u64) -> Option<Inode> {
    inode(field(dentry, &OFF_DENTRY_INODE)?)
}

/// The dentry of a `struct path`.
#[inline(always)]
fn dentry_of_path(path: u64) -> u64 {
    if path == 0 { 0 } else { peek(path + PATH_DENTRY).unwrap_or(0) }
}

/// Number of one of the caller's namespaces.
#[inline(always)]
fn namespace(which: &'static u32, common: &'static u32) -> u32 {
    let all: u64 = field(task::current(), &task::OFF_NSPROXY).unwrap_or(0);
    let one: u64 = field(all, which).unwrap_or(0);
    task::nested(one, common, &task::OFF_INUM).unwrap_or(0)
}
