//! `sluice replay --files`: content of transfers, written out again.
//!
//! Must hold: nothing is written but into the directory that was named, to files that were not there before, whatever
//! the recorded names are.
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sluice_api::record::entry::Entry;

use super::Failure;

/// Longest name that is made of a recorded one.
const MAX_NAME: usize = 100;

/// What has been written.
pub(super) struct Files {
    directory: PathBuf,
    begun: HashMap<u64, File>,
    written: Vec<PathBuf>,
}

impl Files {
    /// Into a directory, which is made where it is not there.
    pub(super) fn into(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
        Ok(Self { directory: directory.to_owned(), begun: HashMap::new(), written: Vec::new() })
    }

    /// Takes a piece of content, or the end of a file.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), Failure> {
        match entry {
            Entry::Content(content) => {
                let path = self.part(content.transfer);
                let file = match self.begun.entry(content.transfer) {
                    std::collections::hash_map::Entry::Occupied(begun) => begun.into_mut(),
                    std::collections::hash_map::Entry::Vacant(place) => {
                        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                        place.insert(new.map_err(|error| failed(&path, &error))?)
                    }
                };
                let written = file.seek(SeekFrom::Start(content.offset));
                written.and_then(|_| file.write_all(&content.bytes)).map_err(|error| failed(&path, &error))
            }
            Entry::File(file) if self.begun.remove(&file.transfer).is_some() => {
                let from = self.part(file.transfer);
                let to = self.directory.join(format!("{}-{}", file.transfer, plain(&file.path)));
                // a link and not a rename: what is there already stays
                fs::hard_link(&from, &to)
                    .and_then(|()| fs::remove_file(&from))
                    .map_err(|e| failed(&to, &e))?;
                self.written.push(to);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What there is now; files whose end is not on record keep their first name.
    pub(super) fn written(&self) -> &[PathBuf] {
        &self.written
    }

    fn part(&self, transfer: u64) -> PathBuf {
        self.directory.join(format!("{transfer}.part"))
    }
}

/// The last part of a recorded path, of harmless characters alone.
fn plain(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars().map(|c| if kept(c) { c } else { '_' }).take(MAX_NAME).collect()
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("failed to write `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::record;

    #[test]
    fn content_comes_back_and_no_name_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::into(directory.path()).ok().unwrap();
        for (offset, bytes) in [(2, "cd"), (0, "ab")] {
            let content = record::Content { transfer: 7, offset, bytes: bytes.into(), ..Default::default() };
            files.take(&Entry::Content(content)).ok().unwrap();
        }
        let end = record::File { transfer: 7, path: "/srv/..\u{1b}/a b".into(), ..Default::default() };
        files.take(&Entry::File(end)).ok().unwrap();
        let other = record::File { path: "/etc/passwd".into(), ..Default::default() };
        files.take(&Entry::File(other)).ok().unwrap();
        let there = directory.path().join("7-a_b");
        assert_eq!(fs::read(&there).unwrap(), b"abcd");
        assert_eq!(files.written(), [there]);
        assert_eq!(plain("../../.."), "..");
        let again = record::Content { transfer: 7, bytes: "x".into(), ..Default::default() };
        files.take(&Entry::Content(again)).ok().unwrap();
        let end = record::File { transfer: 7, path: "a b".into(), ..Default::default() };
        assert!(files.take(&Entry::File(end)).is_err(), "what was there stays");
    }
}
