use std::path::{Path, PathBuf};

use sluice_evidence::{Broken, InvalidKey};
use uuid::Uuid;

/// Why a session can't be recorded, or a recording not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file system has less room than configured. Ours to mend.
    #[error("recording is not possible: {free} bytes are free, {wanted} are needed")]
    NoSpace {
        /// Bytes.
        free: u64,
        /// `min_free` of the configuration, bytes.
        wanted: u64,
    },
    /// Writing failed not long ago and has not worked since.
    #[error("recording is not possible: {0}")]
    Failed(String),
    /// This recording failed before; its session has to end.
    #[error("the recording of this session has failed; it can't go on unrecorded")]
    Poisoned,
    /// A system call on a file failed.
    #[error("failed to {act} `{}`", path.display())]
    Io {
        /// What was tried, in words that go before a path.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The signing key is unusable.
    #[error("failed to use the key `{}`", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// The runtime is going down.
    #[error("the proxy is stopping")]
    Stopping,
    /// No such recording.
    #[error("there is no recording of session {0}")]
    NotFound(Uuid),
    /// The file does not prove what it says.
    #[error("the recording is broken: {0}")]
    Broken(Broken),
    /// A frame is whole and yet holds something else than entries.
    #[error("frame {0} holds no entries of this version")]
    Entry(u64),
}

impl RecorderError {
    /// For `map_err`.
    pub(super) fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { act, path: path.to_owned(), source }
    }
}
