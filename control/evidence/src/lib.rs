//! The file format of a recording: frames, chain, signatures, recovery, verification. Pure: bytes in, values out;
//! no file is opened here and no clock is read. What an entry means is not known here either.
//!
//! # The file, version 1
//!
//! All integers are big endian. A file is one header and then frames to the end.
//!
//! | Header, 64 bytes | Bytes | Meaning |
//! |---|---|---|
//! | magic | 8 | `89 53 4c 52 0d 0a 1a 0a` (as PNG's: shows a transfer in text mode) |
//! | version | 2 | 1; a reader refuses what it does not know |
//! | kind of file | 1 | 1: recording of a session, 2: ledger of a host |
//! | reserved | 5 | zero |
//! | id | 16 | of the session or of the ledger (UUID) |
//! | key id | 8 | of the key that is going to sign, see [`KeyId`] |
//! | time | 8 | microseconds since 1970 |
//! | check | 16 | the first half of `hash_0` |
//!
//! | Frame | Bytes | Meaning |
//! |---|---|---|
//! | length | 4 | of the payload as it is stored, at most 16 MiB + 64 |
//! | ~length | 4 | all bits inverted: a damaged length is told from a cut tail |
//! | kind | 1 | 1 entry, 2 gap, 3 checkpoint, 4 seal |
//! | flags | 1 | bit 0: payload is the length of the plain bytes (4) and then one zstd frame |
//! | reserved | 2 | zero |
//! | time | 8 | microseconds since 1970, not necessarily rising: a clock may be set |
//! | payload | length | |
//! | chain | 32 | `hash_n` |
//!
//! `hash_0 = SHA-256("sluice recording v1\0" ‖ the header's first 48 bytes)`,
//! `hash_n = SHA-256(hash_{n-1} ‖ the frame's first 20 bytes ‖ payload)`. Each frame's place is in its hash by
//! everything before it, so a flipped byte, an inserted, dropped or swapped frame is found at the frame where it is.
//!
//! | Payload of checkpoint and seal | Bytes | Meaning |
//! |---|---|---|
//! | end | 1 | how the recording ended, see [`End`]; 0 in a checkpoint |
//! | frames | 8 | how many frames stand before this one |
//! | key id | 8 | of the key that signed |
//! | signature | 64 | Ed25519 over the statement below |
//!
//! The statement: `"sluice recording statement v1\0" ‖ frame kind (1) ‖ kind of file (1) ‖ id (16) ‖ end (1) ‖
//! frames (8) ‖ chain up to here (32) ‖ time (8) ‖ key id (8)`. A chain alone proves nothing against somebody who
//! recomputes it; signatures do. Checkpoints bound what such a person could still change in a file that is being
//! written; a seal ends the file, and nothing may stand behind it. A file without a seal is either still being
//! written or its tail was cut: [`verify`] refuses it unless told that the file may be live.
//!
//! That a whole file is removed is shown by the host's [`ledger`].
mod compression;
mod format;
mod key;
pub mod ledger;
pub mod note;
mod reader;
mod verify;
mod writer;

pub use format::{Broken, Damage, End, FileKind, FrameKind, HEADER_LEN, Header, MAX_PAYLOAD, Root};
pub use key::{InvalidKey, KeyId, PublicKey, SigningKey};
pub use reader::{Frame, Reader};
pub use verify::{Accept, Report, State, recover, verify};
pub use writer::{TooLong, Writer};

#[cfg(test)]
mod tests;
