//! The copy protocol of scp and rcp, as somebody in the middle sees it.
//!
//! In: what arrives from the client and from the target, in any pieces. Out: an [`Event`] after the other. Whoever
//! drives a [`Copy`] sends on exactly what these carry, and nothing else.
//!
//! The side that sends writes lines (`C0644 12 name`, `D0755 0 name`, `E`, `T…`) and content; the other side answers
//! each with a zero byte, or with a message. Every line that names a file comes out as [`Event::Ask`] and goes on only
//! through [`Copy::forward`].
//! It must hold that anything else is an error that ends the channel.
use bytes::{Bytes, BytesMut};

mod copy;
mod line;

pub use copy::Copy;

/// One side of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The person's scp.
    Client,
    /// The target's.
    Target,
}

/// A file or directory that is about to be copied.
#[must_use = "a file that is neither forwarded nor refused leaves both sides waiting"]
#[derive(Debug)]
pub struct File {
    /// To the target; else from it.
    pub upload: bool,
    /// A directory; else a file.
    pub directory: bool,
    /// Where it lies at the target. More than one where only the target knows which it is (`scp x host:/tmp` is
    /// `/tmp/x` when there is a directory `/tmp`, else `/tmp`): every one counts. Empty where it can't be said.
    pub paths: Vec<String>,
    /// In bytes; 0 for a directory.
    pub size: u64,
    /// Mode bits.
    pub mode: u32,
    line: Bytes,
}

impl File {
    /// The length of its line on the wire.
    pub fn length(&self) -> usize {
        self.line.len()
    }
}

/// What comes of the bytes.
#[derive(Debug)]
pub enum Event {
    /// Judge it.
    Ask(File),
    /// Send it to that side.
    Send(Side, Bytes),
    /// Send it to that side: content of the file that was forwarded last.
    Payload(Side, BytesMut),
    /// The file that was forwarded last is over: whole, or with the words of whichever side failed. Nothing is to be
    /// sent.
    Done {
        /// Why it is not whole.
        failed: Option<String>,
    },
}

/// The channel is of no further use after one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCopy {
    /// A line that the protocol does not know.
    #[error("scp: a line that is not understood: {0}")]
    Line(String),
    /// A name that would lie elsewhere (`..`, with a slash).
    #[error("scp: a name that is not understood: {0}")]
    Name(String),
    /// One side speaks when it is the other's turn.
    #[error("scp: bytes where none are due")]
    Unexpected,
}

#[cfg(test)]
mod tests;
