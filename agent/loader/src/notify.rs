//! What systemd wants to hear (sd_notify(3)): that the guard stands, that the loop still turns, that it ends; and what it
//! keeps for us from one loader to the next. Where nobody listens, nothing is said and nothing is kept.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, UnixAddr, getsockname,
    sendmsg, socket,
};

/// The first descriptor that systemd hands over (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// The guard stands: whoever waits for this unit may use the network.
pub(crate) fn ready() {
    tell("READY=1", None);
}

/// The loop turns; to be said more often than WatchdogSec=.
pub(crate) fn alive() {
    if std::env::var_os("WATCHDOG_USEC").is_some() {
        tell("WATCHDOG=1", None);
    }
}

/// The end has begun.
pub(crate) fn stopping() {
    tell("STOPPING=1", None);
}

/// Listeners of the loader before this one. Connects that came while there was none wait in them.
pub(crate) struct Kept(Vec<(String, OwnedFd)>);

impl Kept {
    /// What systemd has kept. To be called once, at the start of the process.
    pub(crate) fn take() -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let ours = number("LISTEN_PID") == Some(std::process::id());
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let count = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
        let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
        let kept = (FIRST..).take(count as usize).zip(names);
        // one that can't be taken over is bound again
        Self(
            kept.filter_map(|(number, name)| Some((name, sluice_abi::user::inherited(number).ok()?)))
                .collect(),
        )
    }

    /// The listener of this name, if it still is at this address.
    pub(crate) fn listener(&mut self, name: &str, address: SocketAddr) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(kept, fd)| kept == name && bound_to(fd) == Some(address))?;
        Some(self.0.swap_remove(at).1)
    }

    /// Lets go of what is left; nothing is kept any more.
    pub(crate) fn forget(&mut self) {
        for (name, descriptor) in self.0.drain(..) {
            tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
            drop(descriptor);
        }
    }
}

/// Lets systemd keep a listener for the next loader.
pub(crate) fn keep(name: &str, descriptor: BorrowedFd<'_>) {
    tell(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), Some(descriptor));
}

fn bound_to(descriptor: &OwnedFd) -> Option<SocketAddr> {
    let address = getsockname::<SockaddrStorage>(descriptor.as_raw_fd()).ok()?;
    let four = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    four.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

fn tell(text: &str, descriptor: Option<BorrowedFd<'_>>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(name.as_bytes(), text, descriptor) {
        tracing::warn!(%error, "systemd could not be told: {text}");
    }
}

fn send(name: &[u8], text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let address = match name {
        [b'@', rest @ ..] => UnixAddr::new_abstract(rest)?,
        path => UnixAddr::new(path)?,
    };
    let datagram = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let raw: Vec<i32> = descriptor.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(text.as_bytes())];
    sendmsg(datagram.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_somewhere_else_is_none_of_ours() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = one.local_addr().unwrap();
        let mut kept = Kept(vec![("ipv4".to_owned(), one.into())]);
        assert!(kept.listener("ipv6", there).is_none());
        assert!(kept.listener("ipv4", "127.0.0.1:1".parse().unwrap()).is_none());
        assert!(kept.listener("ipv4", there).is_some());
        assert!(kept.listener("ipv4", there).is_none());
    }

    /// The words and the descriptor arrive as systemd reads them.
    #[test]
    fn what_is_told_arrives() {
        use std::os::fd::AsFd as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send(path.as_os_str().as_bytes(), "FDSTORE=1\nFDNAME=x", Some(listener.as_fd())).unwrap();
        let mut bytes = [0; 64];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!([i32; 4]);
        let got = nix::sys::socket::recvmsg::<()>(
            systemd.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::empty(),
        );
        let got = got.unwrap();
        assert_eq!((got.bytes, got.cmsgs().unwrap().count()), (18, 1));
    }
}
