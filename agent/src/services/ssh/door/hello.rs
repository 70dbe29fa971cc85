//! A client's first words, read before russh gets them: what it can be served by is known before anything is offered.
//!
//! Leaves: its offer, and the connection as if nobody had looked. What must hold: every byte that was read is read again
//! by russh; our identification goes out once.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use crate::ssh::{Ahead, Heard, Offer, hear};
use crate::upstream::ssh::IDENTIFICATION;

/// A client that has named itself sends its offer at once; one that waits for ours is served by what suits everybody.
const OFFER_PATIENCE: Duration = Duration::from_secs(2);
const DISCONNECT: u8 = 1;
const KEY_EXCHANGE_FAILED: u32 = 3;
/// Packets are multiples of this before there is a cipher, and have at least four bytes of padding.
const BLOCK: usize = 8;

/// A connection whose beginning has been looked at.
pub(super) struct Greeted<S> {
    /// With what was read, and is to be read again.
    socket: Ahead<S>,
    /// Bytes of our identification that have gone out already, and that russh is yet to write.
    said: usize,
}

/// Names ourselves and hears what the client offers.
///
/// # Errors
/// Of the socket.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
) -> io::Result<(Offer, Greeted<S>)> {
    let own = format!("{IDENTIFICATION}\r\n");
    socket.write_all(own.as_bytes()).await?;
    let mut ahead = BytesMut::with_capacity(4096);
    let offer = loop {
        let open = match hear(&ahead) {
            Heard::Offer(offer) => break offer,
            Heard::Nothing => socket.read_buf(&mut ahead).await?,
            Heard::Identification => match timeout(OFFER_PATIENCE, socket.read_buf(&mut ahead)).await {
                Ok(count) => count?,
                Err(_) => break Offer::default(),
            },
        };
        if open == 0 {
            // russh says so in its own words
            break Offer::default();
        }
    };
    Ok((offer, Greeted { socket: Ahead::new(socket, ahead), said: own.len() }))
}

impl<S: AsyncWrite + Unpin> Greeted<S> {
    /// Tells the client why it is not served (RFC 4253, section 11.1).
    pub(super) async fn refuse(mut self, why: &str) -> io::Result<()> {
        let mut payload = vec![DISCONNECT];
        payload.extend(KEY_EXCHANGE_FAILED.to_be_bytes());
        for text in [why, ""] {
            payload.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
            payload.extend(text.as_bytes());
        }
        // length, padding's length and payload make whole blocks with it
        let over = (5 + payload.len()) % BLOCK;
        let padding = if BLOCK - over < 4 { 2 * BLOCK - over } else { BLOCK - over };
        let length = u32::try_from(1 + payload.len() + padding).unwrap_or_default();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap_or_default());
        packet.extend(payload);
        packet.resize(packet.len() + padding, 0);
        self.socket.write_all(&packet).await?;
        self.socket.shutdown().await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.said == 0 {
            return Pin::new(&mut self.socket).poll_write(cx, bytes);
        }
        let count = self.said.min(bytes.len());
        self.said -= count;
        Poll::Ready(Ok(count))
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
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_or_said_twice() {
        let (near, mut far) = duplex(8192);
        far.write_all(b"SSH-2.0-Test\r\n\0\0\0\x0c").await.unwrap();
        let greeting = tokio::spawn(greet(near));
        far.write_all(b"\x04\x02no offer and more").await.unwrap();
        let (offer, mut greeted) = greeting.await.unwrap().unwrap();
        assert_eq!(offer, Offer::default());
        greeted.write_all(format!("{IDENTIFICATION}\r\nfirst packet").as_bytes()).await.unwrap();
        let mut heard = [0; 40];
        greeted.read_exact(&mut heard[..34]).await.unwrap();
        assert_eq!(&heard[..34], b"SSH-2.0-Test\r\n\0\0\0\x0c\x04\x02no offer and m");
        drop(greeted);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, format!("{IDENTIFICATION}\r\nfirst packet").as_bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_our_offer_is_not_kept_waiting() {
        let (near, mut far) = duplex(8192);
        far.write_all(b"SSH-2.0-Test\r\n").await.unwrap();
        let (offer, _greeted) = greet(near).await.unwrap();
        assert_eq!(offer, Offer::default());
    }

    #[tokio::test]
    async fn a_refusal_is_a_packet_of_whole_blocks() {
        for length in 0..20 {
            let (near, mut far) = duplex(8192);
            Greeted { socket: Ahead::new(near, BytesMut::new()), said: 0 }
                .refuse(&"x".repeat(length))
                .await
                .unwrap();
            let mut packet = Vec::new();
            far.read_to_end(&mut packet).await.unwrap();
            assert_eq!((packet.len() % BLOCK, packet[5]), (0, DISCONNECT), "{length}");
            assert!(packet[4] >= 4 && packet[3] as usize + 4 == packet.len(), "{length}");
        }
    }
}
