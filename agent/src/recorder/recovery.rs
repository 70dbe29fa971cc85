//! What a crash left: closed with a declared, signed gap; what somebody changed: reported and left alone.
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use sluice_api::record::{self, entry::Entry};
use sluice_evidence::ledger::{Ledger, Record};
use sluice_evidence::{End, Report, Writer, recover};
use uuid::Uuid;

use super::error::RecorderError;
use super::replay::Entries;
use super::session::summary;
use super::shared::Shared;
use super::spool::{self, now_us};

/// What the start found about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Its writer died; so many bytes behind the last whole frame were thrown away.
    Recovered(Uuid, u64),
    /// The file contradicts itself; the text says where.
    Broken(Uuid, String),
    /// The ledger knows it and there is no file.
    Missing(Uuid),
}

pub(super) fn run(shared: &Arc<Shared>) -> Result<Vec<Finding>, RecorderError> {
    let keys = std::slice::from_ref(shared.key.public());
    let path = shared.dir.join("ledger.slr");
    let mut ledger = Ledger::default();
    // a ledger without a header yet says nothing; one that was changed has been put aside before
    if let Ok(bytes) = std::fs::read(&path) {
        let _ = ledger.add(|| bytes.as_slice(), keys);
    }
    let mut findings = Vec::new();
    let files = spool::files(&shared.dir)?;
    for (id, path) in &files {
        let known = ledger.get(id.as_bytes());
        if matches!(known, Some(Record::Sealed(..) | Record::FoundBroken)) {
            continue;
        }
        findings.extend(one(shared, id, path)?);
    }
    for (bytes, record) in ledger.sessions() {
        let id = Uuid::from_bytes(*bytes);
        if !matches!(record, Record::FoundMissing) && !files.iter().any(|(file, _)| *file == id) {
            shared.ledger.lock().note(*bytes, Record::FoundMissing)?;
            findings.push(Finding::Missing(id));
        }
    }
    Ok(findings)
}

fn one(shared: &Arc<Shared>, id: &Uuid, path: &Path) -> Result<Option<Finding>, RecorderError> {
    let fault = |act| RecorderError::io(act, path);
    let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(fault("open"))?;
    if file.try_lock().is_err() {
        // a proxy that finishes its sessions still writes it
        return Ok(None);
    }
    let keys = std::slice::from_ref(shared.key.public());
    let report = recover(BufReader::new(File::open(path).map_err(fault("open"))?), keys)
        .and_then(|report| report.expect_session(id.as_bytes()).map(|()| report));
    let report = match report {
        Ok(report) => report,
        Err(broken) => {
            shared.ledger.lock().note(*id.as_bytes(), Record::FoundBroken)?;
            return Ok(Some(Finding::Broken(*id, broken.to_string())));
        }
    };
    if report.is_sealed() {
        // it died between the seal and the ledger
        let record = Record::Sealed(end_of(&report), report.root, report.frames);
        shared.ledger.lock().note(*id.as_bytes(), record)?;
        return Ok(None);
    }
    let torn = report.torn_bytes();
    file.set_len(report.bytes).map_err(fault("cut"))?;
    let mut out = Vec::new();
    let mut writer = Writer::resume(&report, Arc::clone(&shared.key));
    let gap =
        record::Gap { bytes_discarded: torn, reason: "the proxy ended without closing the session".into() };
    let entry = record::Entry { time_us: now_us(), entry: Some(Entry::Gap(gap)) };
    // a gap is far below the limit of a frame
    let _ = writer.append(true, now_us(), &entry.encode_length_delimited_to_vec(), &mut out);
    let frames = writer.frames() + 1;
    let root = writer.seal(End::Recovered, now_us(), &mut out);
    file.write_all(&out).map_err(fault("write to"))?;
    file.sync_data().map_err(fault("sync"))?;
    shared.ledger.lock().note(*id.as_bytes(), Record::Sealed(End::Recovered, root, frames))?;
    list(shared, id, path, &report)?;
    Ok(Some(Finding::Recovered(*id, torn)))
}

fn end_of(report: &Report) -> End {
    match report.state {
        sluice_evidence::State::Sealed(end) => end,
        sluice_evidence::State::Live { .. } => End::Recovered,
    }
}

/// A line in the index, from what the recording says.
fn list(shared: &Shared, id: &Uuid, path: &Path, report: &Report) -> Result<(), RecorderError> {
    let mut found = None;
    for entry in Entries::open(path, id)?.flatten() {
        match (entry.entry, &mut found) {
            (Some(Entry::Opened(opened)), _) => found = Some(summary(id, &opened, report.header.time_us)),
            (Some(Entry::Operation(operation)), Some(summary)) => {
                summary.operations += 1;
                summary.refused += u64::from(operation.verdict == "refuse");
            }
            _ => {}
        }
    }
    let Some(mut summary) = found else { return Ok(()) };
    summary.ended_us = report.last_us;
    summary.state = "recovered".to_owned();
    summary.end_reason = "the proxy ended without closing the session".to_owned();
    shared.index.add(&summary)
}
