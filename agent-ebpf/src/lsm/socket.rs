//! Sockets: those that write past every hook, and unix sockets of guarded services.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::{Road, lsm::flag};

use super::{PERMIT, arg, asked, deny, inode_of_dentry, trust};
use crate::{
    context::{AF_INET, AF_INET6, SOCK_RAW},
    maps::{PROXY, UNIX_SERVICES},
    task::{self, OFF_SOCKET_SK, OFF_UNIX_DENTRY, field},
};

const AF_PACKET: u32 = 17;
const AF_XDP: u32 = 44;

/// socket(2). Packet sockets may pass the queues of a device (`PACKET_QDISC_BYPASS`), and so does XDP.
#[lsm(hook = "socket_create")]
pub fn sluice_lsm_socket(ctx: LsmContext) -> i32 {
    let (family, kind) = (arg(&ctx, 0) as u32, arg(&ctx, 1) as u32 & 0xf);
    let raw = (family == AF_INET || family == AF_INET6) && kind == SOCK_RAW;
    if !(raw || family == AF_PACKET || family == AF_XDP) {
        return PERMIT;
    }
    // one that the kernel makes for itself
    if arg(&ctx, 3) as u32 != 0 || asked(flag::PACKETS).is_none() || trust::trusted() {
        return PERMIT;
    }
    deny(Road::PacketSocket, family)
}

/// Whether a `struct sock` is bound to a guarded service's file, and the caller is not the proxy.
#[inline(always)]
fn judge(sock: u64) -> i32 {
    let dentry: u64 = field(sock, &OFF_UNIX_DENTRY).unwrap_or(0);
    if dentry == 0 {
        return PERMIT;
    }
    let Some(found) = inode_of_dentry(dentry) else { return PERMIT };
    if UNIX_SERVICES.get_ptr(found).is_none() || PROXY.get(0).is_some_and(task::is) || trust::trusted() {
        return PERMIT;
    }
    deny(Road::UnixSocket, 0)
}

/// connect(2) of stream and sequenced packet sockets, whatever path led there.
#[lsm(hook = "unix_stream_connect")]
pub fn sluice_lsm_unix(ctx: LsmContext) -> i32 {
    judge(arg(&ctx, 1))
}

/// Datagrams.
#[lsm(hook = "unix_may_send")]
pub fn sluice_lsm_datagram(ctx: LsmContext) -> i32 {
    judge(field(arg(&ctx, 1), &OFF_SOCKET_SK).unwrap_or(0))
}
