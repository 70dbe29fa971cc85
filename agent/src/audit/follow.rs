//! Reading events back: those that are kept, then those that come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::Value;
use tokio::sync::watch;

use super::KEPT;

/// A reader of events, oldest first.
pub struct Follower {
    dir: PathBuf,
    written: watch::Receiver<u64>,
    files: VecDeque<BufReader<File>>,
    started: bool,
    inode: u64,
    since_us: i64,
    class: String,
    go_on: bool,
    partial: Vec<u8>,
}

impl Follower {
    pub(super) fn new(
        dir: PathBuf,
        written: watch::Receiver<u64>,
        since_us: i64,
        class: &str,
        go_on: bool,
    ) -> Self {
        Self {
            dir,
            written,
            files: VecDeque::new(),
            started: false,
            inode: 0,
            since_us,
            class: class.to_owned(),
            go_on,
            partial: Vec::new(),
        }
    }

    /// The next event as it stands in the file; `None` after the last one that is kept, unless it goes on. Cancel
    /// safe.
    ///
    /// # Errors
    /// The files can't be read.
    pub async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            // marked before the look, so that what is written in between wakes the wait
            self.written.mark_unchanged();
            if let Some(line) = self.kept()? {
                return Ok(Some(line));
            }
            if !self.go_on || self.written.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    fn kept(&mut self) -> io::Result<Option<String>> {
        if !self.started {
            self.started = true;
            for n in (1..=KEPT).rev() {
                self.open(self.dir.join(format!("events.{n}.jsonl")))?;
            }
            self.open(self.dir.join("events.jsonl"))?;
        }
        loop {
            while let Some(file) = self.files.front_mut() {
                if file.read_until(b'\n', &mut self.partial)? == 0 || !self.partial.ends_with(b"\n") {
                    if self.files.len() == 1 {
                        break;
                    }
                    self.partial.clear();
                    self.files.pop_front();
                    continue;
                }
                let line = std::mem::take(&mut self.partial);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                if self.wanted(line) {
                    return Ok(Some(String::from_utf8_lossy(line).into_owned()));
                }
            }
            // put aside meanwhile? then the new file goes on
            let path = self.dir.join("events.jsonl");
            let renewed = std::fs::metadata(&path).is_ok_and(|m| m.ino() != self.inode);
            if !renewed {
                return Ok(None);
            }
            self.open(path)?;
        }
    }

    fn open(&mut self, path: PathBuf) -> io::Result<()> {
        match File::open(path) {
            Ok(file) => {
                self.inode = file.metadata()?.ino();
                self.files.push_back(BufReader::new(file));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, line: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return false };
        let time = event.get("time").and_then(Value::as_i64).unwrap_or(0);
        let class = event.get("class").and_then(Value::as_str).unwrap_or("");
        time >= self.since_us && (self.class.is_empty() || self.class == class)
    }
}
