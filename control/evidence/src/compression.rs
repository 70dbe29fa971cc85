//! zstd of payloads: contexts are kept per thread, not per recording, since one weighs more than an idle session may.
use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::format::{MAX_PAYLOAD, array};

/// Shorter payloads are stored as they are: a small one gains little and would cost microseconds.
pub(crate) const WORTH_TRYING: usize = 512;
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends the plain length and the compressed payload to `out`; false, and `out` as before, where that is not
/// smaller than the payload itself.
pub(crate) fn compress(payload: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let Ok(plain) = u32::try_from(payload.len()) else { return false };
    out.extend_from_slice(&plain.to_be_bytes());
    let body = out.len();
    // no more room than the payload takes: zstd gives up when the result would not be smaller
    out.resize(start + payload.len(), 0);
    let written = out.get_mut(body..).and_then(|room| {
        COMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = Compressor::new(LEVEL).ok();
            }
            slot.as_mut()?.compress_to_buffer(payload, room).ok()
        })
    });
    match written {
        Some(n) if body + n < start + payload.len() => {
            out.truncate(body + n);
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

/// The plain bytes of a compressed payload, into `out`. `None` where it is not what it says. Never more than
/// [`MAX_PAYLOAD`] bytes of memory are taken, whatever the input announces or unfolds to.
pub(crate) fn decompress(stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let (plain, body) = stored.split_at_checked(4)?;
    let plain = u32::from_be_bytes(array(plain)) as usize;
    if plain > MAX_PAYLOAD {
        return None;
    }
    out.resize(plain, 0);
    let written = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        slot.as_mut()?.decompress_to_buffer(body, out.as_mut_slice()).ok()
    })?;
    (written == plain).then_some(())
}
