//! The layout of headers, frames and signed statements; see the table in the crate's documentation.
use ring::digest::{Context, SHA256};

use crate::key::KeyId;

/// Length of a file's header in bytes.
pub const HEADER_LEN: usize = 64;
/// No frame carries more plain bytes; a reader never makes room for more, whatever a frame announces.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// No frame stores more bytes than this: zstd is only kept where it made the payload smaller.
pub(crate) const MAX_STORED: usize = MAX_PAYLOAD + 64;
pub(crate) const FRAME_HEAD: usize = 20;
pub(crate) const FRAME_TAIL: usize = 32;
pub(crate) const STATEMENT_PAYLOAD: usize = 1 + 8 + 8 + 64;
pub(crate) const FLAG_ZSTD: u8 = 1;

const MAGIC: [u8; 8] = [0x89, b'S', b'L', b'R', 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION: u16 = 1;
const CHAIN_DOMAIN: &[u8] = b"sluice recording v1\0";
const STATEMENT_DOMAIN: &[u8] = b"sluice recording statement v1\0";

/// The chain's value behind a frame; behind a seal, the one value that stands for the whole file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root(pub [u8; 32]);

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({self})")
    }
}

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The recording of one session.
    Session,
    /// The list of a host's recordings, see [`crate::ledger`].
    Ledger,
}

impl FileKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Ledger => 2,
        }
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// What happened.
    Entry,
    /// Something is missing here, and why; written by recovery.
    Gap,
    /// A signature over everything up to here.
    Checkpoint,
    /// The signature that ends the file.
    Seal,
}

impl FrameKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Gap => 2,
            Self::Checkpoint => 3,
            Self::Seal => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Entry,
            2 => Self::Gap,
            3 => Self::Checkpoint,
            4 => Self::Seal,
            _ => return None,
        })
    }
}

/// How a recording ended, as its seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// By its session's end.
    Closed,
    /// The session was given up by the code that held it, without a word why.
    Dropped,
    /// The writer died; what had been written whole was kept, and a gap says what was not.
    Recovered,
    /// Writing failed (a full disk, say) and the session was ended for it.
    Failed,
}

impl End {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::Dropped => 2,
            Self::Recovered => 3,
            Self::Failed => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Closed,
            2 => Self::Dropped,
            3 => Self::Recovered,
            4 => Self::Failed,
            _ => return None,
        })
    }

    /// One lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Dropped => "dropped",
            Self::Recovered => "recovered",
            Self::Failed => "failed",
        }
    }
}

/// What stands at the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Session or ledger.
    pub kind: FileKind,
    /// UUID of the session or of the ledger.
    pub id: [u8; 16],
    /// The key that the writer had at the start. Who really signed stands beside each signature.
    pub key: KeyId,
    /// Microseconds since 1970.
    pub time_us: i64,
}

impl Header {
    /// The header's bytes and `hash_0`.
    pub(crate) fn encode(&self) -> ([u8; HEADER_LEN], [u8; 32]) {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[10] = self.kind.code();
        bytes[16..32].copy_from_slice(&self.id);
        bytes[32..40].copy_from_slice(&self.key.0);
        bytes[40..48].copy_from_slice(&self.time_us.to_be_bytes());
        let hash = first_hash(&bytes);
        bytes[48..].copy_from_slice(&hash[..16]);
        (bytes, hash)
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<(Self, [u8; 32]), Damage> {
        if bytes[..8] != MAGIC {
            return Err(Damage::NotARecording);
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let hash = first_hash(bytes);
        if bytes[48..] != hash[..16] || bytes[11..16] != [0; 5] {
            return Err(Damage::Header);
        }
        let kind = match bytes[10] {
            1 => FileKind::Session,
            2 => FileKind::Ledger,
            _ => return Err(Damage::Header),
        };
        let header = Self {
            kind,
            id: array(&bytes[16..32]),
            key: KeyId(array(&bytes[32..40])),
            time_us: time(&bytes[40..48]),
        };
        Ok((header, hash))
    }
}

fn first_hash(header: &[u8; HEADER_LEN]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(CHAIN_DOMAIN);
    context.update(&header[..48]);
    array(context.finish().as_ref())
}

/// `hash_n` from `hash_{n-1}`.
pub(crate) fn next_hash(previous: &[u8; 32], head: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(head);
    context.update(payload);
    array(context.finish().as_ref())
}

/// The first N bytes; shorter input is filled with zeros, which no caller relies on.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(o, b)| *o = *b);
    out
}

pub(crate) fn time(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(array(bytes))
}

/// The first 20 bytes of a frame.
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) kind: FrameKind,
    pub(crate) zstd: bool,
    pub(crate) time_us: i64,
}

