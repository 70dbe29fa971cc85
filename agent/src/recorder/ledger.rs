//! The ledger file: which sessions were opened, and with which root each ended.
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_evidence::ledger::Record;
use sluice_evidence::{FileKind, Root, SigningKey, Writer, recover};
use uuid::Uuid;

use super::error::RecorderError;
use super::spool::now_us;

pub(super) struct LedgerFile {
    file: File,
    path: PathBuf,
    writer: Writer,
    frame: Vec<u8>,
}

impl LedgerFile {
    /// Goes on with the file, cut to its last whole frame, or begins it. A ledger that contradicts itself is put
    /// aside and a new one begun: the sessions of the old one are then unlisted, which verification tells.
    pub(super) fn open(path: &Path, key: &Arc<SigningKey>) -> Result<Self, RecorderError> {
        let fault = |act| RecorderError::io(act, path);
        let known = match File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(fault("open")(e)),
            // begun, and the machine stopped before its header was there
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() == 0) => None,
            Ok(file) => match recover(BufReader::new(file), std::slice::from_ref(key.public())) {
                Ok(report) => Some(report),
                Err(broken) => {
                    let aside = path.with_extension(format!("broken-{}", now_us()));
                    tracing::error!(%broken, aside = %aside.display(), "the ledger of recordings was changed; it is put aside");
                    std::fs::rename(path, &aside).map_err(fault("put aside"))?;
                    None
                }
            },
        };
        let file =
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(fault("open"))?;
        let mut frame = Vec::new();
        let writer = match &known {
            Some(report) => {
                file.set_len(report.bytes).map_err(fault("cut"))?;
                Writer::resume(report, Arc::clone(key))
            }
            None => {
                let id = *Uuid::now_v7().as_bytes();
                let writer = Writer::begin(FileKind::Ledger, id, now_us(), Arc::clone(key), &mut frame);
                (&file).write_all(&frame).map_err(fault("write to"))?;
                frame.clear();
                writer
            }
        };
        Ok(Self { file, path: path.to_owned(), writer, frame })
    }

    /// How long it is, and the chain behind its last frame: what a report of this host can be held against.
    pub(super) fn standing(&self) -> (u64, Root) {
        (self.writer.frames(), self.writer.root())
    }

    /// Adds a signed record.
    pub(super) fn note(&mut self, session: [u8; 16], record: Record) -> Result<(), RecorderError> {
        let now = now_us();
        // a record is far below the limit of a frame
        let _ = self.writer.append(false, now, &record.encode(&session), &mut self.frame);
        self.writer.checkpoint(now, &mut self.frame);
        let outcome = self.file.write_all(&self.frame).map_err(RecorderError::io("write to", &self.path));
        self.frame.clear();
        outcome
    }
}
