//! The SEQPACKET socket to the loader: one prost message a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// No packet is longer (handover.proto).
pub const MAX_PACKET: usize = 64 << 10;
/// The kernel's own limit of descriptors a packet (`SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 253;

/// One end of the hand-over socket.
pub struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Takes the descriptor over; to be called inside the runtime.
    ///
    /// # Errors
    /// Where the descriptor is no socket that can be polled.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        #[expect(
            deprecated,
            reason = "the other constructor is unsafe; an OwnedFd that is never taken out keeps the promise"
        )]
        AsyncFd::with_interest(descriptor, Interest::READABLE | Interest::WRITABLE).map(Self)
    }

    /// The next packet and the descriptors that came with it; `None` when the other side is gone. Cancel safe:
    /// a packet is taken in one system call.
    ///
    /// # Errors
    /// Of the socket; [`io::ErrorKind::InvalidData`] for a packet that was cut, descriptors included.
    pub async fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// Of the socket, and [`io::ErrorKind::InvalidInput`] for a packet over [`MAX_PACKET`].
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        if packet.len() > MAX_PACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet for the loader is too long"));
        }
        self.0
            .async_io(Interest::WRITABLE, |socket| {
                let mut none = SendAncillaryBuffer::default();
                sendmsg(socket, &[IoSlice::new(packet)], &mut none, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; MAX_PACKET];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let answer = recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if answer.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet of the loader was cut"));
    }
    if answer.bytes == 0 {
        return Ok(None);
    }
    packet.truncate(answer.bytes);
    Ok(Some((packet, descriptors)))
}
