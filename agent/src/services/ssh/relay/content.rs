//! What passes of a file: how much, and its digest.
use ring::digest::{Context, SHA256};
use sluice_api::record;

/// Content in one direction.
pub(super) struct Content {
    size: u64,
    /// Where the next byte in sequence lies; `None` once something came out of it.
    next: Option<u64>,
    digest: Context,
}

impl Default for Content {
    fn default() -> Self {
        Self { size: 0, next: Some(0), digest: Context::new(&SHA256) }
    }
}

impl Content {
    /// Bytes that lie at `offset`.
    pub(super) fn at(&mut self, offset: u64, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.next == Some(offset) {
            self.digest.update(bytes);
            self.next = Some(offset + bytes.len() as u64);
        } else {
            self.next = None;
        }
    }

    /// Bytes behind those that came before.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.at(self.size, bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// As the recording has it.
    pub(super) fn fill(self, file: &mut record::File) {
        file.size = self.size;
        if self.next.is_some() {
            file.sha256 = hex::encode(self.digest.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: Content) -> record::File {
        let mut file = record::File::default();
        content.fill(&mut file);
        file
    }

    #[test]
    fn a_digest_is_only_of_what_came_in_sequence() {
        let mut whole = Content::default();
        whole.at(0, b"ab");
        whole.at(2, b"c");
        let whole = file(whole);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((whole.size, whole.sha256.as_str()), (3, abc));
        let mut torn = Content::default();
        torn.at(0, b"ab");
        torn.at(5, b"c");
        torn.at(6, b"d");
        let torn = file(torn);
        assert_eq!((torn.size, torn.sha256.as_str()), (4, ""));
        let mut appended = Content::default();
        appended.append(b"a");
        appended.append(b"bc");
        assert_eq!(file(appended).sha256, abc);
    }
}