impl FrameHead {
    pub(crate) fn encode(&self) -> [u8; FRAME_HEAD] {
        let mut bytes = [0; FRAME_HEAD];
        bytes[..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..8].copy_from_slice(&(!self.length).to_be_bytes());
        bytes[8] = self.kind.code();
        bytes[9] = if self.zstd { FLAG_ZSTD } else { 0 };
        bytes[12..].copy_from_slice(&self.time_us.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; FRAME_HEAD]) -> Result<Self, Damage> {
        let length = u32::from_be_bytes(array(&bytes[..4]));
        if u32::from_be_bytes(array(&bytes[4..8])) != !length || length as usize > MAX_STORED {
            return Err(Damage::Length);
        }
        let kind = FrameKind::from_code(bytes[8]).ok_or(Damage::Kind(bytes[8]))?;
        if bytes[9] & !FLAG_ZSTD != 0 || bytes[10..12] != [0, 0] {
            return Err(Damage::Flags);
        }
        Ok(Self { length, kind, zstd: bytes[9] & FLAG_ZSTD != 0, time_us: time(&bytes[12..]) })
    }
}

/// What a checkpoint or a seal states and signs.
pub(crate) struct Statement<'a> {
    pub(crate) frame: FrameKind,
    pub(crate) file: FileKind,
    pub(crate) id: &'a [u8; 16],
    /// 0 in a checkpoint.
    pub(crate) end: u8,
    pub(crate) frames: u64,
    pub(crate) chain: &'a [u8; 32],
    pub(crate) time_us: i64,
    pub(crate) key: KeyId,
}

const STATEMENT_LEN: usize = STATEMENT_DOMAIN.len() + 2 + 16 + 1 + 8 + 32 + 8 + 8;

impl Statement<'_> {
    pub(crate) fn bytes(&self) -> [u8; STATEMENT_LEN] {
        let parts: [&[u8]; 8] = [
            STATEMENT_DOMAIN,
            &[self.frame.code(), self.file.code()],
            self.id,
            &[self.end],
            &self.frames.to_be_bytes(),
            self.chain,
            &self.time_us.to_be_bytes(),
            &self.key.0,
        ];
        let mut out = [0; STATEMENT_LEN];
        out.iter_mut().zip(parts.into_iter().flatten()).for_each(|(o, b)| *o = *b);
        out
    }
}

/// A file that does not prove what it says, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where the frame begins that is wrong, in bytes from the start of the file.
    pub offset: u64,
    /// Its number; the first frame behind the header is 1, the header itself 0.
    pub frame: u64,
    /// What is wrong.
    pub what: Damage,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame {} at byte {}: {}", self.frame, self.offset, self.what)
    }
}

impl std::error::Error for Broken {}

/// What can be wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The magic is not there.
    #[error("not a recording of Sluice")]
    NotARecording,
    /// Written by a newer Sluice.
    #[error("version {0} of the format is not known here")]
    Version(u16),
    /// The header's check does not fit.
    #[error("the header was changed")]
    Header,
    /// The two lengths of a frame contradict each other, or exceed the limit.
    #[error("the frame's length was changed")]
    Length,
    /// No such kind of frame.
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    /// Bits that must be zero are not.
    #[error("the frame's flags were changed")]
    Flags,
    /// The chain does not fit: the frame was changed, or one before it is missing, added or moved.
    #[error("the chain does not fit: this frame was changed, or one was removed, inserted or moved here")]
    Chain,
    /// The file ends inside the frame.
    #[error("the file ends inside this frame ({present} bytes of it are there)")]
    Torn {
        /// Bytes of the frame that are there (or zeros that the file system left in their place).
        present: u64,
    },
    /// The payload can't be decompressed, or not to the length that it announces.
    #[error("the payload is not compressed as it says")]
    Compression,
    /// A checkpoint or seal of another shape, or one that counts the frames before it otherwise.
    #[error("the checkpoint or seal contradicts the file")]
    Statement,
    /// Signed by nobody whom the verifier trusts.
    #[error("signed by key {0}, which is not among the trusted ones")]
    UntrustedKey(KeyId),
    /// The signature is not one of the key that it names.
    #[error("the signature is false")]
    Signature,
    /// Something stands behind the seal.
    #[error("there are bytes behind the seal")]
    BehindSeal,
    /// No seal, and the caller did not allow for a live file.
    #[error("not sealed: still being written, or its tail was cut")]
    NotSealed,
    /// The id in the file is not the one that it was looked up by.
    #[error("this is the recording of another session")]
    OtherSession,
    /// The ledger knows another root for this file.
    #[error("the ledger of the host knows another root for it")]
    OtherRoot,
    /// The file could not be read.
    #[error("it could not be read: {0}")]
    Unreadable(std::io::ErrorKind),
}
