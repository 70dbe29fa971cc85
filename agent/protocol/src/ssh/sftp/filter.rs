//! What is open and what is owed.
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::wire;
use super::{Call, FileId, FromTarget, MAX_IN_FLIGHT, Path, Request};
use crate::ssh::path::Start;

/// Where the conversation is.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// The client's INIT is due.
    #[default]
    Fresh,
    /// The target's VERSION is due.
    Greeted,
    /// The target is asked where relative paths begin; this is what the client gets then.
    Placing(Bytes),
    /// Requests and answers.
    Open,
}

/// What kind of answer a request has, beside STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status,
    Attributes,
    Name,
    Extended,
}

/// What the target owes for one request.
#[derive(Debug)]
pub(super) enum Owed {
    /// It is judged, and has not been sent.
    Judged,
    /// A call that was judged.
    Call(Box<Call>),
    /// Content of this file.
    Read { file: FileId, offset: u64, length: u32 },
    /// Content of this file was sent.
    Write(FileId),
    /// The end of this file, under this handle.
    Close(FileId, Bytes),
    /// What uses a handle, or names nothing.
    Plain(Answer),
}

/// Something that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: FileId,
    pub(super) path: Path,
}

/// Content that is on its way through.
#[derive(Debug)]
pub(super) struct Passing {
    /// `None`: it goes nowhere.
    pub(super) file: Option<FileId>,
    pub(super) offset: u64,
    pub(super) left: usize,
}

/// Both directions of one channel.
#[derive(Debug, Default)]
pub struct Filter {
    pub(super) phase: Phase,
    pub(super) start: Start,
    pub(super) owed: HashMap<u32, Owed>,
    pub(super) opened: HashMap<Bytes, Opened>,
    /// The first content of a file that the target has not taken.
    pub(super) failed: HashMap<FileId, (u32, String)>,
    pub(super) next_file: u64,
    pub(super) upward: Option<Passing>,
    pub(super) downward: Option<Passing>,
    /// What comes after the event that was given last.
    pub(super) behind: VecDeque<FromTarget>,
}

impl Filter {
    /// Before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where relative paths begin.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The client has to wait: for the target's VERSION, or for answers.
    pub fn waits(&self) -> bool {
        matches!(self.phase, Phase::Greeted | Phase::Placing(_)) || self.owed.len() >= MAX_IN_FLIGHT
    }

    /// The request is permitted: what to send to the target.
    pub fn forward(&mut self, request: Request) -> Bytes {
        self.owed.insert(request.id, Owed::Call(Box::new(request.call)));
        request.packet
    }

    /// The request is refused: what to send to the client, with words for the person.
    pub fn refuse(&mut self, request: Request, words: &str) -> Bytes {
        self.owed.remove(&request.id);
        wire::status(request.id, wire::PERMISSION_DENIED, words)
    }
}
