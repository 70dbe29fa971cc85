//! From the target to the client.
use bytes::{Bytes, BytesMut};

use super::calls::EXTENSIONS;
use super::filter::{Answer, Filter, Opened, Owed, Passing, Phase};
use super::wire::{self, Fields, Head};
use super::{Call, Done, FileId, FromTarget, InvalidPacket, Path, Payload};
use crate::ssh::path::Start;

/// The number of our own question. It is asked before the client may ask anything.
const OWN: u32 = u32::MAX;

impl Filter {
    /// Takes from `input` what it can; `None` when more is needed.
    ///
    /// # Errors
    /// The channel has to be closed.
    pub fn from_target(&mut self, input: &mut BytesMut) -> Result<Option<FromTarget>, InvalidPacket> {
        if let Some(event) = self.behind.pop_front() {
            return Ok(Some(event));
        }
        if let Some(event) = self.downward(input) {
            return Ok(event);
        }
        let Some(head) = wire::head(input)? else { return Ok(None) };
        match (&self.phase, head.kind) {
            (Phase::Greeted, wire::VERSION) => self.version(input, head),
            (Phase::Placing(_), wire::NAME | wire::STATUS) => self.placed(input, head),
            (Phase::Open, wire::DATA) => self.data(input, head),
            (Phase::Open, _) => self.answer(input, head),
            _ => Err(InvalidPacket::Unexpected(head.kind)),
        }
    }

    /// The rest of the content of a DATA; `None` when none is on its way.
    fn downward(&mut self, input: &mut BytesMut) -> Option<Option<FromTarget>> {
        let passing = self.downward.as_mut()?;
        let file = passing.file?;
        if passing.left == 0 {
            self.downward = None;
            return None;
        }
        if input.is_empty() {
            return Some(None);
        }
        let bytes = input.split_to(passing.left.min(input.len()));
        let offset = passing.offset;
        passing.left -= bytes.len();
        passing.offset = passing.offset.saturating_add(bytes.len() as u64);
        Some(Some(FromTarget::Payload(Payload { file, offset, bytes })))
    }

