//! Verification by public keys alone, and recovery after a writer died.
use std::io::Read;

use crate::format::{
    Broken, Damage, End, FileKind, FrameKind, HEADER_LEN, Header, Root, STATEMENT_PAYLOAD, Statement, array,
};
use crate::key::{KeyId, PublicKey};
use crate::reader::{Frame, Reader};

/// Whether a file without a seal may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Only what is sealed.
    Sealed,
    /// Also a file that is still being written: all its whole frames are checked, its end is not proven.
    Live,
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// By a seal, and it is genuine.
    Sealed(End),
    /// Without one.
    Live {
        /// Bytes of a frame that was not whole at the time of reading.
        torn_bytes: u64,
    },
}

/// What a file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose recording it is.
    pub header: Header,
    /// How it ends.
    pub state: State,
    /// All frames, checkpoints and seal included.
    pub frames: u64,
    /// Frames with entries.
    pub entries: u64,
    /// Declared gaps.
    pub gaps: u64,
    /// Up to here a signature vouches; behind it stands only the chain. Equals `frames` in a sealed file.
    pub signed_frames: u64,
    /// Bytes of whole frames and header.
    pub bytes: u64,
    /// Time of the last frame, microseconds since 1970.
    pub last_us: i64,
    /// The chain behind the last frame.
    pub root: Root,
}

/// Checks the whole of a file: chain, signatures, seal.
///
/// # Errors
/// [`Broken`]: the first frame that does not hold, or the missing seal.
pub fn verify(input: impl Read, keys: &[PublicKey], accept: Accept) -> Result<Report, Broken> {
    let mut reader = Reader::new(input)?;
    let header = *reader.header();
    let mut report = Report {
        header,
        state: State::Live { torn_bytes: 0 },
        frames: 0,
        entries: 0,
        gaps: 0,
        signed_frames: 0,
        bytes: HEADER_LEN as u64,
        last_us: header.time_us,
        root: reader.root(),
    };
    loop {
        let frame = match reader.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(Broken { what: Damage::Torn { present }, .. }) if accept == Accept::Live => {
                report.state = State::Live { torn_bytes: present };
                break;
            }
            Err(broken) => return Err(broken),
        };
        report.frames = frame.number;
        report.last_us = frame.time_us;
        match frame.kind {
            FrameKind::Entry => report.entries += 1,
            FrameKind::Gap => report.gaps += 1,
            FrameKind::Checkpoint | FrameKind::Seal => {
                let (offset, number) = (frame.offset, frame.number);
                let end = check_statement(&header, &frame, keys);
                let end = end.map_err(|what| Broken { offset, frame: number, what })?;
                report.signed_frames = number;
                if let Some(end) = end {
                    report.state = State::Sealed(end);
                }
            }
        }
    }
    report.bytes = reader.offset();
    report.root = reader.root();
    if accept == Accept::Sealed && !matches!(report.state, State::Sealed(_)) {
        return Err(Broken { offset: report.bytes, frame: report.frames + 1, what: Damage::NotSealed });
    }
    Ok(report)
}

/// The end that a seal states, `None` for a checkpoint.
fn check_statement(header: &Header, frame: &Frame<'_>, keys: &[PublicKey]) -> Result<Option<End>, Damage> {
    let payload: &[u8; STATEMENT_PAYLOAD] = frame.payload.try_into().map_err(|_| Damage::Statement)?;
    let frames = u64::from_be_bytes(array(&payload[1..9]));
    let key = KeyId(array(&payload[9..17]));
    let end = match (frame.kind, payload[0]) {
        (FrameKind::Checkpoint, 0) => None,
        (FrameKind::Seal, code) => Some(End::from_code(code).ok_or(Damage::Statement)?),
        _ => return Err(Damage::Statement),
    };
    if frames.checked_add(1) != Some(frame.number) {
        return Err(Damage::Statement);
    }
    let statement = Statement {
        frame: frame.kind,
        file: header.kind,
        id: &header.id,
        end: payload[0],
        frames,
        chain: &frame.before.0,
        time_us: frame.time_us,
        key,
    };
    let trusted = keys.iter().find(|k| k.id() == key).ok_or(Damage::UntrustedKey(key))?;
    if trusted.signed(&statement.bytes(), &payload[17..]) { Ok(end) } else { Err(Damage::Signature) }
}

/// Finds the last whole frame of a file whose writer died: cut it to [`Report::bytes`] and go on with
/// [`crate::Writer::resume`], unless it is sealed. Only a tail that was never written whole counts as torn; a file
/// whose whole frames contradict each other or a signature was changed, and is not recovered but reported.
///
/// # Errors
/// [`Broken`]: leave the file as it is.
pub fn recover(input: impl Read, keys: &[PublicKey]) -> Result<Report, Broken> {
    verify(input, keys, Accept::Live)
}

impl Report {
    /// Bytes behind the last whole frame: part of one, or zeros that a file system left.
    pub fn torn_bytes(&self) -> u64 {
        match self.state {
            State::Live { torn_bytes } => torn_bytes,
            State::Sealed(_) => 0,
        }
    }

    /// The file ends by a genuine seal.
    pub fn is_sealed(&self) -> bool {
        matches!(self.state, State::Sealed(_))
    }

    /// The file is a recording of this session.
    ///
    /// # Errors
    /// [`Damage::OtherSession`]: somebody put another file in its place.
    pub fn expect_session(&self, id: &[u8; 16]) -> Result<(), Broken> {
        if self.header.kind == FileKind::Session && self.header.id == *id {
            return Ok(());
        }
        Err(Broken { offset: 0, frame: 0, what: Damage::OtherSession })
    }
}
