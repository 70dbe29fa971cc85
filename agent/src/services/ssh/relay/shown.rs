//! What a program writes, as the person may see it: masked, and released before it is recorded.
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::pump::Shape;
use crate::masking::StreamMask;

/// One of a program's two streams on its way to the client.
pub(super) struct Shown<'w> {
    /// `None`: a protocol of programs, whose bytes are not text for people.
    mask: Option<StreamMask>,
    /// The terminal's width, as of its last change.
    columns: &'w AtomicU32,
    seen_columns: u32,
    told: bool,
    pub(super) stderr: bool,
}

impl<'w> Shown<'w> {
    pub(super) fn new(shape: &Shape, columns: &'w AtomicU32, stderr: bool) -> Self {
        let seen_columns = columns.load(Ordering::Acquire);
        let mask = match shape {
            Shape::Screen => Some(StreamMask::terminal(usize::try_from(seen_columns).unwrap_or(0))),
            Shape::Command => Some(StreamMask::pipe()),
            _ => None,
        };
        Self { mask, columns, seen_columns, told: false, stderr }
    }

    /// What may be shown now that these have come.
    pub(super) fn push(&mut self, data: Bytes) -> Bytes {
        let Some(mask) = self.mask.as_mut().filter(|mask| !mask.is_binary()) else { return data };
        let columns = self.columns.load(Ordering::Acquire);
        if columns != self.seen_columns {
            self.seen_columns = columns;
            mask.set_columns(usize::try_from(columns).unwrap_or(0));
        }
        let mut out = Vec::with_capacity(data.len());
        mask.push(&data, &mut out);
        Bytes::from(out)
    }

    /// Everything that is held back.
    pub(super) fn flush(&mut self) -> Bytes {
        let mut out = Vec::new();
        if let Some(mask) = &mut self.mask {
            mask.flush(&mut out);
        }
        Bytes::from(out)
    }

    /// When to flush, if anything is held back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.mask.as_ref().and_then(StreamMask::deadline)
    }

    /// Says once that the stream was found to be no text.
    pub(super) fn found_binary(&mut self) -> bool {
        let found = !self.told && self.mask.as_ref().is_some_and(StreamMask::is_binary);
        self.told |= found;
        found
    }
}

/// Waits until then; for ever without a time. Cancel safe.
pub(super) async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
