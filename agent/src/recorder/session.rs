//! The recording of one session.
use std::sync::Arc;

use parking_lot::Mutex;
use sluice_api::admin::SessionSummary;
use sluice_api::record::{self, entry::Entry};
use sluice_evidence::ledger::Record;
use sluice_evidence::{End, FileKind, Writer};
use tokio::sync::Notify;
use uuid::Uuid;

use super::error::RecorderError;
use super::limits::{Limits, Statements};
use super::pending::{self, Chunk, Pending, SPILL};
use super::released::{Recorded, Released};
use super::shared::{Live, Shared};
use super::spool::{SpoolFile, now_us};

/// A session's recording, for the one task that carries the session. Dropping it seals it as given up.
pub struct SessionRecording {
    shared: Arc<Shared>,
    file: Arc<SpoolFile>,
    writer: Option<Writer>,
    pending: Pending,
    statements: Statements,
    limits: Limits,
    id: Uuid,
    summary: Arc<Mutex<SessionSummary>>,
    grown: Arc<Notify>,
    operations: u64,
    to_client: u64,
    to_target: u64,
}

impl SessionRecording {
    pub(super) fn open(shared: &Arc<Shared>, mut opened: record::Opened) -> Result<Self, RecorderError> {
        shared.admit()?;
        let id = Uuid::parse_str(&opened.session).unwrap_or_else(|_| Uuid::now_v7());
        opened.session = id.to_string();
        let file = match SpoolFile::create(&shared.dir, &id) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                shared.failed(&error);
                return Err(error);
            }
        };
        let settings = shared.settings.load();
        let limits = Limits { max_rows: settings.max_rows, max_bytes: settings.max_bytes };
        let mut frame = shared.pool.take();
        let started = now_us();
        let writer =
            Writer::begin(FileKind::Session, *id.as_bytes(), started, Arc::clone(&shared.key), &mut frame);
        let summary = Arc::new(Mutex::new(summary(&id, &opened, started)));
        let mut recording = Self {
            shared: Arc::clone(shared),
            file,
            writer: Some(writer),
            pending: Pending::default(),
            statements: Statements::default(),
            limits,
            id,
            summary: Arc::clone(&summary),
            grown: Arc::default(),
            operations: 0,
            to_client: 0,
            to_target: 0,
        };
        recording.entry(Entry::Opened(opened));
        recording.flush_into(&mut frame)?;
        shared.pool.give(frame);
        shared.ledger.lock().note(*id.as_bytes(), Record::Opened)?;
        let grown = Arc::clone(&recording.grown);
        shared.live.lock().insert(id, Live { summary, grown });
        Ok(recording)
    }

    /// The session's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Something that happened; goes out with the next commit.
    pub fn entry(&mut self, entry: Entry) {
        if let Entry::Operation(operation) = &entry {
            self.operations += 1;
            let mut summary = self.summary.lock();
            summary.operations += 1;
            summary.refused += u64::from(operation.verdict == "refuse");
        }
        self.pending.entry(&self.shared.pool, now_us(), entry);
        self.spill();
    }

    /// A permitted operation, of which everything but number, text and parameters stands encoded in `rest`, as
    /// [`record::Operation`]: one that this session has had before.
    pub fn operation_again(&mut self, id: u64, text: &str, parameters: &[String], rest: &[u8]) {
        self.operations += 1;
        self.summary.lock().operations += 1;
        let room = text.len() + parameters.iter().map(|p| p.len() + 6).sum::<usize>() + rest.len() + 24;
        self.pending.encoded(&self.shared.pool, now_us(), pending::OPERATION, room, |out| {
            pending::number(pending::OPERATION_ID, id, out);
            pending::text(pending::OPERATION_TEXT, text, out);
            for parameter in parameters {
                pending::text(pending::OPERATION_PARAMETER, parameter, out);
            }
            out.extend_from_slice(rest);
        });
        self.spill();
    }

    /// The shape of a result, of which everything but the operation's number stands encoded in `rest`, as
    /// [`record::Result`].
    pub fn result_again(&mut self, operation: u64, rest: &[u8]) {
        self.pending.encoded(&self.shared.pool, now_us(), pending::RESULT, rest.len() + 16, |out| {
            pending::number(pending::RESULT_OPERATION, operation, out);
            out.extend_from_slice(rest);
        });
        self.spill();
    }

    /// Rows that go to the client, as they go: whole DataRow messages one behind the other, with or without their
    /// type byte. Kept up to the configured number of rows and bytes of the operation, then counted and digested.
    pub fn rows(&mut self, operation: u64, rows: &[u8], count: u64) {
        let (kept, kept_rows) = self.statements.rows(self.limits, operation, rows, count);
        if let Some(bytes) = rows.get(..kept).filter(|b| !b.is_empty()) {
            self.pending.data(&self.shared.pool, now_us(), operation, Chunk::Rows, (bytes, kept_rows));
            self.spill();
        }
    }

    /// Bytes of a stream (COPY, input and output of a command), as they go; kept up to the configured number of bytes, then counted and digested.
    pub fn stream(&mut self, operation: u64, bytes: &[u8], upstream: bool) {
        let kept = self.statements.stream(self.limits, operation, bytes);
        if let Some(bytes) = bytes.get(..kept).filter(|b| !b.is_empty()) {
            self.pending.data(&self.shared.pool, now_us(), operation, Chunk::Stream { upstream }, (bytes, 0));
            self.spill();
        }
    }

    /// What a command writes to its standard error, as it goes to the client; under the limits of its other streams.
    pub fn stderr(&mut self, operation: u64, bytes: &[u8]) {
        let kept = self.statements.stream(self.limits, operation, bytes);
        if let Some(bytes) = bytes.get(..kept).filter(|b| !b.is_empty()) {
            self.pending.data(&self.shared.pool, now_us(), operation, Chunk::Stderr, (bytes, 0));
            self.spill();
        }
    }

    /// Output of a terminal, as it goes to the client; kept whole.
    pub fn screen(&mut self, operation: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.statements.screen(operation, bytes.len() as u64);
        self.pending.data(&self.shared.pool, now_us(), operation, Chunk::Screen, (bytes, 0));
        self.spill();
    }

    /// So many bytes were typed into a terminal. Counted and not kept: what was echoed stands in the output, what was
    /// not is a secret.
    pub fn typed(&mut self, operation: u64, bytes: usize) {
        self.statements.typed(operation, bytes as u64);
    }

    /// A terminal came to be, or its size changed.
    pub fn terminal(&mut self, terminal: record::Terminal) {
        self.entry(Entry::Terminal(terminal));
    }

    /// Something was done to a file, or was tried.
    pub fn file(&mut self, file: record::File) {
        self.entry(Entry::File(file));
    }

    /// An operation is done; counts and digest of what came back are filled in here.
    pub fn completed(&mut self, mut completed: record::Completed) {
        self.statements.finish(&mut completed);
        self.entry(Entry::Completed(completed));
    }

    /// Everything said so far is written, then the bytes may go.
    ///
    /// # Errors
    /// [`RecorderError`]: nothing may go any more, the session has to end.
    pub fn commit<'a>(&mut self, out: Released<'a>) -> Result<Recorded<'a>, RecorderError> {
        self.flush()?;
        let counter = if out.to_target { &mut self.to_target } else { &mut self.to_client };
        *counter += out.bytes.len() as u64;
        Ok(Recorded::after_write(out))
    }

    /// As [`SessionRecording::commit`], and on the disk.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub async fn commit_strict<'a>(&mut self, out: Released<'a>) -> Result<Recorded<'a>, RecorderError> {
        self.flush()?;
        // whether it was soiled before or is now: the round that comes takes it up
        self.shared.dirty.add(&self.file);
        self.shared.dirty.now().await.map_err(|_| RecorderError::Stopping)?;
        self.commit(out)
    }

    /// Ends the recording with a seal.
    pub fn close(mut self, reason: &str) {
        self.end(reason, End::Closed);
    }

    fn spill(&mut self) {
        if self.pending.len() >= SPILL {
            // a failure stays with the file, and the commit that comes tells it
            let _ = self.flush();
        }
    }

    fn flush(&mut self) -> Result<(), RecorderError> {
        if self.file.has_failed() {
            return Err(RecorderError::Poisoned);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut frame = self.shared.pool.take();
        let outcome = self.flush_into(&mut frame);
        self.shared.pool.give(frame);
        outcome
    }

    /// `frame` may hold bytes that go in front.
    fn flush_into(&mut self, frame: &mut Vec<u8>) -> Result<(), RecorderError> {
        let Some(writer) = &mut self.writer else { return Err(RecorderError::Poisoned) };
        let outcome = if writer.append(false, now_us(), self.pending.payload(), frame).is_ok() {
            self.file.write(frame)
        } else {
            // longer than a frame may be: no message of a session that was relayed is
            self.file.fail();
            Err(RecorderError::Poisoned)
        };
        self.pending.clear(&self.shared.pool);
        self.grown.notify_waiters();
        self.shared.wrote(&outcome);
        if outcome.is_ok() && self.file.soil() {
            self.shared.dirty.add(&self.file);
        }
        outcome
    }

    fn end(&mut self, reason: &str, end: End) {
        if self.writer.is_none() {
            return;
        }
        let closed = record::Closed {
            reason: reason.to_owned(),
            operations: self.operations,
            bytes_to_client: self.to_client,
            bytes_to_target: self.to_target,
        };
        self.entry(Entry::Closed(closed));
        let flushed = self.flush();
        let Some(writer) = self.writer.take() else { return };
        let end = if flushed.is_ok() { end } else { End::Failed };
        let mut frame = Vec::new();
        let frames = writer.frames();
        let root = writer.seal(end, now_us(), &mut frame);
        let sealed =
            if self.file.has_failed() { Err(RecorderError::Poisoned) } else { self.file.write(&frame) };
        // behind the seal, so that who finds it gone finds everything
        self.shared.live.lock().remove(&self.id);
        self.grown.notify_waiters();
        let mut summary = self.summary.lock();
        summary.ended_us = now_us();
        reason.clone_into(&mut summary.end_reason);
        summary.state = if sealed.is_ok() { "sealed" } else { "broken" }.to_owned();
        let noted = sealed.and_then(|()| {
            self.shared.dirty.add(&self.file);
            let record = Record::Sealed(end, root, frames + 1);
            self.shared.ledger.lock().note(*self.id.as_bytes(), record)?;
            self.shared.index.add(&summary)
        });
        if let Err(error) = noted {
            tracing::error!(%error, session = %self.id, "a recording could not be sealed; the next start will do it");
        }
    }
}

#[cfg(test)]
impl SessionRecording {
    pub(super) fn fail_for_test(&self) {
        self.file.fail();
    }
}

impl Drop for SessionRecording {
    fn drop(&mut self) {
        self.end("the session was given up", End::Dropped);
    }
}

pub(super) fn summary(id: &Uuid, opened: &record::Opened, started_us: i64) -> SessionSummary {
    SessionSummary {
        id: id.to_string(),
        principal: opened.principal.clone(),
        origin: opened.origin.clone(),
        exe: opened.lineage.first().map(|p| p.exe.clone()).unwrap_or_default(),
        target: opened.target.clone(),
        // what a protocol has in its place: the account at the target
        database: ["database", "account"]
            .iter()
            .find_map(|name| opened.attributes.get(*name))
            .cloned()
            .unwrap_or_default(),
        started_us,
        ended_us: 0,
        operations: 0,
        refused: 0,
        state: "live".to_owned(),
        end_reason: String::new(),
        protocol: opened.protocol.clone(),
        moderation: String::new(),
    }
}
