//! Files of recordings.
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use time::OffsetDateTime;
use uuid::Uuid;

use super::error::RecorderError;

/// A file that one session writes and the syncing thread syncs.
pub(super) struct SpoolFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Something was written since the syncing thread last took it up.
    dirty: AtomicBool,
    failed: AtomicBool,
}

impl SpoolFile {
    /// A new file, locked, for this process alone to write.
    pub(super) fn create(dir: &Path, id: &Uuid) -> Result<Self, RecorderError> {
        let path = path_of(dir, id);
        let create = || OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path);
        let file = match create() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let day = path.parent().unwrap_or(dir);
                make_dir(day)?;
                create()
            }
            other => other,
        }
        .map_err(RecorderError::io("create", &path))?;
        file.try_lock().map_err(std::io::Error::from).map_err(RecorderError::io("lock", &path))?;
        Ok(Self { file, path, dirty: AtomicBool::new(false), failed: AtomicBool::new(false) })
    }

    /// One write(2). A file system that takes less than everything has no room for the rest.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), RecorderError> {
        let result = loop {
            match (&self.file).write(bytes) {
                Ok(n) if n == bytes.len() => {
                    crate::metrics::RECORDED.add(n as u64);
                    break Ok(());
                }
                Ok(_) => break Err(ErrorKind::StorageFull.into()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        result.map_err(|e| {
            self.fail();
            RecorderError::io("write to", &self.path)(e)
        })
    }

    pub(super) fn sync(&self) -> Result<(), RecorderError> {
        let began = Instant::now();
        let outcome = self.file.sync_data();
        crate::metrics::SYNC.took(began.elapsed());
        outcome.map_err(|e| {
            self.fail();
            RecorderError::io("sync", &self.path)(e)
        })
    }

    /// No commit succeeds any more.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// True when it was clean, and so has to be given to the syncing thread.
    pub(super) fn soil(&self) -> bool {
        !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Called before a sync: a write that comes during it soils again.
    pub(super) fn clean(&self) {
        self.dirty.store(false, Ordering::Release);
    }
}

/// `dir/YYYY-MM-DD/ID.slr`; the day is in the id, so that no index is needed to find a file.
pub(super) fn path_of(dir: &Path, id: &Uuid) -> PathBuf {
    let seconds = id.get_timestamp().map_or(0, |t| t.to_unix().0);
    let day = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap_or(0))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .date();
    let (year, month, day) = day.to_calendar_date();
    dir.join(format!("{year:04}-{:02}-{day:02}", u8::from(month))).join(format!("{id}.slr"))
}

pub(super) fn make_dir(path: &Path) -> Result<(), RecorderError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(RecorderError::io("create", path))
}

/// All recordings under `dir`, oldest day first; ids from the files' names.
pub(super) fn files(dir: &Path) -> Result<Vec<(Uuid, PathBuf)>, RecorderError> {
    let mut found = Vec::new();
    for day in std::fs::read_dir(dir).map_err(RecorderError::io("list", dir))? {
        let day = day.map_err(RecorderError::io("list", dir))?.path();
        if !day.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&day).map_err(RecorderError::io("list", &day))? {
            let path = file.map_err(RecorderError::io("list", &day))?.path();
            let id = path.file_stem().and_then(|s| s.to_str()).and_then(|s| Uuid::parse_str(s).ok());
            if let Some(id) = id.filter(|_| path.extension().is_some_and(|e| e == "slr")) {
                found.push((id, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Microseconds since 1970.
pub(super) fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
