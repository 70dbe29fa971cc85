//! A line a finished session, so that listing does not read recordings. No evidence: `sluice verify` does not ask it.
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sluice_api::admin::SessionSummary;

use super::error::RecorderError;
use super::shared::Shared;

/// Which sessions.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this person, by subject or name; empty: of anybody.
    pub subject: String,
    /// To this target; empty: to any.
    pub target: String,
    /// Only those that are open.
    pub live_only: bool,
    /// At most so many; 0: all.
    pub limit: usize,
}

pub(super) struct Index {
    file: File,
    path: PathBuf,
}

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self, RecorderError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(RecorderError::io("open", path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(super) fn add(&self, summary: &SessionSummary) -> Result<(), RecorderError> {
        let mut line = serde_json::to_vec(summary)
            .map_err(std::io::Error::other)
            .map_err(RecorderError::io("write to", &self.path))?;
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(RecorderError::io("write to", &self.path))
    }
}

pub(super) fn list(shared: &Shared, filter: &Filter) -> Result<Vec<SessionSummary>, RecorderError> {
    let mut found: Vec<SessionSummary> =
        shared.live.lock().values().map(|s| s.summary.lock().clone()).collect();
    if !filter.live_only {
        let path = &shared.index.path;
        let file = File::open(path).map_err(RecorderError::io("open", path))?;
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(RecorderError::io("read", path))?;
            // a line that a crash has cut is no session; the recording itself is where it was
            found.extend(serde_json::from_slice::<SessionSummary>(&line).ok());
        }
    }
    found.retain(|s| filter.takes(s));
    found.sort_by_key(|s| std::cmp::Reverse(s.started_us));
    if filter.limit > 0 {
        found.truncate(filter.limit);
    }
    Ok(found)
}

impl Filter {
    fn takes(&self, session: &SessionSummary) -> bool {
        let person = session.principal.as_ref();
        let his = self.subject.is_empty()
            || person.is_some_and(|p| p.subject == self.subject || p.name == self.subject);
        his && (self.target.is_empty() || session.target == self.target)
    }
}
