//! How often something was masked, for monitoring; nothing is decided by it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Values of classed columns that were shown masked.
static CLASSED: AtomicU64 = AtomicU64::new(0);
/// Values of other columns in which a detector has found something.
static DETECTED: AtomicU64 = AtomicU64::new(0);

pub(super) fn classed() {
    // one number, and no order beside it
    CLASSED.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn detected() {
    DETECTED.fetch_add(1, Ordering::Relaxed);
}

/// Values that were shown masked since this process began: for their class, and because a detector found something.
pub fn masked() -> [(&'static str, u64); 2] {
    [("class", CLASSED.load(Ordering::Relaxed)), ("detector", DETECTED.load(Ordering::Relaxed))]
}
