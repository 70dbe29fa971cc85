//! A connection to a server before it is a session: whole messages, one after the other, bounded.
use bytes::{Buf as _, BytesMut};
use sluice_protocol::postgres::wire::Head;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{tls::Stream, upstream::UpstreamError};

/// No message of a login is longer. An error with a long text is cut off here, with the connection.
const MAX_MESSAGE: usize = 64 * 1024;

/// Stream and what has been read ahead.
pub(super) struct Conversation {
    pub(super) stream: Stream,
    pub(super) ahead: BytesMut,
}

impl Conversation {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, ahead: BytesMut::with_capacity(4096) }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.stream.write_all(bytes).await.map_err(UpstreamError::Closed)?;
        self.stream.flush().await.map_err(UpstreamError::Closed)
    }

    /// Type and body of the next message. Not cancel safe in the sense that the session is lost with it; every
    /// caller gives up the connection then.
    pub(super) async fn receive(&mut self) -> Result<(u8, BytesMut), UpstreamError> {
        loop {
            let head = Head::read(&self.ahead).map_err(|e| UpstreamError::Protocol(e.to_string()))?;
            match head {
                Some(head) if head.total > MAX_MESSAGE => {
                    return Err(UpstreamError::Protocol(format!(
                        "a message of {} bytes during login",
                        head.total
                    )));
                }
                Some(head) if self.ahead.len() >= head.total => {
                    let mut whole = self.ahead.split_to(head.total);
                    whole.advance(sluice_protocol::postgres::wire::frame::HEAD);
                    return Ok((head.kind, whole));
                }
                _ => {}
            }
            let count = self.stream.read_buf(&mut self.ahead).await.map_err(UpstreamError::Closed)?;
            if count == 0 {
                return Err(UpstreamError::Closed(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
