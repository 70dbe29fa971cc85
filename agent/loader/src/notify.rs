//! What systemd wants to hear (sd_notify(3)): that the guard stands, that the loop still turns, that it ends. Where nobody
//! listens, nothing is said.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The guard stands: whoever waits for this unit may use the network.
pub(crate) fn ready() {
    tell("READY=1");
}

/// The loop turns; to be said more often than WatchdogSec=.
pub(crate) fn alive() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        tell("WATCHDOG=1");
    }
}

/// The end has begun.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(text: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be told: {text}");
    }
}
