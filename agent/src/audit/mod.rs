//! Audit events: what happened, one JSON object a line in `log_dir/events.jsonl`.
//!
//! Must hold: an event is in the file (one write(2) of the whole line) before the call returns, and the caller of a
//! security decision goes on only then; nothing is dropped, and a number a line shows if something was taken away.
//! Audit never travels by tracing. The file is synced within a second by [`Audit::sync_forever`]; a crash of the
//! process loses nothing, a crash of the machine at most that second.

mod events;
mod follow;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::metrics::Counts;

pub use events::*;
pub use follow::Follower;

/// A file is put aside when it has grown to this.
const MAX_FILE: u64 = 64 << 20;
/// Files that are kept aside: `events.1.jsonl` is the youngest.
const KEPT: u32 = 10;

/// What happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub(crate) class: &'static str,
    pub(crate) activity: String,
    pub(crate) severity: &'static str,
    pub(crate) fields: Map<String, Value>,
}

/// Why an event is not on record.
#[derive(Debug, thiserror::Error)]
#[error("the audit event could not be written to {path}")]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

struct Open {
    file: File,
    bytes: u64,
    sequence: u64,
    line: Vec<u8>,
    broken: Option<String>,
    dirty: bool,
    counts: Counts,
}

/// The events of this host. One a process.
pub struct Audit {
    dir: PathBuf,
    open: Mutex<Open>,
    written: watch::Sender<u64>,
}

impl Audit {
    /// Opens the file and goes on with its numbers.
    ///
    /// # Errors
    /// The directory or the file can't be used.
    pub fn start(dir: &Path) -> Result<Arc<Self>, AuditError> {
        let path = dir.join("events.jsonl");
        let fault = |source| AuditError { path: path.clone(), source };
        let mut file = append(&path).map_err(fault)?;
        let bytes = file.metadata().map_err(fault)?.len();
        let sequence = last_sequence(&path).map_err(fault)?;
        // a line that a crash has cut must not swallow the next one
        if bytes > 0 && !ends_with_newline(&path).map_err(fault)? {
            file.write_all(b"\n").map_err(fault)?;
        }
        let (written, _) = watch::channel(sequence);
        let open = Open {
            file,
            bytes,
            sequence,
            line: Vec::new(),
            broken: None,
            dirty: false,
            counts: Counts::new(),
        };
        Ok(Arc::new(Self { dir: dir.to_owned(), open: Mutex::new(open), written }))
    }

    /// Writes the event; it is in the file when this returns.
    ///
    /// # Errors
    /// The file can't be written: whoever asked for a decision gets none.
    pub fn record_now(&self, event: &Event) -> Result<(), AuditError> {
        let mut open = self.open.lock();
        let open = &mut *open;
        let outcome = self.write(open, event);
        open.broken = outcome.as_ref().err().map(ToString::to_string);
        outcome.map_err(|source| AuditError { path: self.path(), source })?;
        *open.counts.entry((event.class, event.activity.clone(), action(event))).or_default() += 1;
        self.written.send_replace(open.sequence);
        Ok(())
    }

