//! Where a message begins and ends. Every length that a peer announces is looked at here, once.

/// The longest message that either side may announce, its length word included: PostgreSQL's own limit for a
/// palloc'ed buffer (`MaxAllocSize`).
pub const MAX_MESSAGE: usize = 0x3fff_ffff;

/// Type byte and length word.
pub const HEAD: usize = 5;

/// Why bytes are no message of this protocol. The stream is of no further use after one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// A length that can't be: under four, or over the limit of its kind.
    #[error("a message of type {} announces {length} bytes", shown(*kind))]
    Length {
        /// The type byte; 0 for the messages before the session, which have none.
        kind: u8,
        /// What the length word says, sign included.
        length: i64,
    },
    /// The body ends before the named field does.
    #[error("a message ends within its {0}")]
    Truncated(&'static str),
    /// Bytes behind the last field.
    #[error("a message goes on behind its last field ({0})")]
    Trailing(&'static str),
    /// A name or text that is not UTF-8, which is the only encoding of a session.
    #[error("the {0} is not UTF-8")]
    NotText(&'static str),
    /// A field with a value that the protocol does not know.
    #[error("unknown value {value} of the {what}")]
    Value {
        /// Which field.
        what: &'static str,
        /// What stood there.
        value: i64,
    },
    /// A type byte that has no place in the present state.
    #[error("a message of type {} has no place here", shown(*.0))]
    Unexpected(u8),
}

/// A type byte for a human, safe for a terminal.
fn shown(kind: u8) -> String {
    match kind {
        0 => "none (start of a session)".to_owned(),
        k if k.is_ascii_graphic() => format!("'{}'", k as char),
        k => format!("0x{k:02x}"),
    }
}

/// Type and length of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type byte.
    pub kind: u8,
    /// Bytes of the whole message: type byte, length word and body.
    pub total: usize,
}

impl Head {
    /// Reads the first five bytes; `None` when they are not all there.
    ///
    /// # Errors
    /// A length under four or over [`MAX_MESSAGE`].
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, InvalidMessage> {
        let Some(([kind, a, b, c, d], _)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        match usize::try_from(length) {
            Ok(n) if (4..=MAX_MESSAGE).contains(&n) => Ok(Some(Self { kind: *kind, total: n + 1 })),
            _ => Err(InvalidMessage::Length { kind: *kind, length: i64::from(length) }),
        }
    }

    /// Bytes of the body.
    pub fn body(self) -> usize {
        self.total - HEAD
    }
}

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type byte.
    pub kind: u8,
    /// All of the message, as it came.
    pub whole: &'a [u8],
    /// What follows the length word.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message of `bytes`; `None` when it is not whole yet.
    ///
    /// # Errors
    /// As [`Head::read`].
    pub fn first(bytes: &'a [u8]) -> Result<Option<Self>, InvalidMessage> {
        let Some(head) = Head::read(bytes)? else { return Ok(None) };
        let Some(whole) = bytes.get(..head.total) else { return Ok(None) };
        Ok(Some(Self { kind: head.kind, whole, body: whole.get(HEAD..).unwrap_or_default() }))
    }
}

/// Reads the fields of a body one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// From the first byte behind the length word.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Exactly `n` bytes.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`].
    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], InvalidMessage> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(InvalidMessage::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`].
    pub fn byte(&mut self, what: &'static str) -> Result<u8, InvalidMessage> {
        let (first, rest) = self.rest.split_first().ok_or(InvalidMessage::Truncated(what))?;
        self.rest = rest;
        Ok(*first)
    }

    /// Int16.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`].
    pub fn int16(&mut self, what: &'static str) -> Result<i16, InvalidMessage> {
        let (head, rest) = self.rest.split_first_chunk::<2>().ok_or(InvalidMessage::Truncated(what))?;
        self.rest = rest;
        Ok(i16::from_be_bytes(*head))
    }

    /// An Int16 that counts something: PostgreSQL reads it unsigned (up to 65535 parameters).
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`].
    pub fn count(&mut self, what: &'static str) -> Result<usize, InvalidMessage> {
        Ok(usize::from(self.int16(what)?.cast_unsigned()))
    }

    /// Int32.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`].
    pub fn int32(&mut self, what: &'static str) -> Result<i32, InvalidMessage> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(InvalidMessage::Truncated(what))?;
        self.rest = rest;
        Ok(i32::from_be_bytes(*head))
    }

    /// Bytes up to a zero byte, which is consumed.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`] without a zero byte.
    pub fn string(&mut self, what: &'static str) -> Result<&'a [u8], InvalidMessage> {
        let end = memchr::memchr(0, self.rest).ok_or(InvalidMessage::Truncated(what))?;
        let text = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Ok(text)
    }

    /// As [`Fields::string`], and it must be UTF-8.
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`], [`InvalidMessage::NotText`].
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, InvalidMessage> {
        std::str::from_utf8(self.string(what)?).map_err(|_| InvalidMessage::NotText(what))
    }

    /// A value with its length in front; `None` is NULL (length -1).
    ///
    /// # Errors
    /// [`InvalidMessage::Truncated`]; [`InvalidMessage::Value`] for any other negative length.
    pub fn value(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, InvalidMessage> {
        let length = self.int32(what)?;
        if length == -1 {
            return Ok(None);
        }
        let n =
            usize::try_from(length).map_err(|_| InvalidMessage::Value { what, value: i64::from(length) })?;
        self.bytes(n, what).map(Some)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`InvalidMessage::Trailing`].
    pub fn end(self, what: &'static str) -> Result<(), InvalidMessage> {
        if self.rest.is_empty() { Ok(()) } else { Err(InvalidMessage::Trailing(what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s25_a_length_under_four_or_absurd_is_no_message() {
        for length in [0i32, 1, 3, -1, i32::MIN, 0x4000_0000, i32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(
                Head::read(&bytes),
                Err(InvalidMessage::Length { kind: b'Q', length: i64::from(length) })
            );
        }
        assert_eq!(Head::read(b"S\0\0\0\x04"), Ok(Some(Head { kind: b'S', total: 5 })));
    }

    #[test]
    fn a_message_is_whole_or_not_there() {
        let bytes = b"Q\0\0\0\x06a\0Srest";
        for end in 0..7 {
            assert_eq!(Message::first(&bytes[..end]), Ok(None));
        }
        let whole = Message::first(bytes).unwrap().unwrap();
        assert_eq!((whole.kind, whole.body, whole.whole.len()), (b'Q', &b"a\0"[..], 7));
    }
}
