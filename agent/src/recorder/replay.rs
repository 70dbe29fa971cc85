//! Reading a recording back.
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use prost::Message as _;
use sluice_api::record;
use sluice_evidence::{Damage, FrameKind, Reader};
use tokio::sync::Notify;
use uuid::Uuid;

use super::error::RecorderError;
use super::limits::{DATA_ROW, row_length};
use super::shared::Shared;

/// Entries of a recording in their order. A live one ends where its last whole frame ends.
pub struct Entries {
    reader: Reader<BufReader<File>>,
    ready: VecDeque<record::Entry>,
    over: bool,
    sealed: bool,
    path: PathBuf,
}

impl Entries {
    pub(super) fn open(path: &Path, id: &Uuid) -> Result<Self, RecorderError> {
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => RecorderError::NotFound(*id),
            _ => RecorderError::io("open", path)(e),
        })?;
        let reader = Reader::new(BufReader::new(file)).map_err(RecorderError::Broken)?;
        Ok(Self { reader, ready: VecDeque::new(), over: false, sealed: false, path: path.to_owned() })
    }

    fn fill(&mut self) -> Result<(), RecorderError> {
        while self.ready.is_empty() && !self.over {
            let frame = match self.reader.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.over = true;
                    break;
                }
                Err(broken) => {
                    self.over = true;
                    if matches!(broken.what, Damage::Torn { .. }) {
                        break;
                    }
                    return Err(RecorderError::Broken(broken));
                }
            };
            if !matches!(frame.kind, FrameKind::Entry | FrameKind::Gap) {
                self.sealed |= frame.kind == FrameKind::Seal;
                continue;
            }
            let number = frame.number;
            let mut rest = frame.payload;
            while !rest.is_empty() {
                let entry = record::Entry::decode_length_delimited(&mut rest)
                    .map_err(|_| RecorderError::Entry(number))?;
                self.ready.push_back(entry);
            }
        }
        Ok(())
    }
}

/// Entries of a live session from its first on, and as they come.
pub struct Following {
    entries: Entries,
    shared: Arc<Shared>,
    id: Uuid,
    grown: Arc<Notify>,
}

impl Following {
    pub(super) fn open(shared: &Arc<Shared>, path: &Path, id: &Uuid) -> Result<Self, RecorderError> {
        let live = shared.live.lock().get(id).map(|live| Arc::clone(&live.grown));
        let grown = live.ok_or(RecorderError::NotFound(*id))?;
        Ok(Self { entries: Entries::open(path, id)?, shared: Arc::clone(shared), id: *id, grown })
    }

    /// The next entry; `None` after the last one of a session that has ended. Cancel safe.
    ///
    /// # Errors
    /// [`RecorderError`]: the file can't be read, or contradicts itself.
    pub async fn next(&mut self) -> Result<Option<record::Entry>, RecorderError> {
        loop {
            let mut grown = pin!(self.grown.notified());
            // what comes between the look and the wait wakes the wait
            grown.as_mut().enable();
            let live = self.shared.live.lock().contains_key(&self.id);
            // here and not behind the wait, which may be given up
            self.entries.again()?;
            if let Some(entry) = self.entries.next() {
                return entry.map(Some);
            }
            if self.entries.sealed || !live {
                return Ok(None);
            }
            grown.await;
        }
    }
}

impl Entries {
    /// The file may have grown since its end was seen.
    fn again(&mut self) -> Result<(), RecorderError> {
        if !self.over {
            return Ok(());
        }
        self.over = false;
        self.reader.rewind().map_err(|source| RecorderError::io("read", &self.path)(source))
    }
}

impl Iterator for Entries {
    type Item = Result<record::Entry, RecorderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

/// A value of a row; `None` is NULL.
pub type Value<'a> = Option<&'a [u8]>;

/// Rows of a [`record::Data`] entry. Ends at the first that is not whole.
pub struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    /// Of `Data.rows`.
    pub fn new(rows: &'a [u8]) -> Self {
        Self(rows)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Vec<Value<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = row_length(self.0)?;
        let (row, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let tag = usize::from(row.first() == Some(&DATA_ROW));
        let body = row.get(tag + 4..)?;
        let (count, mut body) = body.split_first_chunk::<2>()?;
        let mut values = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = body.split_first_chunk::<4>()?;
            match usize::try_from(i32::from_be_bytes(*length)) {
                Err(_) => {
                    values.push(None);
                    body = after;
                }
                Ok(n) => {
                    let (value, after) = after.split_at_checked(n)?;
                    values.push(Some(value));
                    body = after;
                }
            }
        }
        Some(values)
    }
}
