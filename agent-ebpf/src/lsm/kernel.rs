//! The kernel itself, under `self_protection = "strict"`: no module, no other kernel, no memory, no traffic control.
//!
//! All of it has honest users, which is why it has to be asked for. The service manager itself passes.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sluice_abi::{Road, lsm::flag};

use super::{PERMIT, arg, asked, deny, namespace, trust};
use crate::task::{OFF_NET_NS, OFF_NET_NS_COMMON, OFF_PROTOCOL, OFF_SKB_DATA, OFF_SKB_LEN, field, peek};

/// `READING_MODULE`, `READING_KEXEC_IMAGE`, `READING_KEXEC_INITRAMFS`; the same numbers in `kernel_load_data_id`.
const CODE: core::ops::RangeInclusive<u32> = 2..=4;
/// `lockdown_reason`: /dev/mem, kexec, hibernation, PCI, port I/O, MSRs, ACPI tables; their numbers are the same since 5.4.
const LOCKED: [u32; 7] = [2, 4, 5, 6, 7, 8, 9];
const NETLINK_ROUTE: u16 = 0;
/// `RTM_NEWQDISC` … `RTM_DELTFILTER`, without the questions in between.
const TRAFFIC: [u16; 4] = [36, 37, 44, 45];
/// `RTM_NEWACTION`, `RTM_DELACTION`, `RTM_NEWCHAIN`, `RTM_DELCHAIN`.
const MORE_TRAFFIC: [u16; 4] = [48, 49, 100, 101];
/// Messages in one packet; who sends more is not looked at to the end, and refused.
const MESSAGES: u32 = 16;
/// `struct nlmsghdr`
const HEADER: u32 = 16;

#[inline(always)]
fn strict() -> bool {
    asked(flag::STRICT).is_some() && !trust::trusted() && !trust::is_manager()
}

/// finit_module(2), kexec_file_load(2).
#[lsm(hook = "kernel_read_file")]
pub fn sluice_lsm_read_file(ctx: LsmContext) -> i32 {
    let what = arg(&ctx, 1) as u32;
    if CODE.contains(&what) && strict() { deny(Road::KernelCode, what) } else { PERMIT }
}

/// init_module(2), kexec_load(2).
#[lsm(hook = "kernel_load_data")]
pub fn sluice_lsm_load_data(ctx: LsmContext) -> i32 {
    let what = arg(&ctx, 0) as u32;
    if CODE.contains(&what) && strict() { deny(Road::KernelCode, what) } else { PERMIT }
}

/// What lockdown would refuse.
#[lsm(hook = "locked_down")]
pub fn sluice_lsm_lockdown(ctx: LsmContext) -> i32 {
    let what = arg(&ctx, 0) as u32;
    if LOCKED.contains(&what) && strict() { deny(Road::KernelCode, 100 + what) } else { PERMIT }
}

/// Filters, queues and actions at devices of the guarded network namespace.
#[lsm(hook = "netlink_send")]
pub fn sluice_lsm_netlink(ctx: LsmContext) -> i32 {
    if !strict() || field::<u16>(arg(&ctx, 0), &OFF_PROTOCOL) != Some(NETLINK_ROUTE) {
        return PERMIT;
    }
    let ours = asked(flag::STRICT).map(|settings| settings.net_ns);
    if ours != Some(namespace(&OFF_NET_NS, &OFF_NET_NS_COMMON)) {
        return PERMIT;
    }
    let skb = arg(&ctx, 1);
    let data: u64 = field(skb, &OFF_SKB_DATA).unwrap_or(0);
    let length: u32 = field(skb, &OFF_SKB_LEN).unwrap_or(0);
    let mut at = 0u32;
    for _ in 0..MESSAGES {
        if at >= length || length - at < HEADER {
            return PERMIT;
        }
        let head: [u32; 2] = peek(data + u64::from(at)).unwrap_or([0; 2]);
        let kind = head[1] as u16;
        if TRAFFIC.contains(&kind) || MORE_TRAFFIC.contains(&kind) {
            return deny(Road::TrafficControl, u32::from(kind));
        }
        if head[0] < HEADER || head[0] > length {
            return PERMIT;
        }
        at += (head[0] + 3) & !3;
    }
    deny(Road::TrafficControl, 0)
}
