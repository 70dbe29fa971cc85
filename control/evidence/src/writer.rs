//! Writing: encoded frames are appended to a buffer of the caller, who gives them to a file.
use std::sync::Arc;

use crate::compression::{WORTH_TRYING, compress};
use crate::format::{
    End, FRAME_HEAD, FRAME_TAIL, FileKind, FrameHead, FrameKind, Header, MAX_PAYLOAD, MAX_STORED, Root,
    STATEMENT_PAYLOAD, Statement, next_hash,
};
use crate::key::SigningKey;
use crate::verify::Report;

/// A checkpoint stands at least every so many frames …
const CHECKPOINT_FRAMES: u64 = 4096;
/// … and whenever the last signature is so old at the time of an append.
const CHECKPOINT_US: i64 = 60_000_000;

/// The payload is longer than [`MAX_PAYLOAD`]; nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is over the limit of {MAX_PAYLOAD}")]
pub struct TooLong(pub usize);

/// The state of a file that is being written: its chain, its count, its key. About 150 bytes; no buffer.
pub struct Writer {
    key: Arc<SigningKey>,
    file: FileKind,
    id: [u8; 16],
    chain: [u8; 32],
    frames: u64,
    signed_frames: u64,
    signed_us: i64,
}

impl Writer {
    /// Starts a file: its header goes to `out`.
    pub fn begin(
        kind: FileKind,
        id: [u8; 16],
        time_us: i64,
        key: Arc<SigningKey>,
        out: &mut Vec<u8>,
    ) -> Self {
        let (header, chain) = Header { kind, id, key: key.public().id(), time_us }.encode();
        out.extend_from_slice(&header);
        Self { key, file: kind, id, chain, frames: 0, signed_frames: 0, signed_us: time_us }
    }

    /// Goes on where [`crate::recover`] found the last whole frame. The file must have been cut there, and must not
    /// be sealed.
    pub fn resume(recovered: &Report, key: Arc<SigningKey>) -> Self {
        Self {
            key,
            file: recovered.header.kind,
            id: recovered.header.id,
            chain: recovered.root.0,
            frames: recovered.frames,
            signed_frames: 0,
            signed_us: i64::MIN,
        }
    }

    /// Appends one frame to `out`, and a checkpoint behind it when one is due. No allocation beyond what `out` needs
    /// to grow. `gap` frames are those of recovery.
    ///
    /// # Errors
    /// [`TooLong`], and then neither `out` nor the chain has changed.
    pub fn append(
        &mut self,
        gap: bool,
        time_us: i64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TooLong> {
        if payload.len() > MAX_PAYLOAD {
            return Err(TooLong(payload.len()));
        }
        self.frame(if gap { FrameKind::Gap } else { FrameKind::Entry }, time_us, payload, out);
        let old = time_us.saturating_sub(self.signed_us) >= CHECKPOINT_US;
        if old || self.frames.saturating_sub(self.signed_frames) >= CHECKPOINT_FRAMES {
            self.checkpoint(time_us, out);
        }
        Ok(())
    }

    /// Signs everything up to here. Some 30 µs; [`Writer::append`] does it by itself when due.
    pub fn checkpoint(&mut self, time_us: i64, out: &mut Vec<u8>) {
        self.statement(FrameKind::Checkpoint, 0, time_us, out);
        self.signed_frames = self.frames;
        self.signed_us = time_us;
    }

    /// Ends the file and returns the value that stands for the whole of it.
    pub fn seal(mut self, end: End, time_us: i64, out: &mut Vec<u8>) -> Root {
        self.statement(FrameKind::Seal, end.code(), time_us, out);
        Root(self.chain)
    }

    /// How many frames have been appended, checkpoints included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The chain behind the last frame.
    pub fn root(&self) -> Root {
        Root(self.chain)
    }

    /// The session's or ledger's id.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    fn statement(&mut self, frame: FrameKind, end: u8, time_us: i64, out: &mut Vec<u8>) {
        let key = self.key.public().id();
        let frames = self.frames;
        let statement =
            Statement { frame, file: self.file, id: &self.id, end, frames, chain: &self.chain, time_us, key };
        let signature = self.key.sign(&statement.bytes());
        let mut payload = [0; STATEMENT_PAYLOAD];
        let parts: [&[u8]; 4] = [&[end], &frames.to_be_bytes(), &key.0, &signature];
        payload.iter_mut().zip(parts.into_iter().flatten()).for_each(|(o, b)| *o = *b);
        self.frame(frame, time_us, &payload, out);
    }

    /// `payload` is at most [`MAX_PAYLOAD`] long here, hence its length fits.
    fn frame(&mut self, kind: FrameKind, time_us: i64, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(FRAME_HEAD + payload.len() + FRAME_TAIL);
        out.extend_from_slice(&[0; FRAME_HEAD]);
        let zstd = payload.len() >= WORTH_TRYING && compress(payload, out);
        if !zstd {
            out.extend_from_slice(payload);
        }
        let stored = out.len() - start - FRAME_HEAD;
        debug_assert!(stored <= MAX_STORED);
        let head = FrameHead { length: stored as u32, kind, zstd, time_us }.encode();
        let (_, frame) = out.split_at_mut(start);
        let (room, body) = frame.split_at_mut(FRAME_HEAD);
        room.copy_from_slice(&head);
        self.chain = next_hash(&self.chain, &head, body);
        out.extend_from_slice(&self.chain);
        self.frames += 1;
    }
}
