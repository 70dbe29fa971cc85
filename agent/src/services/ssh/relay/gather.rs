//! What goes out together, without content being copied for it.
//!
//! A filter cuts what came into heads and content, and most of it goes on as it came: pieces that lie one behind the
//! other in memory become one again, small ones are put together, and all keep their order.
use bytes::{Bytes, BytesMut};

/// Pieces up to this are put together by copying them.
const SMALL: usize = 4096;

/// Bytes that wait to be sent.
#[derive(Default)]
pub(super) struct Gather {
    pieces: Vec<BytesMut>,
    length: usize,
}

impl Gather {
    pub(super) fn push(&mut self, piece: BytesMut) {
        self.length += piece.len();
        match self.pieces.last_mut() {
            Some(last) if adjoins(last, &piece) || last.len() + piece.len() <= SMALL => last.unsplit(piece),
            _ if piece.is_empty() => {}
            _ => self.pieces.push(piece),
        }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Everything, in order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.length = 0;
        std::mem::take(&mut self.pieces).into_iter().map(BytesMut::freeze)
    }
}

/// Whether one begins where the other ends. A guess by addresses: joining looks at the allocation itself, and copies
/// where they are two.
fn adjoins(last: &BytesMut, piece: &BytesMut) -> bool {
    last.as_ptr_range().end == piece.as_ptr()
}

/// Puts what has come behind what is there.
pub(super) fn append(buffer: &mut BytesMut, data: Bytes) {
    if buffer.is_empty() {
        *buffer = BytesMut::from(data);
    } else {
        buffer.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_one_again_and_nothing_is_lost() {
        let mut gather = Gather::default();
        let mut wanted = Vec::new();
        for n in 0u8..4 {
            let mut came = BytesMut::new();
            append(&mut came, Bytes::from(vec![n; 40_000]));
            let begin = came.as_ptr();
            let head = came.split_to(25);
            wanted.extend_from_slice(&head);
            gather.push(head);
            wanted.extend_from_slice(&came);
            gather.push(came);
            assert_eq!(gather.pieces.last().map(|piece| piece.as_ptr()), Some(begin), "not copied");
            gather.push(BytesMut::new());
        }
        for answer in [&[9; 30][..], &[8; 30]] {
            wanted.extend_from_slice(answer);
            gather.push(answer.into());
        }
        assert_eq!(gather.length(), wanted.len());
        let pieces: Vec<Bytes> = gather.take().collect();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [40_000, 40_000, 40_000, 40_000, 60]);
        assert_eq!(pieces.concat(), wanted);
        assert_eq!((gather.length(), gather.take().count()), (0, 0));
    }
}
