//! bpf(2): nobody else gets hold of our programs and maps, takes them away, or puts a program beside them.
//!
//! Maps and programs are known by their ids, links by the program in them. A link's descriptor may come from anywhere (a
//! pin, another process): what counts is what it is used for.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::{
    Road,
    lsm::{Settings, flag, object},
};

use super::{PERMIT, arg, guarded, guarded_but_for_manager, inode, namespace, refuse, trust};
use crate::{
    maps::LSM_OBJECTS,
    task::{
        OFF_FD_ARRAY, OFF_FD_TABLE, OFF_FILES, OFF_INODE, OFF_LINK_PROGRAM, OFF_MAP_ID, OFF_NET_NS,
        OFF_NET_NS_COMMON, OFF_PRIVATE, OFF_PROGRAM_AUX, OFF_PROGRAM_ID, current, field, peek,
    },
};

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;
/// `BPF_SK_LOOKUP`
const SK_LOOKUP: u32 = 36;
/// `BPF_TCX_EGRESS`
const TCX_EGRESS: u32 = 47;
/// More descriptors than any process has.
const MAX_FILES: u32 = 1 << 30;

/// The file behind a descriptor of the caller's; 0 where there is none.
#[inline(always)]
fn file(descriptor: u32) -> u64 {
    if descriptor > MAX_FILES {
        return 0;
    }
    let files: u64 = field(current(), &OFF_FILES).unwrap_or(0);
    let table: u64 = field(files, &OFF_FD_TABLE).unwrap_or(0);
    match field::<u64>(table, &OFF_FD_ARRAY) {
        None | Some(0) => 0,
        Some(array) => peek(array + u64::from(descriptor) * 8).unwrap_or(0),
    }
}

#[inline(always)]
fn is_ours(key: u64) -> bool {
    LSM_OBJECTS.get_ptr(key).is_some()
}

#[inline(always)]
fn is_our_program(program: u64) -> bool {
    let aux: u64 = field(program, &OFF_PROGRAM_AUX).unwrap_or(0);
    field::<u32>(aux, &OFF_PROGRAM_ID).is_some_and(|id| is_ours(object::program(id)))
}

/// Whether a descriptor is a link with one of our programs in it. Of another kind of file what is found there is no
/// program of ours.
#[inline(always)]
fn is_our_link(descriptor: u32) -> bool {
    let link: u64 = field(file(descriptor), &OFF_PRIVATE).unwrap_or(0);
    is_our_program(field(link, &OFF_LINK_PROGRAM).unwrap_or(0))
}

/// Whether a program would be attached beside ours: at the guarded cgroup, for look-ups in the guarded network namespace,
/// or behind ours at a device of it.
#[inline(always)]
fn is_beside_ours(settings: &Settings, kind: u32, target: u32) -> bool {
    if kind == TCX_EGRESS {
        return namespace(&OFF_NET_NS, &OFF_NET_NS_COMMON) == settings.net_ns;
    }
    let Some(found) = inode(field(file(target), &OFF_INODE).unwrap_or(0)) else { return false };
    found == settings.cgroup || (kind == SK_LOOKUP && found.ino == u64::from(settings.net_ns))
}

/// Every command.
#[lsm(hook = "bpf")]
pub fn sluice_lsm_bpf(ctx: LsmContext) -> i32 {
    if trust::trusted() {
        trust::learn_home();
        return PERMIT;
    }
    let Some(settings) = guarded_but_for_manager() else { return PERMIT };
    let command = arg(&ctx, 0) as u32;
    let attr = arg(&ctx, 1);
    let word = |at: u64| peek::<u32>(attr + at * 4).unwrap_or(u32::MAX);
    let refused = match command {
        BPF_PROG_LOAD => settings.flags & flag::STRICT != 0,
        BPF_PROG_ATTACH => is_beside_ours(settings, word(2), word(0)),
        BPF_LINK_CREATE => is_beside_ours(settings, word(2), word(1)),
        BPF_LINK_UPDATE | BPF_LINK_DETACH => is_our_link(word(0)),
        _ => false,
    };
    if refused { refuse(Road::Bpf, command) } else { PERMIT }
}

/// A descriptor of a map is made: by id, by pin.
#[lsm(hook = "bpf_map")]
pub fn sluice_lsm_map(ctx: LsmContext) -> i32 {
    let ours = field::<u32>(arg(&ctx, 0), &OFF_MAP_ID).is_some_and(|id| is_ours(object::map(id)));
    if !ours || guarded().is_none() {
        return PERMIT;
    }
    refuse(Road::Bpf, 14)
}

/// A descriptor of a program is made.
#[lsm(hook = "bpf_prog")]
pub fn sluice_lsm_program(ctx: LsmContext) -> i32 {
    if !is_our_program(arg(&ctx, 0)) || guarded().is_none() {
        return PERMIT;
    }
    refuse(Road::Bpf, 13)
}
