//! Reads a connection ahead, a little.
//!
//! russh reads a packet in two steps: its length, then the rest. On a connection that carries content most packets are
//! the other side's small answers, and each would cost two calls into the kernel. What must hold: every byte comes once
//! and in its place; nothing is kept for a connection that is idle.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is read at once; whoever asks for more gets it without the detour.
const ROOM: usize = 4096;

/// A connection of which some bytes may have been read already.
pub struct Ahead<S> {
    socket: S,
    read: BytesMut,
}

impl<S> Ahead<S> {
    /// Of a connection, and what was read of it before.
    pub fn new(socket: S, read: BytesMut) -> Self {
        Self { socket, read }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            if buffer.remaining() >= ROOM {
                return Pin::new(&mut self.socket).poll_read(cx, buffer);
            }
            let mut room = [0; ROOM];
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
            let (now, later) = room.filled().split_at(buffer.remaining().min(room.filled().len()));
            buffer.put_slice(now);
            self.read.extend_from_slice(later);
            return Poll::Ready(Ok(()));
        }
        let count = self.read.len().min(buffer.remaining());
        let (now, _) = self.read.split_at(count);
        buffer.put_slice(now);
        self.read.advance(count);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_its_place(
            before in 0usize..20,
            writes in proptest::collection::vec(1usize..9000, 1..8),
            reads in proptest::collection::vec(1usize..9000, 1..8),
        ) {
            let total: usize = before + writes.iter().sum::<usize>();
            let sent: Vec<u8> = (0..total).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let got = runtime.block_on(async {
                let (near, mut far) = duplex(1 << 20);
                let mut from = before;
                for write in &writes {
                    far.write_all(&sent[from..from + write]).await.unwrap();
                    from += write;
                }
                drop(far);
                let mut ahead = Ahead::new(near, BytesMut::from(&sent[..before]));
                let mut got = Vec::new();
                for read in reads.iter().cycle() {
                    let mut piece = vec![0; *read];
                    let count = ahead.read(&mut piece).await.unwrap();
                    if count == 0 {
                        break;
                    }
                    got.extend_from_slice(&piece[..count]);
                }
                got
            });
            prop_assert_eq!(got, sent);
        }
    }
}
