//! Sluice's kernel programs: whoever connects to what is protected meets the proxy, and no packet goes there past it.
//!
//! One file a hook family. Programs hold no policy: they know addresses, one proxy process and one listener, which
//! the loader writes into maps. Everything that can't be told (no start time, no listener, an unknown header) ends
//! in a refusal towards what is protected, and never touches what is not.
#![no_std]
#![no_main]
// An atomic addition to a map's cell: see event.rs.
#![feature(asm_experimental_arch)]

mod bind;
mod connect;
mod context;
mod datagram;
mod device;
mod egress;
mod event;
mod known;
mod lineage;
mod lookup;
mod lsm;
mod maps;
mod mode;
mod origin;
mod packet;
mod peername;
mod port;
mod protected;
mod spoken;
mod task;
mod unregistered;

/// Helpers that need it are declared GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this could be reached.
    loop {}
}
