//! How much of a result may pass: `@limit`.
//!
//! A statement has one, and so has a cursor or portal that is read in pieces: all pieces together are one result. Must
//! hold: whatever way a result comes (rows, COPY, FETCH, an Execute with a row count, a row that goes through in
//! pieces), it is counted here before it goes on.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_policy::Limits;

use crate::gate::Permit;

/// What is left, and by which rule.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    rules: String,
    /// One session's task counts; shared by the pieces of a cursor.
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Budget {
    /// Of a permit; `None` where it limits nothing.
    pub(super) fn of(permit: &Permit) -> Option<Arc<Self>> {
        let limits = permit.obligations().limits;
        let limited = !limits.is_none();
        limited.then(|| {
            let rules = permit.rules().join(", ");
            Arc::new(Self { limits, rules, rows: AtomicU64::new(0), bytes: AtomicU64::new(0) })
        })
    }

    /// Takes a row of so many bytes; `false`: it may not pass, nor what follows.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_add(bytes as u64);
        let rows = self.rows.load(Ordering::Relaxed) + 1;
        let fits = |used: u64, most: Option<u64>| most.is_none_or(|most| used <= most);
        if !fits(rows, self.limits.rows) || !fits(bytes, self.limits.bytes) {
            return false;
        }
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        true
    }

    /// When a statement that began then has to end.
    pub(super) fn deadline(&self, started: Instant) -> Option<Instant> {
        self.limits.seconds.and_then(|seconds| started.checked_add(Duration::from_secs(seconds)))
    }

    /// What the person is told.
    pub(super) fn words(&self) -> String {
        let Limits { rows, bytes, seconds, .. } = self.limits;
        let parts = [
            rows.map(|rows| format!("{rows} rows")),
            bytes.map(|bytes| format!("{bytes} bytes")),
            seconds.map(|seconds| format!("{seconds} s")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("cut: rule \"{}\" lets {} pass", self.rules, parts.join(" and "))
    }
}
