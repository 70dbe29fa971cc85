//! Recordings of sessions: what passed is in a file before it goes on.
//!
//! In: entries and rows of a live session, and the bytes that are about to be forwarded ([`Released`]).
//! Out: the same bytes as [`Recorded`], the only thing that the writers of services take.
//!
//! What must hold:
//! * [`SessionRecording::commit`] gives the bytes out only after one write(2) took everything said so far. It is
//!   synchronous on purpose: a copy into the page cache, some microseconds, no task switch.
//! * A write that fails, or writes less than the whole, ends the recording: each later commit fails, and the service
//!   ends the session. No new session opens while the last write failed or the disk has less than `min_free`.
//! * Written is durable within 200 ms (one thread does fdatasync for all), with
//!   [`SessionRecording::commit_strict`] before the bytes are given out.
//! * A file that nobody holds and that has no seal is closed at the next start: cut to its last whole frame, a gap
//!   declared and signed. A file that contradicts itself is reported and left as it is.
//!
//! Under the state directory:
//!
//! | Path | What |
//! |---|---|
//! | `keys/recording.key` | Ed25519 in PKCS #8, 0600, made at the first start |
//! | `keys/recording.pub` | the public key, one line, `name+hash+data` as in C2SP's signed notes |
//! | `recordings/YYYY-MM-DD/ID.slr` | one a session; the day is that of the id (UUID v7), in UTC |
//! | `recordings/ledger.slr` | which sessions were opened and with which root they ended |
//! | `recordings/index.jsonl` | a line a finished session for `sluice sessions`; no evidence, can be made again |
//!
//! Files are locked (flock) by the process that writes them, so that a proxy which starts beside one that finishes
//! its sessions leaves those alone.
mod directory;
mod error;
mod index;
mod keys;
mod ledger;
mod limits;
mod pending;
mod recovery;
mod released;
mod replay;
mod session;
mod shared;
mod spool;
mod sync;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_api::admin::SessionSummary;
use sluice_api::record;
use sluice_config::Recording;
use sluice_evidence::PublicKey;
use tokio::sync::watch;
use uuid::Uuid;

pub use directory::{DirectoryReport, verify_directory, verify_file};
pub use error::RecorderError;
pub use index::Filter;
pub use keys::read_public_key;
pub use recovery::Finding;
pub use released::{Recorded, Released};
pub use replay::{Entries, Following, Rows, Value};
pub use session::SessionRecording;
pub use shared::Health;
use shared::Shared;

/// All recordings of this host. One a process.
pub struct Recorder {
    shared: Arc<Shared>,
    findings: Vec<Finding>,
    syncing: Option<std::thread::JoinHandle<()>>,
}

impl Recorder {
    /// Reads or makes the key, closes what a crash left, and starts the thread that syncs.
    ///
    /// # Errors
    /// [`RecorderError`] when the key or the directories can't be used. Recordings that were found changed are no
    /// error but [`Recorder::findings`].
    pub fn start(state_dir: &Path, settings: &Recording) -> Result<Arc<Self>, RecorderError> {
        let keys = keys::read_or_make(&state_dir.join("keys"))?;
        let shared = Arc::new(Shared::new(state_dir.join("recordings"), keys, settings)?);
        let findings = recovery::run(&shared)?;
        let syncing = sync::spawn(&shared)?;
        Ok(Arc::new(Self { shared, findings, syncing: Some(syncing) }))
    }

    /// Begins the recording of a session: file, header and `opened` are written when this returns. `session` of
    /// `opened` is set to the new id.
    ///
    /// # Errors
    /// [`RecorderError`]; the session must not go on then.
    pub fn open(&self, opened: record::Opened) -> Result<SessionRecording, RecorderError> {
        SessionRecording::open(&self.shared, opened)
    }

    /// Limits for sessions that are opened from now on.
    pub fn set(&self, settings: &Recording) {
        self.shared.settings.store(Arc::new(settings.clone()));
    }

    /// What the start found: sessions closed after a crash, files changed or missing. For the audit.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Sessions, the newest first: live ones from memory, finished ones from the index.
    ///
    /// # Errors
    /// [`RecorderError`] when the index can't be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<SessionSummary>, RecorderError> {
        index::list(&self.shared, filter)
    }

    /// Where a session's file is, whether it exists or not.
    pub fn path(&self, id: &Uuid) -> PathBuf {
        spool::path_of(&self.shared.dir, id)
    }

    /// Entries of a session, live or not, up to the last whole frame.
    ///
    /// # Errors
    /// [`RecorderError::NotFound`], or when the file can't be read or is none.
    pub fn read(&self, id: &Uuid) -> Result<Entries, RecorderError> {
        Entries::open(&self.path(id), id)
    }

    /// Entries of a live session as they come, from its first on.
    ///
    /// # Errors
    /// [`RecorderError::NotFound`] where this process does not record it now, or when the file can't be read.
    pub fn follow(&self, id: &Uuid) -> Result<Following, RecorderError> {
        Following::open(&self.shared, &self.path(id), id)
    }

    /// What is known of a live session.
    pub fn summary(&self, id: &Uuid) -> Option<SessionSummary> {
        self.shared.live.lock().get(id).map(|live| live.summary.lock().clone())
    }

    /// A text of Sluice's own with the signature of this host's key below it.
    pub fn sign_note(&self, text: &str) -> String {
        sluice_evidence::note::sign(text, &self.shared.key)
    }

    /// Frames of the ledger, and the chain behind the last.
    pub fn ledger(&self) -> (u64, sluice_evidence::Root) {
        self.shared.ledger.lock().standing()
    }

    /// The key that the seals of this host are verified by.
    pub fn public_key(&self) -> &PublicKey {
        self.shared.key.public()
    }

    /// How it goes: looks at the free space if that was not done within the last second.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Changes whenever writing begins to fail or works again.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.shared.failure.subscribe()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.dirty.stop();
        if let Some(thread) = self.syncing.take() {
            // it only ever ends by that word; a panic in it has nothing more to say here
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
