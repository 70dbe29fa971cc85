//! Verification of files and of a whole directory, by public keys alone: no recorder is needed for it.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use sluice_evidence::ledger::{Ledger, Standing};
use sluice_evidence::{Accept, Broken, PublicKey, Report, verify};
use uuid::Uuid;

use super::error::RecorderError;
use super::spool;

/// What a directory of recordings proves.
#[derive(Debug)]
pub struct DirectoryReport {
    /// The ledger itself: sound, or where it is not.
    pub ledger: Result<Report, Broken>,
    /// Each session that a file or the ledger speaks of.
    pub sessions: BTreeMap<Uuid, Standing>,
}

/// Checks one recording.
///
/// # Errors
/// [`RecorderError`] when the file can't be read or does not prove what it says.
pub fn verify_file(path: &Path, keys: &[PublicKey], accept: Accept) -> Result<Report, RecorderError> {
    let file = File::open(path).map_err(RecorderError::io("open", path))?;
    verify(BufReader::new(file), keys, accept).map_err(RecorderError::Broken)
}

/// Checks everything under a recordings directory, removed recordings included.
///
/// # Errors
/// [`RecorderError`] when the directory can't be read.
pub fn verify_directory(dir: &Path, keys: &[PublicKey]) -> Result<DirectoryReport, RecorderError> {
    let path = dir.join("ledger.slr");
    let bytes = std::fs::read(&path).map_err(RecorderError::io("read", &path))?;
    let mut ledger = Ledger::default();
    let known = ledger.add(|| bytes.as_slice(), keys);
    let mut sessions = BTreeMap::new();
    for (id, path) in spool::files(dir)? {
        let file = File::open(&path).map_err(RecorderError::io("open", &path))?;
        let report = verify(BufReader::new(file), keys, Accept::Live);
        sessions.insert(id, ledger.standing(id.as_bytes(), Some(report)));
    }
    for (bytes, _) in ledger.sessions() {
        let id = Uuid::from_bytes(*bytes);
        sessions.entry(id).or_insert_with(|| ledger.standing(bytes, None));
    }
    Ok(DirectoryReport { ledger: known, sessions })
}
