//! The pins: what keeps the programs in force while no loader runs.
//!
//! Their directories are known by inode, so that no other path leads around that. Mounts are refused where they would
//! cover or take away the pins for the host: in its own mount namespace, or in one that passes its mounts on to it. The
//! service manager mounts and unmounts as it likes: it does so at boot and at shutdown.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::{
    Road,
    lsm::{Inode, Settings, part},
};

use super::{
    PERMIT, arg, dentry_of_path, guarded, guarded_but_for_manager, inode, inode_of_dentry, namespace, refuse,
};
use crate::{
    maps::LSM_INODES,
    task::{
        OFF_MOUNT_FLAGS, OFF_MOUNT_NS, OFF_MOUNT_NS_COMMON, OFF_MOUNT_ROOT, OFF_MOUNT_SHARED, field, peek,
    },
};

/// `MNT_SHARED`, before Linux 6.17.
const MNT_SHARED: u32 = 0x1000;
/// `T_SHARED`, since.
const T_SHARED: u32 = 1;

#[inline(always)]
fn part_of(found: Option<Inode>) -> u32 {
    let Some(found) = found else { return 0 };
    match LSM_INODES.get_ptr(found) {
        // SAFETY: the map's own value.
        Some(part) => unsafe { *part },
        None => 0,
    }
}

#[inline(always)]
fn is_pins(directory: u64) -> bool {
    part_of(inode(directory)) == part::PINS
}

#[inline(always)]
fn names_pins(dentry: u64) -> bool {
    part_of(inode_of_dentry(dentry)) == part::PINS
}

/// Something in a directory of the pins, or such a directory itself.
#[inline(always)]
fn judge(directory: u64, dentry: u64) -> i32 {
    if guarded().is_none() || !(is_pins(directory) || names_pins(dentry)) {
        return PERMIT;
    }
    refuse(Road::Pins, 0)
}

/// unlink(2).
#[lsm(hook = "inode_unlink")]
pub fn sluice_lsm_unlink(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 0), arg(&ctx, 1))
}

/// rmdir(2).
#[lsm(hook = "inode_rmdir")]
pub fn sluice_lsm_rmdir(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 0), arg(&ctx, 1))
}

/// rename(2), out of, into and of a directory.
#[lsm(hook = "inode_rename")]
pub fn sluice_lsm_rename(ctx: LsmContext) -> i32 {
    if judge(arg(&ctx, 0), arg(&ctx, 1)) != PERMIT {
        return super::REFUSE;
    }
    judge(arg(&ctx, 2), arg(&ctx, 3))
}

/// link(2): another name that outlives ours.
#[lsm(hook = "inode_link")]
pub fn sluice_lsm_link(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 1), arg(&ctx, 0))
}

/// A pin of somebody else's, which the next loader would take for its own.
#[lsm(hook = "inode_create")]
pub fn sluice_lsm_create(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 0), 0)
}

/// mkdir(2), the same.
#[lsm(hook = "inode_mkdir")]
pub fn sluice_lsm_mkdir(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 0), 0)
}

/// symlink(2), the same.
#[lsm(hook = "inode_symlink")]
pub fn sluice_lsm_symlink(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 0), 0)
}

/// Whether what happens at this mount is seen by the host.
#[inline(always)]
fn is_seen(settings: &Settings, mount: u64) -> bool {
    if namespace(&OFF_MOUNT_NS, &OFF_MOUNT_NS_COMMON) == settings.mount_ns {
        return true;
    }
    match field::<u32>(mount, &OFF_MOUNT_SHARED) {
        Some(flags) => flags & T_SHARED != 0,
        None => field::<u32>(mount, &OFF_MOUNT_FLAGS).is_some_and(|flags| flags & MNT_SHARED != 0),
    }
}

/// A `struct path` that something is put upon.
#[inline(always)]
fn cover(path: u64) -> i32 {
    let Some(settings) = guarded_but_for_manager() else { return PERMIT };
    if part_of(inode_of_dentry(dentry_of_path(path))) == 0 || !is_seen(settings, peek(path).unwrap_or(0)) {
        return PERMIT;
    }
    refuse(Road::Mount, 0)
}

/// mount(2), also to change the options of one.
#[lsm(hook = "sb_mount")]
pub fn sluice_lsm_mount(ctx: LsmContext) -> i32 {
    cover(arg(&ctx, 1))
}

/// move_mount(2): over the pins, or them elsewhere.
#[lsm(hook = "move_mount")]
pub fn sluice_lsm_move(ctx: LsmContext) -> i32 {
    if cover(arg(&ctx, 0)) != PERMIT {
        return super::REFUSE;
    }
    cover(arg(&ctx, 1))
}

/// umount(2) of what the pins are on, or of what that is on.
#[lsm(hook = "sb_umount")]
pub fn sluice_lsm_umount(ctx: LsmContext) -> i32 {
    let Some(settings) = guarded_but_for_manager() else { return PERMIT };
    let mount = arg(&ctx, 0);
    let root = field(mount, &OFF_MOUNT_ROOT).unwrap_or(0);
    if part_of(inode_of_dentry(root)) == 0 || !is_seen(settings, mount) {
        return PERMIT;
    }
    refuse(Road::Mount, 1)
}

/// pivot_root(2) in the host's own mount namespace.
#[lsm(hook = "sb_pivotroot")]
pub fn sluice_lsm_pivot(_ctx: LsmContext) -> i32 {
    let Some(settings) = guarded_but_for_manager() else { return PERMIT };
    if namespace(&OFF_MOUNT_NS, &OFF_MOUNT_NS_COMMON) != settings.mount_ns {
        return PERMIT;
    }
    refuse(Road::Mount, 2)
}
