//! What lies under TLS: a socket, or a channel of an SSH session that leads to a target of ours.
use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A peer of whom nothing is heard for so long is asked whether he is still there,
const IDLE: Duration = Duration::from_secs(60);
/// again after so long,
const AGAIN: Duration = Duration::from_secs(15);
/// and is taken for gone after so many questions.
const QUESTIONS: u32 = 4;

/// Has the kernel notice a peer that has vanished without a word (its host lost power, its network is gone): a session
/// that waits for the next statement would otherwise wait for ever, with its connection to the target.
///
/// # Errors
/// Of the socket.
pub fn notice_absence(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, AGAIN)?;
    Ok(sockopt::set_tcp_keepcnt(&socket, QUESTIONS)?)
}

/// A peer's bytes as they come.
#[derive(Debug)]
pub enum Socket {
    /// Of the kernel.
    Tcp(TcpStream),
    /// Of this host; with a byte that was looked at.
    Unix(UnixStream, Option<u8>),
    /// Of a session that carries them; with a byte that was looked at.
    Channel(DuplexStream, Option<u8>),
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<UnixStream> for Socket {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket, None)
    }
}

impl From<DuplexStream> for Socket {
    fn from(pipe: DuplexStream) -> Self {
        Self::Channel(pipe, None)
    }
}

impl Socket {
    /// The first byte, which stays to be read. `None`: the peer has gone.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0; 1];
        let count = match self {
            Self::Tcp(socket) => socket.peek(&mut byte).await?,
            Self::Unix(socket, ahead) => {
                let count = socket.read(&mut byte).await?;
                *ahead = (count == 1).then_some(byte[0]);
                count
            }
            Self::Channel(pipe, ahead) => {
                let count = pipe.read(&mut byte).await?;
                *ahead = (count == 1).then_some(byte[0]);
                count
            }
        };
        Ok((count == 1).then_some(byte[0]))
    }

    /// Another descriptor of it, to close it by; a channel has none.
    pub fn descriptor(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        match self {
            Self::Tcp(socket) => Ok(Some(rustix::io::fcntl_dupfd_cloexec(socket, 0)?)),
            Self::Unix(socket, _) => Ok(Some(rustix::io::fcntl_dupfd_cloexec(socket, 0)?)),
            Self::Channel(..) => Ok(None),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Unix(_, ahead @ Some(_)) | Self::Channel(_, ahead @ Some(_)) if buffer.remaining() > 0 => {
                buffer.put_slice(ahead.take().as_slice());
                Poll::Ready(Ok(()))
            }
            Self::Unix(socket, _) => Pin::new(socket).poll_read(cx, buffer),
            Self::Channel(pipe, _) => Pin::new(pipe).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket, _) => Pin::new(socket).poll_write(cx, bytes),
            Self::Channel(pipe, _) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket, _) => Pin::new(socket).poll_flush(cx),
            Self::Channel(pipe, _) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket, _) => Pin::new(socket).poll_shutdown(cx),
            Self::Channel(pipe, _) => Pin::new(pipe).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Unix(socket, _) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Channel(pipe, _) => Pin::new(pipe).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Unix(socket, _) => socket.is_write_vectored(),
            Self::Channel(pipe, _) => pipe.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_byte_that_was_looked_at_is_read_all_the_same() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::from(near);
        far.write_all(b"abc").await.unwrap();
        assert_eq!(socket.first_byte().await.unwrap(), Some(b'a'));
        drop(far);
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abc");
        assert_eq!(socket.first_byte().await.unwrap(), None);
    }
}
