//! Length-prefixed messages on a byte stream: four bytes, big endian, then the message.

use prost::Message;

/// No message of the admin socket is longer; a longer announcement ends the connection.
pub const MAX: usize = 4 << 20;

/// Why bytes are no frame.
#[derive(Debug)]
pub enum InvalidFrame {
    /// The announced length exceeds [`MAX`].
    TooLong(usize),
    /// The body is not the message that was expected.
    Body(prost::DecodeError),
}

impl std::fmt::Display for InvalidFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "a message of {n} bytes was announced, {MAX} is the limit"),
            Self::Body(_) => write!(f, "not a message of this protocol"),
        }
    }
}

impl std::error::Error for InvalidFrame {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLong(_) => None,
            Self::Body(e) => Some(e),
        }
    }
}

/// Appends `message` with its length to `out`.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    let body = message.encode_to_vec();
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
}

/// The first message of `bytes` and how many bytes it took; `None` when it is not whole yet.
///
/// # Errors
/// [`InvalidFrame`]; the stream is then of no further use.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<Option<(M, usize)>, InvalidFrame> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > MAX {
        return Err(InvalidFrame::TooLong(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    M::decode(body).map(|m| Some((m, 4 + length))).map_err(InvalidFrame::Body)
}
