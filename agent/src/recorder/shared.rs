//! What all recordings of this host share.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::Mutex;
use sluice_api::admin::SessionSummary;
use sluice_config::Recording;
use sluice_evidence::SigningKey;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::error::RecorderError;
use super::index::Index;
use super::ledger::LedgerFile;
use super::pending::Pool;
use super::spool;
use super::sync::Dirty;

/// Free space is looked up no more often than this.
const SPACE_AGE: Duration = Duration::from_secs(1);

/// How recording goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why writing fails, until it works again.
    pub failed: Option<String>,
    /// Free bytes of the file system.
    pub free: u64,
    /// `min_free` of the configuration.
    pub wanted: u64,
    /// Sessions that are being recorded.
    pub live: usize,
}

/// A session that is being recorded.
pub(super) struct Live {
    pub(super) summary: Arc<Mutex<SessionSummary>>,
    /// Told after each frame, and at the end.
    pub(super) grown: Arc<Notify>,
}

pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) key: Arc<SigningKey>,
    pub(super) settings: ArcSwap<Recording>,
    pub(super) pool: Pool,
    pub(super) dirty: Dirty,
    pub(super) failure: watch::Sender<Option<String>>,
    pub(super) live: Mutex<HashMap<Uuid, Live>>,
    pub(super) ledger: Mutex<LedgerFile>,
    pub(super) index: Index,
    space: Mutex<Option<(Instant, u64)>>,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        key: Arc<SigningKey>,
        settings: &Recording,
    ) -> Result<Self, RecorderError> {
        spool::make_dir(&dir)?;
        let ledger = LedgerFile::open(&dir.join("ledger.slr"), &key)?;
        let index = Index::open(&dir.join("index.jsonl"))?;
        Ok(Self {
            dir,
            key,
            settings: ArcSwap::from_pointee(settings.clone()),
            pool: Pool::default(),
            dirty: Dirty::default(),
            failure: watch::channel(None).0,
            live: Mutex::default(),
            ledger: Mutex::new(ledger),
            index,
            space: Mutex::default(),
        })
    }

    pub(super) fn health(&self) -> Health {
        Health {
            failed: self.failure.borrow().clone(),
            free: self.free().unwrap_or(0),
            wanted: self.settings.load().min_free,
            live: self.live.lock().len(),
        }
    }

    /// May another session be recorded?
    pub(super) fn admit(&self) -> Result<(), RecorderError> {
        let (free, wanted) = (self.free()?, self.settings.load().min_free);
        if free < wanted {
            return Err(RecorderError::NoSpace { free, wanted });
        }
        Ok(())
    }

    /// Remembers how the last write went; those who watch hear of a change.
    pub(super) fn wrote(&self, outcome: &Result<(), RecorderError>) {
        self.note(outcome.as_ref().err().map(describe));
    }

    /// Remembers that something failed before there was a file to write to.
    pub(super) fn failed(&self, error: &RecorderError) {
        self.note(Some(describe(error)));
    }

    fn note(&self, now: Option<String>) {
        // the usual case by far, without taking the channel's write lock
        if now.is_none() && self.failure.borrow().is_none() {
            return;
        }
        self.failure.send_if_modified(|failed| {
            let changed = *failed != now;
            if changed {
                failed.clone_from(&now);
            }
            changed
        });
    }

    fn free(&self) -> Result<u64, RecorderError> {
        let mut space = self.space.lock();
        if let Some((at, free)) = *space
            && at.elapsed() < SPACE_AGE
        {
            return Ok(free);
        }
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(std::io::Error::from)
            .map_err(RecorderError::io("look up the free space of", &self.dir))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        *space = Some((Instant::now(), free));
        Ok(free)
    }
}

fn describe(error: &RecorderError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
