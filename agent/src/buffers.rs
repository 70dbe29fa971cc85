//! Buffers that sessions lend from their thread while bytes are in them: an idle session has none.
//!
//! Enters: an empty [`Vec`], or one that was lent. Leaves: one with room for [`CHUNK`] bytes. Must hold: what is given
//! back holds nothing of the session that had it.
use std::cell::RefCell;

/// What is read at once.
pub(crate) const CHUNK: usize = 64 << 10;
/// Buffers that have grown past this are not kept.
pub(crate) const MAX_KEPT: usize = 256 << 10;
/// How many a thread keeps.
const KEPT: usize = 32;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for [`CHUNK`] bytes.
pub(crate) fn lend() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(CHUNK))
}

/// Takes an empty buffer back; one that holds bytes stays where it is.
pub(crate) fn give_back(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 || !buffer.is_empty() {
        return;
    }
    let buffer = std::mem::take(buffer);
    if (CHUNK..=MAX_KEPT).contains(&buffer.capacity()) {
        BUFFERS.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(buffer);
            }
        });
    }
}
