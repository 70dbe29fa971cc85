//! Fields and packets of SFTP: big-endian numbers, and strings with their length in front.
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Attributes, InvalidPacket, MAX_PACKET};

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const FSTAT: u8 = 8;
pub(super) const SETSTAT: u8 = 9;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const REALPATH: u8 = 16;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const READLINK: u8 = 19;
pub(super) const SYMLINK: u8 = 20;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;
pub(super) const EXTENDED_REPLY: u8 = 201;

/// SSH_FX_EOF
pub(super) const EOF: u32 = 1;
/// SSH_FX_PERMISSION_DENIED
pub(super) const PERMISSION_DENIED: u32 = 3;
/// SSH_FX_FAILURE
pub(super) const FAILURE: u32 = 4;
/// SSH_FX_OP_UNSUPPORTED
pub(super) const UNSUPPORTED: u32 = 8;

/// Length word, type and number of a request or answer.
pub(super) const HEAD: usize = 9;

/// What the first bytes say of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Its type.
    pub(super) kind: u8,
    /// All of it, the length word included.
    pub(super) total: usize,
}

/// Type and length; `None` when they are not there yet.
pub(super) fn head(input: &[u8]) -> Result<Option<Head>, InvalidPacket> {
    let Some(([a, b, c, d, kind], _)) = input.split_first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    match usize::try_from(length) {
        // every packet has four bytes behind its type: a number, or a version
        Ok(n) if (5..=MAX_PACKET).contains(&n) => Ok(Some(Head { kind: *kind, total: n + 4 })),
        _ => Err(InvalidPacket::Length(length)),
    }
}

/// Takes the first packet out of `input`; `None` when it is not whole.
pub(super) fn take(input: &mut BytesMut, head: Head) -> Option<Bytes> {
    if input.len() < head.total {
        // there is room for all of it at once
        input.reserve(head.total - input.len());
        return None;
    }
    Some(input.split_to(head.total).freeze())
}

/// Reads the fields of a packet one after the other.
#[derive(Debug)]
pub(super) struct Fields {
    kind: u8,
    rest: Bytes,
}

impl Fields {
    /// Behind the type of a whole packet.
    pub(super) fn of(packet: &Bytes) -> Self {
        Fields { kind: packet.get(4).copied().unwrap_or(0), rest: packet.slice(packet.len().min(5)..) }
    }

    fn bad(&self) -> InvalidPacket {
        InvalidPacket::Malformed(self.kind)
    }

    pub(super) fn u32(&mut self) -> Result<u32, InvalidPacket> {
        if self.rest.len() < 4 { Err(self.bad()) } else { Ok(self.rest.get_u32()) }
    }

    pub(super) fn u64(&mut self) -> Result<u64, InvalidPacket> {
        if self.rest.len() < 8 { Err(self.bad()) } else { Ok(self.rest.get_u64()) }
    }

    pub(super) fn string(&mut self) -> Result<Bytes, InvalidPacket> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.bad())?;
        if self.rest.len() < length { Err(self.bad()) } else { Ok(self.rest.split_to(length)) }
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, InvalidPacket> {
        let flags = self.u32()?;
        // size, owner, mode, times; extended attributes are in no server
        if flags & !0b1111 != 0 {
            return Err(self.bad());
        }
        let has = |bit: u32| flags & bit != 0;
        Ok(Attributes {
            size: if has(1) { Some(self.u64()?) } else { None },
            owner: if has(2) { Some((self.u32()?, self.u32()?)) } else { None },
            mode: if has(4) { Some(self.u32()?) } else { None },
            times: if has(8) { Some((self.u32()?, self.u32()?)) } else { None },
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), InvalidPacket> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.bad()) }
    }
}

/// A packet with this type, number and strings.
pub(super) fn packet(kind: u8, number: u32, fields: &[&[u8]]) -> Bytes {
    let body: usize = fields.iter().map(|field| field.len() + 4).sum();
    let mut out = BytesMut::with_capacity(HEAD + body);
    out.put_u32(u32::try_from(body + 5).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_u32(number);
    for field in fields {
        out.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
        out.put_slice(field);
    }
    out.freeze()
}

/// SSH_FXP_STATUS.
pub(super) fn status(number: u32, code: u32, words: &str) -> Bytes {
    // no client shows more, and the packet stays small whoever wrote the words
    let end = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= 1000).last().unwrap_or(0);
    let words = if words.len() > 1000 { words.get(..end).unwrap_or_default() } else { words };
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(words.len() + 4 + 4 + 4 + 5).unwrap_or(u32::MAX));
    out.put_u8(STATUS);
    out.put_u32(number);
    out.put_u32(code);
    out.put_u32(u32::try_from(words.len()).unwrap_or(u32::MAX));
    out.put_slice(words.as_bytes());
    out.put_u32(0);
    out.freeze()
}