    /// Everything that was written is on the disk when this returns.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn sync_now(&self) -> Result<(), AuditError> {
        let file = self.open.lock().file.try_clone();
        file.and_then(|file| file.sync_data()).map_err(|source| AuditError { path: self.path(), source })
    }

    /// How many of each kind since this process started.
    pub(crate) fn counts(&self) -> Counts {
        self.open.lock().counts.clone()
    }

    /// The last failure, until a write succeeds again.
    pub fn health(&self) -> Result<(), String> {
        self.open.lock().broken.clone().map_or(Ok(()), Err)
    }

    /// Events since a time (microseconds since 1970), then, if wanted, as they happen.
    pub fn follow(&self, since_us: i64, class: &str, go_on: bool) -> Follower {
        Follower::new(self.dir.clone(), self.written.subscribe(), since_us, class, go_on)
    }

    /// Syncs the file to disk every second while there is something to sync.
    pub async fn sync_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let file = {
                let mut open = self.open.lock();
                if !std::mem::take(&mut open.dirty) {
                    continue;
                }
                open.file.try_clone()
            };
            let synced = tokio::task::spawn_blocking(move || file.and_then(|f| f.sync_data())).await;
            if !matches!(synced, Ok(Ok(()))) {
                tracing::error!("the audit events could not be synced to disk");
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }

    fn write(&self, open: &mut Open, event: &Event) -> io::Result<()> {
        if open.bytes >= MAX_FILE {
            self.rotate(open)?;
        }
        let mut object = Map::new();
        object.insert("seq".into(), (open.sequence + 1).into());
        object.insert("time".into(), crate::gate::now_us().into());
        object.insert("class".into(), event.class.into());
        object.insert("activity".into(), event.activity.as_str().into());
        object.insert("severity".into(), event.severity.into());
        object.extend(event.fields.clone());
        open.line.clear();
        escaped(&Value::Object(object).to_string(), &mut open.line);
        open.line.push(b'\n');
        match open.file.write_all(&open.line) {
            Ok(()) => {
                open.bytes += open.line.len() as u64;
                open.sequence += 1;
                open.dirty = true;
                Ok(())
            }
            Err(error) => {
                // half a line is worse than none
                let _ = open.file.set_len(open.bytes);
                Err(error)
            }
        }
    }

    fn rotate(&self, open: &mut Open) -> io::Result<()> {
        open.file.sync_data()?;
        let aside = |n: u32| self.dir.join(format!("events.{n}.jsonl"));
        for n in (1..KEPT).rev() {
            match std::fs::rename(aside(n), aside(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        std::fs::rename(self.path(), aside(1))?;
        open.file = append(&self.path())?;
        open.bytes = 0;
        Ok(())
    }
}

/// The action that was refused, as the schema names it; empty for other events.
fn action(event: &Event) -> String {
    let named = event.fields.get("action").filter(|_| event.class == "decision");
    named.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The number of the last whole line; 0 for an empty file.
fn last_sequence(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // an event is far shorter than this
    file.seek(SeekFrom::Start(length.saturating_sub(256 << 10)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let number = |line: &[u8]| serde_json::from_slice::<Value>(line).ok()?.get("seq")?.as_u64();
    Ok(tail.rsplit(|b| *b == b'\n').find_map(number).unwrap_or(0))
}

/// JSON escapes control characters below U+0020; those of C1 and the ones that turn the writing direction would
/// still attack the terminal of whoever reads the file.
fn escaped(json: &str, out: &mut Vec<u8>) {
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let mut fields = Map::new();
        fields.insert("text".into(), text.into());
        Event { class: "decision", activity: "refused".into(), severity: "notice", fields }
    }

    #[test]
    fn numbers_go_on_and_a_cut_line_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start(dir.path()).unwrap();
        audit.record_now(&event("one")).unwrap();
        drop(audit);
        let path = dir.path().join("events.jsonl");
        append(&path).unwrap().write_all(b"{\"seq\":2,\"ti").unwrap();
        let audit = Audit::start(dir.path()).unwrap();
        audit.record_now(&event("\u{9b}2J\u{202e}\n")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.lines().last().unwrap();
        assert!(last.contains("\"seq\":2") && last.contains(r"\u009b2J\u202e\n"), "{last}");
        assert_eq!(serde_json::from_str::<Value>(last).unwrap()["text"], "\u{9b}2J\u{202e}\n");
    }

    #[tokio::test]
    async fn followers_get_what_was_and_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::start(dir.path()).unwrap();
        audit.record_now(&event("one")).unwrap();
        let mut follower = audit.follow(0, "decision", true);
        assert!(follower.next().await.unwrap().unwrap().contains("one"));
        let waiting = tokio::spawn(async move { follower.next().await });
        tokio::task::yield_now().await;
        audit.record_now(&event("two")).unwrap();
        assert!(waiting.await.unwrap().unwrap().unwrap().contains("two"));
        let mut other = audit.follow(0, "login", false);
        assert!(other.next().await.unwrap().is_none());
    }
}
