//! A socket that is read in large pieces, for what lies above it.
//!
//! rustls asks its socket for 4 KiB at a time, which makes several system calls of one record. Here they are one for
//! as many records as have come. The buffer is lent while bytes are in it, so an idle connection has none.
use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::Socket;
use crate::buffers::{give_back, lend};

/// A socket with what has been read ahead.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    ahead: Vec<u8>,
    taken: usize,
}

impl Wire {
    /// Nothing is read yet.
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self { socket: socket.into(), ahead: Vec::new(), taken: 0 }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.taken = 0;
        self.ahead = lend();
        let outcome = pin!(self.socket.read_buf(&mut self.ahead)).poll(cx);
        // nothing came: nobody needs a buffer for it
        give_back(&mut self.ahead);
        outcome.map_ok(drop)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.ahead.is_empty() {
            ready!(wire.poll_fill(cx))?;
        }
        let rest = wire.ahead.get(wire.taken..).unwrap_or_default();
        let piece = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
        buffer.put_slice(piece);
        wire.taken += piece.len();
        if wire.taken == wire.ahead.len() {
            wire.ahead.clear();
            give_back(&mut wire.ahead);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn bytes_come_in_order_whatever_the_pieces_and_the_buffer_goes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(near);
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let writing = sent.clone();
        let writer = tokio::spawn(async move {
            far.write_all(&writing).await.unwrap();
            far.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        let mut piece = [0; 777];
        loop {
            match wire.read(&mut piece).await.unwrap() {
                0 => break,
                n => got.extend_from_slice(&piece[..n]),
            }
        }
        writer.await.unwrap();
        assert_eq!(got, sent);
        assert_eq!(wire.ahead.capacity(), 0);
    }
}