    /// The target's VERSION: of its extensions those that are known go on.
    fn version(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromTarget>, InvalidPacket> {
        let Some(packet) = wire::take(input, head) else { return Ok(None) };
        let mut fields = Fields::of(&packet);
        let version = fields.u32()?;
        if version != 3 {
            return Err(InvalidPacket::Version(version));
        }
        let mut kept: Vec<&[u8]> = Vec::new();
        while !fields.is_empty() {
            let (name, data) = (fields.string()?, fields.string()?);
            let known = EXTENSIONS.iter().find(|(own, of)| own.as_bytes() == name && of.as_bytes() == data);
            if let Some((name, data)) = known {
                kept.extend([name.as_bytes(), data.as_bytes()]);
            }
        }
        self.phase = Phase::Placing(wire::packet(wire::VERSION, 3, &kept));
        Ok(Some(FromTarget::Target(wire::packet(wire::REALPATH, OWN, &[b"."]))))
    }

    /// Where relative paths begin; a target that does not say it leaves them at the account's own directory.
    fn placed(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromTarget>, InvalidPacket> {
        let Some(packet) = wire::take(input, head) else { return Ok(None) };
        let mut fields = Fields::of(&packet);
        let number = fields.u32()?;
        if number != OWN {
            return Err(InvalidPacket::Number(number));
        }
        if head.kind == wire::NAME && fields.u32()? == 1 {
            self.start = Start::at(&fields.string()?);
        }
        let Phase::Placing(version) = std::mem::replace(&mut self.phase, Phase::Open) else {
            return Err(InvalidPacket::Unexpected(head.kind));
        };
        Ok(Some(FromTarget::Client(version.into())))
    }

    /// The head of a DATA passes, its content follows in pieces.
    fn data(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromTarget>, InvalidPacket> {
        if input.len() < wire::HEAD + 4 {
            return Ok(None);
        }
        let start = input.split_to(wire::HEAD + 4);
        let mut fields = Fields::of(&Bytes::copy_from_slice(&start));
        let (number, content) = (fields.u32()?, fields.u32()?);
        match self.owed.remove(&number) {
            Some(Owed::Read { file, offset, length }) if content <= length => {
                let left = usize::try_from(content).unwrap_or(usize::MAX);
                if wire::HEAD + 4 + left != head.total {
                    return Err(InvalidPacket::Malformed(wire::DATA));
                }
                self.downward = Some(Passing { file: Some(file), offset, left });
                Ok(Some(FromTarget::Client(start)))
            }
            Some(_) => Err(InvalidPacket::Unexpected(wire::DATA)),
            None => Err(InvalidPacket::Number(number)),
        }
    }

    /// Any other answer: what became of the request, then the packet as it came.
    fn answer(&mut self, input: &mut BytesMut, head: Head) -> Result<Option<FromTarget>, InvalidPacket> {
        let Some(packet) = wire::take(input, head) else { return Ok(None) };
        let mut fields = Fields::of(&packet);
        let number = fields.u32()?;
        let owed = self.owed.remove(&number).ok_or(InvalidPacket::Number(number))?;
        if !fits(&owed, head.kind) {
            return Err(InvalidPacket::Unexpected(head.kind));
        }
        let failed = if head.kind == wire::STATUS { refusal(&mut fields)? } else { None };
        let done = match owed {
            Owed::Call(call) => {
                let file = match head.kind {
                    wire::HANDLE => Some(self.handle(&call, fields)?),
                    _ => None,
                };
                Some(Done { id: number, call: Some(*call), file, failed })
            }
            Owed::Close(file) => {
                let before = self.failed.remove(&file);
                Some(Done { id: number, call: None, file: Some(file), failed: failed.or(before) })
            }
            Owed::Write(file) => {
                if let Some(failed) = failed
                    && self.is_open(file)
                {
                    self.failed.entry(file).or_insert(failed);
                }
                None
            }
            Owed::Judged | Owed::Read { .. } | Owed::Plain(_) => None,
        };
        match done {
            Some(done) => {
                self.behind.push_back(FromTarget::Client(packet.into()));
                Ok(Some(FromTarget::Done(done)))
            }
            None => Ok(Some(FromTarget::Client(packet.into()))),
        }
    }

    /// Whether the end of it has not been told yet.
    fn is_open(&self, file: FileId) -> bool {
        self.opened.values().any(|opened| opened.file == file)
            || self.owed.values().any(|owed| matches!(owed, Owed::Close(closing) if *closing == file))
    }

    /// Binds a handle to what was opened.
    fn handle(&mut self, call: &Call, mut fields: Fields) -> Result<FileId, InvalidPacket> {
        // without the buffer that it came in
        let handle = Bytes::copy_from_slice(&fields.string()?);
        let (Call::Open { path, .. } | Call::OpenDirectory(path)) = call else {
            return Err(InvalidPacket::Unexpected(wire::HANDLE));
        };
        if handle.len() > 256 || self.opened.contains_key(&handle) {
            return Err(InvalidPacket::Malformed(wire::HANDLE));
        }
        let file = FileId(self.next_file);
        self.next_file += 1;
        let path = Path { raw: Bytes::copy_from_slice(&path.raw), plain: path.plain.clone() };
        self.opened.insert(handle, Opened { file, path });
        Ok(file)
    }
}

/// Whether an answer of this type may come for it.
fn fits(owed: &Owed, kind: u8) -> bool {
    let expected: &[u8] = match owed {
        Owed::Judged => return false,
        Owed::Call(call) => match call.as_ref() {
            Call::Open { .. } | Call::OpenDirectory(_) => &[wire::HANDLE],
            // attributes, where a link leads, and room
            Call::Look(_) => &[wire::ATTRS, wire::NAME, wire::EXTENDED_REPLY],
            Call::Resolve(_) => &[wire::NAME],
            _ => &[],
        },
        Owed::Plain(Answer::Name) => &[wire::NAME],
        Owed::Plain(Answer::Attributes) => &[wire::ATTRS],
        Owed::Plain(Answer::Extended) => &[wire::EXTENDED_REPLY],
        // content comes as DATA, which has a way of its own
        Owed::Read { .. } | Owed::Write(_) | Owed::Close(_) | Owed::Plain(Answer::Status) => &[],
    };
    kind == wire::STATUS || expected.contains(&kind)
}

/// Code and words of a STATUS that is not OK. The end of a file is no refusal.
fn refusal(fields: &mut Fields) -> Result<Option<(u32, String)>, InvalidPacket> {
    let code = fields.u32()?;
    if code == 0 || code == wire::EOF {
        return Ok(None);
    }
    // servers of the first drafts have no words
    let words = if fields.is_empty() { Bytes::new() } else { fields.string()? };
    Ok(Some((code, String::from_utf8_lossy(&words).chars().take(500).collect())))
}
