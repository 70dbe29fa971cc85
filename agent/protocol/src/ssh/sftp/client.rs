//! From the client to the target.
use bytes::{Bytes, BytesMut};

use super::calls::Asked;
use super::filter::{Filter, Owed, Passing, Phase};
use super::wire::{self, Fields, Head};
use super::{FromClient, InvalidPacket, MAX_OPEN, MAX_WAITING, Payload, Request};

/// OpenSSH's handles have 4 bytes, the protocol allows 256.
const MAX_HANDLE: usize = 256;

impl Filter {
    /// Takes from `input` what it can; `None` when more is needed, or the target has to answer first.
    ///
    /// # Errors
    /// The channel has to be closed.
    pub fn from_client(&mut self, input: &mut BytesMut) -> Result<Option<FromClient>, InvalidPacket> {
        if let Some(event) = self.upward(input) {
            return Ok(event);
        }
        if self.waits() {
            // whoever drives us should not have read so much
            return if input.len() > MAX_WAITING { Err(InvalidPacket::TooMany) } else { Ok(None) };
        }
        let Some(head) = wire::head(input)? else { return Ok(None) };
        match (&self.phase, head.kind) {
            (Phase::Fresh, wire::INIT) => self.init(input, head),
            (Phase::Open, wire::WRITE) => self.write(input, head),
            (Phase::Open, wire::INIT) | (Phase::Fresh, _) => Err(InvalidPacket::Unexpected(head.kind)),
            _ => self.request(input, head),
        }
    }

    /// The rest of the content of a WRITE; `None` when none is on its way.
    fn upward(&mut self, input: &mut BytesMut) -> Option<Option<FromClient>> {
        loop {
            let passing = self.upward.as_mut()?;
            if passing.left == 0 {
                self.upward = None;
                return None;
            }
            if input.is_empty() {
                return Some(None);
            }
            let bytes = input.split_to(passing.left.min(input.len()));
            let offset = passing.offset;
            passing.left -= bytes.len();
            passing.offset = passing.offset.saturating_add(bytes.len() as u64);
            if let Some(file) = passing.file {
                return Some(Some(FromClient::Payload(Payload { file, offset, bytes })));
            }
        }
    }

    /// The client's INIT; whatever version it offers, the target is offered 3.
    fn init(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromClient>, InvalidPacket> {
        let Some(packet) = wire::take(input, head) else { return Ok(None) };
        let version = Fields::of(&packet).u32()?;
        if version < 3 {
            return Err(InvalidPacket::Version(version));
        }
        self.phase = Phase::Greeted;
        Ok(Some(FromClient::Target(wire::packet(wire::INIT, 3, &[]).into())))
    }

    /// The head of a WRITE passes, its content follows in pieces.
    fn write(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromClient>, InvalidPacket> {
        let bad = || InvalidPacket::Malformed(wire::WRITE);
        let length = |at: usize| -> Option<usize> {
            let bytes = input.get(at..at.checked_add(4)?)?;
            usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
        };
        let Some(handle_length) = length(wire::HEAD) else { return Ok(None) };
        if handle_length > MAX_HANDLE {
            return Err(bad());
        }
        let content_at = wire::HEAD + 4 + handle_length + 8;
        let Some(content) = length(content_at) else { return Ok(None) };
        if content_at + 4 + content != head.total {
            return Err(bad());
        }
        let start = input.split_to(content_at + 4);
        let mut fields = Fields::of(&Bytes::copy_from_slice(&start));
        let (number, handle, offset) = (fields.u32()?, fields.string()?, fields.u64()?);
        self.is_free(number)?;
        let file = self.opened.get(&handle).map(|opened| opened.file);
        self.upward = Some(Passing { file, offset, left: content });
        Ok(Some(match file {
            Some(file) => {
                self.owed.insert(number, Owed::Write(file));
                FromClient::Target(start)
            }
            None => FromClient::Client(wire::status(number, wire::FAILURE, "there is no such handle")),
        }))
    }

    fn request(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromClient>, InvalidPacket> {
        let Some(packet) = wire::take(input, head) else { return Ok(None) };
        let mut fields = Fields::of(&packet);
        let number = fields.u32()?;
        self.is_free(number)?;
        let opens = head.kind == wire::OPEN || head.kind == wire::OPENDIR;
        if opens && self.opened.len() >= MAX_OPEN {
            let words = "too many files are open";
            return Ok(Some(FromClient::Client(wire::status(number, wire::FAILURE, words))));
        }
        let asked = self.read(head.kind, fields)?;
        let owed = match asked {
            Asked::No(code, words) => {
                return Ok(Some(FromClient::Client(wire::status(number, code, words))));
            }
            Asked::Call(call) => {
                self.owed.insert(number, Owed::Judged);
                return Ok(Some(FromClient::Ask(Request { id: number, call, packet })));
            }
            Asked::Plain(answer) => Owed::Plain(answer),
            Asked::Close(file, handle) => {
                // gone, whatever the target says: it may give the name to another file at once, and what comes for
                // that one before we know of it must not count as content of this one
                self.opened.remove(&handle);
                Owed::Close(file)
            }
            Asked::Read { file, offset, length } => Owed::Read { file, offset, length },
        };
        self.owed.insert(number, owed);
        Ok(Some(FromClient::Target(packet.into())))
    }

    fn is_free(&self, number: u32) -> Result<(), InvalidPacket> {
        if self.owed.contains_key(&number) { Err(InvalidPacket::Number(number)) } else { Ok(()) }
    }
}
