//! The list of a host's recordings: a file of the same format whose entries say which session was opened, and how
//! and with which root it ended. With it the removal of a whole recording is noticed. The ledger itself is never
//! sealed; each batch of records is followed by a checkpoint, and only records in front of one are believed.
use std::collections::HashMap;
use std::io::Read;

use crate::format::{Broken, Damage, End, FileKind, FrameKind, Root, array};
use crate::key::PublicKey;
use crate::reader::Reader;
use crate::verify::{Accept, Report, State, verify};

/// One record: what happened (1), session id (16), root (32), frames (8).
const RECORD_LEN: usize = 1 + 16 + 32 + 8;

/// What the ledger says about one session at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A recording was begun.
    Opened,
    /// It was sealed: how, its root, and its count of frames.
    Sealed(End, Root, u64),
    /// At a start of the recorder the file was found changed; it was left as it was.
    FoundBroken,
    /// At a start of the recorder the file was not there any more.
    FoundMissing,
}

impl Record {
    /// The payload of an entry frame.
    pub fn encode(&self, session: &[u8; 16]) -> [u8; RECORD_LEN] {
        let (code, root, frames) = match self {
            Self::Opened => (0, [0; 32], 0),
            Self::Sealed(end, root, frames) => (end.code(), root.0, *frames),
            Self::FoundBroken => (0x40, [0; 32], 0),
            Self::FoundMissing => (0x41, [0; 32], 0),
        };
        let mut out = [0; RECORD_LEN];
        let parts: [&[u8]; 4] = [&[code], session, &root, &frames.to_be_bytes()];
        out.iter_mut().zip(parts.into_iter().flatten()).for_each(|(o, b)| *o = *b);
        out
    }

    /// Session and record of an entry frame; `None` when the payload is none.
    pub fn decode(payload: &[u8]) -> Option<([u8; 16], Self)> {
        let payload: &[u8; RECORD_LEN] = payload.try_into().ok()?;
        let record = match payload[0] {
            0 => Self::Opened,
            0x40 => Self::FoundBroken,
            0x41 => Self::FoundMissing,
            code => Self::Sealed(
                End::from_code(code)?,
                Root(array(&payload[17..49])),
                u64::from_be_bytes(array(&payload[49..])),
            ),
        };
        Some((array(&payload[1..17]), record))
    }
}

/// What ledgers say about the sessions of a host: the last record of each, `Sealed` before all others.
#[derive(Debug, Default)]
pub struct Ledger {
    sessions: HashMap<[u8; 16], Record>,
    /// Records behind the last signature: written but not vouched for yet (or added by somebody else).
    pub unsigned: u64,
}

impl Ledger {
    /// Checks one ledger file and adds what it says. `input` is read twice, hence the function.
    ///
    /// # Errors
    /// [`Broken`]; nothing of the file was added.
    pub fn add<R: Read>(&mut self, open: impl Fn() -> R, keys: &[PublicKey]) -> Result<Report, Broken> {
        let report = verify(open(), keys, Accept::Live)?;
        if report.header.kind != FileKind::Ledger {
            return Err(Broken { offset: 0, frame: 0, what: Damage::OtherSession });
        }
        let mut reader = Reader::new(open())?;
        let mut records = Vec::new();
        while reader.frames() < report.frames
            && let Some(frame) = reader.next()?
        {
            if frame.kind != FrameKind::Entry {
                continue;
            }
            let (offset, number) = (frame.offset, frame.number);
            let record = Record::decode(frame.payload);
            records.push(record.ok_or(Broken { offset, frame: number, what: Damage::Statement })?);
            self.unsigned += u64::from(number > report.signed_frames);
        }
        for (id, record) in records {
            self.note(id, record);
        }
        Ok(report)
    }

    /// Adds one record.
    pub fn note(&mut self, id: [u8; 16], record: Record) {
        let slot = self.sessions.entry(id).or_insert(record);
        if !matches!(slot, Record::Sealed(..)) {
            *slot = record;
        }
    }

    /// What is said about a session.
    pub fn get(&self, id: &[u8; 16]) -> Option<Record> {
        self.sessions.get(id).copied()
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (&[u8; 16], &Record)> {
        self.sessions.iter()
    }

    /// What file and ledger together say about a session. `file`: `None` where there is no file.
    pub fn standing(&self, id: &[u8; 16], file: Option<Result<Report, Broken>>) -> Standing {
        let Some(file) = file else { return Standing::Missing };
        let report = match file.and_then(|report| report.expect_session(id).map(|()| report)) {
            Ok(report) => report,
            Err(broken) => return Standing::Broken(broken),
        };
        let broken = |what| Standing::Broken(Broken { offset: report.bytes, frame: report.frames, what });
        match (self.get(id), report.state) {
            (None, _) => Standing::Unlisted(Box::new(report)),
            (Some(Record::Sealed(_, root, _)), State::Sealed(_)) if root != report.root => {
                broken(Damage::OtherRoot)
            }
            (Some(Record::Sealed(..)), State::Live { .. }) => broken(Damage::NotSealed),
            (_, State::Live { .. }) => Standing::Live(Box::new(report)),
            (_, State::Sealed(End::Recovered)) => Standing::Recovered(Box::new(report)),
            (_, State::Sealed(_)) => Standing::Sealed(Box::new(report)),
        }
    }
}

/// How a session's recording stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Whole, sealed, and as the ledger knows it.
    Sealed(Box<Report>),
    /// Sealed after its writer died; a gap says what is missing.
    Recovered(Box<Report>),
    /// Not sealed: still being written, or its tail was cut. The caller knows whether the session lives.
    Live(Box<Report>),
    /// Changed, exchanged, or cut behind what the ledger knows.
    Broken(Broken),
    /// The ledger knows it, and there is no file.
    Missing,
    /// A sound file of which the ledger knows nothing: brought from elsewhere, or the ledger was replaced.
    Unlisted(Box<Report>),
}

impl Standing {
    /// One lower-case word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sealed(_) => "sealed",
            Self::Recovered(_) => "recovered",
            Self::Live(_) => "live",
            Self::Broken(_) => "broken",
            Self::Missing => "missing",
            Self::Unlisted(_) => "unlisted",
        }
    }
}
