//! Which policy it is.
use std::fmt::Write as _;

use ring::digest::{Context, SHA256};

use crate::Source;

/// SHA-256, in hex. Lengths go in too, so that no two lists of texts run into each other.
pub(crate) fn of(sources: &[Source<'_>]) -> String {
    let mut hash = Context::new(&SHA256);
    for text in sources.iter().flat_map(|source| [source.name, source.text]) {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
