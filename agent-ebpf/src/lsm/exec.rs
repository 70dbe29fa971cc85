//! Programs in judged sessions. Who is asked is the loader, by fanotify, which lets everything run once the loader is gone:
//! this program then refuses. It does not ask, it only knows whether there is somebody who does.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::Road;

use super::{PERMIT, arg, refuse, trust};
use crate::{
    lineage,
    maps::{HOLDER, JUDGED},
    task::{OFF_FILE, OFF_INODE, OFF_LINKS, field},
};

/// A program, and each interpreter of it, before it runs.
#[lsm(hook = "bprm_check_security")]
pub fn sluice_lsm_exec(ctx: LsmContext) -> i32 {
    let Some(member) = lineage::member(trust::own()) else { return PERMIT };
    // SAFETY: the value is written once, before its session runs anything.
    let Some(judged) = (unsafe { JUDGED.get(&member.session) }) else { return PERMIT };
    // the loader that answered for this session: another one does not know it
    if !HOLDER.get(0).is_some_and(|holder| trust::same(holder, judged)) {
        return refuse(Road::Exec, 0);
    }
    // in memory, or removed: fanotify sees no opening of it
    let file: u64 = field(arg(&ctx, 0), &OFF_FILE).unwrap_or(0);
    let node: u64 = field(file, &OFF_INODE).unwrap_or(0);
    if field::<u32>(node, &OFF_LINKS) == Some(0) { refuse(Road::Exec, 1) } else { PERMIT }
}
