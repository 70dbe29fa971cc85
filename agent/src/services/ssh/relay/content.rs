//! What passes of a file: how much, its digest, and where the configuration keeps it the content itself.
use ring::digest::{Context, SHA256};
use sluice_api::record;

/// Content in one direction.
pub(super) struct Content {
    size: u64,
    /// Where the next byte in sequence lies; `None` once something came out of it.
    next: Option<u64>,
    digest: Context,
    keep: Option<Keep>,
}

/// Content that is kept until it is on record.
struct Keep {
    transfer: u64,
    left: u64,
    any: bool,
    pieces: Vec<record::Content>,
}

impl Default for Content {
    fn default() -> Self {
        Self { size: 0, next: Some(0), digest: Context::new(&SHA256), keep: None }
    }
}

impl Content {
    /// Of which so many bytes are kept under this number.
    pub(super) fn kept(transfer: u64, limit: u64) -> Self {
        let keep = Keep { transfer, left: limit, any: false, pieces: Vec::new() };
        Self { keep: Some(keep), ..Self::default() }
    }

    /// Pieces that are not on record yet.
    pub(super) fn pieces(&mut self) -> Vec<record::Content> {
        self.keep.as_mut().map(|keep| std::mem::take(&mut keep.pieces)).unwrap_or_default()
    }

    /// Bytes that lie at `offset`.
    pub(super) fn at(&mut self, offset: u64, bytes: &[u8]) {
        if let Some(keep) = &mut self.keep {
            keep.push(offset, bytes);
        }
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
        file.transfer = self.keep.filter(|keep| keep.any).map_or(0, |keep| keep.transfer);
        file.size = self.size;
        if self.next.is_some() {
            file.sha256 = hex::encode(self.digest.finish());
        }
    }
}

impl Keep {
    fn push(&mut self, offset: u64, bytes: &[u8]) {
        let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let bytes = bytes.get(..count).unwrap_or_default().to_vec();
        if bytes.is_empty() {
            return;
        }
        self.left -= bytes.len() as u64;
        self.any = true;
        self.pieces.push(record::Content { operation: 0, transfer: self.transfer, offset, bytes });
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
    fn content_is_kept_up_to_its_limit_and_digested_behind() {
        let mut content = Content::kept(9, 4);
        content.append(b"abc");
        let first = content.pieces();
        content.append(b"def");
        content.append(b"ghi");
        let rest = content.pieces();
        let all: Vec<_> = first.iter().chain(&rest).map(|p| (p.transfer, p.offset, &*p.bytes)).collect();
        assert_eq!(all, [(9, 0, &b"abc"[..]), (9, 3, &b"d"[..])]);
        let file = file(content);
        assert_eq!((file.size, file.transfer, file.sha256.len()), (9, 9, 64));
        assert_eq!(
            {
                let mut none = record::File::default();
                Content::kept(1, 0).fill(&mut none);
                none.transfer
            },
            0
        );
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
