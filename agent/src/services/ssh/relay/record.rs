//! The recording of a session, shared by its channels.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use sluice_api::record;
use sluice_api::record::entry::Entry;
use tokio::sync::Mutex;

use crate::recorder::{Recorded, RecorderError, Released, SessionRecording};

/// One a session. Entries of its channels stand in it in the order in which they happened.
pub(super) struct Tape {
    recording: Mutex<Option<SessionRecording>>,
    operations: AtomicU64,
    transfers: AtomicU64,
}

impl Tape {
    pub(super) fn new(recording: SessionRecording) -> Self {
        Self {
            recording: Mutex::new(Some(recording)),
            operations: AtomicU64::new(1),
            transfers: AtomicU64::new(1),
        }
    }

    /// The number of the next operation.
    pub(super) fn operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of the next transfer whose content is kept.
    pub(super) fn transfer(&self) -> u64 {
        self.transfers.fetch_add(1, Ordering::Relaxed)
    }

    /// Something that happened; it is written with what passes next.
    pub(super) async fn note(&self, note: impl FnOnce(&mut SessionRecording)) {
        if let Some(recording) = self.recording.lock().await.as_mut() {
            note(recording);
        }
    }

    /// The same for an entry.
    pub(super) async fn entry(&self, entry: Entry) {
        self.note(|recording| recording.entry(entry)).await;
    }

    /// Notes what passes and writes it; only then it is given out.
    ///
    /// # Errors
    /// In words: the session has to end.
    pub(super) async fn pass<'b>(
        &self,
        note: impl FnOnce(&mut SessionRecording),
        out: Released<'b>,
        strict: bool,
    ) -> Result<Recorded<'b>, String> {
        let mut recording = self.recording.lock().await;
        let recording = recording.as_mut().ok_or("the session has ended")?;
        note(recording);
        let recorded = if strict { recording.commit_strict(out).await } else { recording.commit(out) };
        recorded.map_err(|error| words(&error))
    }

    /// Something that Sluice tells the person.
    pub(super) async fn said(&self, operation: u64, severity: &str, lines: &[String]) {
        let message = record::Message {
            severity: severity.to_owned(),
            text: lines.join("\n"),
            from_sluice: true,
            operation,
        };
        self.entry(Entry::Message(message)).await;
    }

    /// Ends the recording with a seal.
    pub(super) async fn close(&self, reason: &str) {
        if let Some(recording) = self.recording.lock().await.take() {
            recording.close(reason);
        }
    }
}

fn words(error: &RecorderError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The way to a client's channel: bytes of the target go through here alone, and only once they are on record.
#[derive(Clone)]
pub(super) struct ClientWriter(Arc<ChannelWriteHalf<Msg>>);

impl ClientWriter {
    pub(super) fn new(half: ChannelWriteHalf<Msg>) -> Self {
        Self(Arc::new(half))
    }

    /// Writes what was recorded of `bytes`; waits for the client's window. `false`: the client has gone.
    pub(super) async fn write(&self, bytes: &Bytes, recorded: Recorded<'_>, stderr: bool) -> bool {
        let out = bytes.slice_ref(recorded.bytes());
        let written = match stderr {
            false => self.0.data_bytes(out).await,
            true => self.0.extended_data_bytes(1, out).await,
        };
        written.is_ok()
    }

    /// For what carries no bytes of the target: the end, statuses, words of our own.
    pub(super) fn half(&self) -> &ChannelWriteHalf<Msg> {
        &self.0
    }
}
