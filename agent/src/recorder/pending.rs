//! What is going to be the next frame: length-delimited [`record::Entry`] messages, one behind the other.
//!
//! Rows and streams are not encoded by prost but copied: a Data entry stays open while chunks of the same kind come
//! in, and its three lengths, written as varints of five bytes, are filled in when it is closed. (A varint may be
//! longer than it needs to be; every protobuf reader takes it.)
use parking_lot::Mutex;
use prost::Message;
use prost::encoding::encode_varint;
use sluice_api::record;

/// An idle session keeps no more than this.
const SMALL: usize = 8 << 10;
/// The next frame is written without waiting for a commit when it has grown to this.
pub(super) const SPILL: usize = 256 << 10;
const LARGE: usize = SPILL + (64 << 10);
/// Tag of Entry.data, of Data.operation, .rows, .stream, .upstream, .row_count, .screen, .stderr.
const ENTRY_TIME: u8 = 1 << 3;
const ENTRY_DATA: u8 = 6 << 3 | 2;
const DATA_OPERATION: u8 = 1 << 3;
const DATA_ROWS: u8 = 2 << 3 | 2;
const DATA_STREAM: u8 = 3 << 3 | 2;
const DATA_UPSTREAM: u8 = 4 << 3;
const DATA_ROW_COUNT: u8 = 5 << 3;
const DATA_SCREEN: u8 = 6 << 3 | 2;
const DATA_STDERR: u8 = 7 << 3;

/// Field numbers of Entry.operation and Entry.result.
pub(super) const OPERATION: u8 = 3;
pub(super) const RESULT: u8 = 5;
/// Field numbers in them.
pub(super) const OPERATION_ID: u8 = 1;
pub(super) const OPERATION_TEXT: u8 = 3;
pub(super) const OPERATION_PARAMETER: u8 = 4;
pub(super) const RESULT_OPERATION: u8 = 1;

/// Large buffers that sessions lend from each other while a lot goes through them.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    const KEPT: usize = 32;

    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock();
        if buffer.capacity() <= 2 * LARGE && kept.len() < Self::KEPT {
            kept.push(buffer);
        }
    }
}

/// What a chunk of data is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Rows,
    Stream { upstream: bool },
    Stderr,
    Screen,
}

/// The Data entry that chunks are being appended to; offsets of its lengths.
struct OpenData {
    operation: u64,
    chunk: Chunk,
    rows: u64,
    entry_at: usize,
    data_at: usize,
    bytes_at: usize,
}

#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// The small buffer while a large one is in its place.
    aside: Vec<u8>,
    data: Option<OpenData>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn entry(&mut self, pool: &Pool, time_us: i64, entry: record::entry::Entry) {
        self.close_data();
        let entry = record::Entry { time_us, entry: Some(entry) };
        self.room(pool, entry.encoded_len() + 10);
        // a Vec grows: this can't fail
        let _ = entry.encode_length_delimited(&mut self.bytes);
    }

    /// An entry with the message `field` in it, whose body `write` appends: at most `room` bytes.
    pub(super) fn encoded(
        &mut self,
        pool: &Pool,
        time_us: i64,
        field: u8,
        room: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.close_data();
        self.room(pool, room + 32);
        let out = &mut self.bytes;
        let entry_at = length(out);
        out.push(ENTRY_TIME);
        encode_varint(time_us as u64, out);
        out.push(field << 3 | 2);
        let body_at = length(out);
        write(out);
        fill_length(out, body_at);
        fill_length(out, entry_at);
    }

    pub(super) fn data(
        &mut self,
        pool: &Pool,
        time_us: i64,
        operation: u64,
        chunk: Chunk,
        (bytes, rows): (&[u8], u64),
    ) {
        // tags, time, operation, lengths, count
        self.room(pool, bytes.len() + 64);
        match &mut self.data {
            Some(open) if open.operation == operation && open.chunk == chunk => open.rows += rows,
            _ => {
                self.close_data();
                self.open_data(time_us, operation, chunk, rows);
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn open_data(&mut self, time_us: i64, operation: u64, chunk: Chunk, rows: u64) {
        let out = &mut self.bytes;
        let entry_at = length(out);
        out.push(ENTRY_TIME);
        encode_varint(time_us as u64, out);
        out.push(ENTRY_DATA);
        let data_at = length(out);
        out.push(DATA_OPERATION);
        encode_varint(operation, out);
        match chunk {
            Chunk::Rows => out.push(DATA_ROWS),
            Chunk::Stream { upstream } => {
                if upstream {
                    out.extend_from_slice(&[DATA_UPSTREAM, 1]);
                }
                out.push(DATA_STREAM);
            }
            Chunk::Stderr => out.extend_from_slice(&[DATA_STDERR, 1, DATA_STREAM]),
            Chunk::Screen => out.push(DATA_SCREEN),
        }
        let bytes_at = length(out);
        self.data = Some(OpenData { operation, chunk, rows, entry_at, data_at, bytes_at });
    }

    fn close_data(&mut self) {
        let Some(open) = self.data.take() else { return };
        fill_length(&mut self.bytes, open.bytes_at);
        if open.rows > 0 {
            self.bytes.push(DATA_ROW_COUNT);
            encode_varint(open.rows, &mut self.bytes);
        }
        fill_length(&mut self.bytes, open.data_at);
        fill_length(&mut self.bytes, open.entry_at);
    }

    /// The payload of the next frame, complete.
    pub(super) fn payload(&mut self) -> &[u8] {
        self.close_data();
        &self.bytes
    }

    /// The payload was written.
    pub(super) fn clear(&mut self, pool: &Pool) {
        self.data = None;
        self.bytes.clear();
        if self.bytes.capacity() > SMALL {
            let small = std::mem::take(&mut self.aside);
            pool.give(std::mem::replace(&mut self.bytes, small));
        }
    }

    /// Goes over to a large buffer before the small one would have to grow.
    fn room(&mut self, pool: &Pool, more: usize) {
        if self.bytes.capacity() == 0 && more <= SMALL {
            self.bytes.reserve_exact(SMALL);
        } else if self.bytes.len() + more > SMALL && self.bytes.capacity() <= SMALL {
            let mut large = pool.take();
            large.extend_from_slice(&self.bytes);
            self.bytes.clear();
            self.aside = std::mem::replace(&mut self.bytes, large);
        }
    }
}

/// Appends a varint field.
pub(super) fn number(field: u8, value: u64, out: &mut Vec<u8>) {
    out.push(field << 3);
    encode_varint(value, out);
}

/// Appends a string field.
pub(super) fn text(field: u8, value: &str, out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

/// Leaves room for a length and says where.
fn length(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 5]);
    out.len() - 5
}

/// Writes the count of bytes behind the place as a varint of five bytes.
fn fill_length(out: &mut [u8], at: usize) {
    let Some(value) = out.len().checked_sub(at + 5) else { return };
    let Some(room) = out.get_mut(at..at + 5) else { return };
    for (n, byte) in room.iter_mut().enumerate() {
        *byte = (value >> (7 * n)) as u8 & 0x7f | if n < 4 { 0x80 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mut bytes: &[u8]) -> Vec<record::Entry> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            out.push(record::Entry::decode_length_delimited(&mut bytes).unwrap());
        }
        out
    }

    #[test]
    fn data_is_what_prost_would_read() {
        let pool = Pool::default();
        let mut pending = Pending::default();
        let notice = record::Message { text: "hello".into(), ..Default::default() };
        pending.entry(&pool, 1, record::entry::Entry::Message(notice.clone()));
        pending.data(&pool, 2, 7, Chunk::Rows, (b"row1", 1));
        pending.data(&pool, 3, 7, Chunk::Rows, (b"row2row3", 2));
        pending.data(&pool, 4, 8, Chunk::Rows, (&vec![9; 300_000], 1));
        pending.data(&pool, 5, 8, Chunk::Stream { upstream: true }, (b"copied", 0));
        let data = |operation, rows: &[u8], row_count, stream: &[u8], upstream| {
            record::entry::Entry::Data(record::Data {
                operation,
                rows: rows.to_vec(),
                row_count,
                stream: stream.to_vec(),
                upstream,
                ..Default::default()
            })
        };
        pending.data(&pool, 6, 9, Chunk::Screen, (b"$ ", 0));
        pending.data(&pool, 7, 9, Chunk::Stderr, (b"oops", 0));
        let shown = record::Data { operation: 9, screen: b"$ ".to_vec(), ..Default::default() };
        let said =
            record::Data { operation: 9, stream: b"oops".to_vec(), stderr: true, ..Default::default() };
        let wanted = [
            (1, record::entry::Entry::Message(notice)),
            (2, data(7, b"row1row2row3", 3, b"", false)),
            (4, data(8, &vec![9; 300_000], 1, b"", false)),
            (5, data(8, b"", 0, b"copied", true)),
            (6, record::entry::Entry::Data(shown)),
            (7, record::entry::Entry::Data(said)),
        ]
        .map(|(time_us, entry)| record::Entry { time_us, entry: Some(entry) });
        assert_eq!(decode(pending.payload()), wanted);
        pending.clear(&pool);
        pending.encoded(&pool, 6, OPERATION, 64, |out| {
            number(OPERATION_ID, 300, out);
            text(OPERATION_TEXT, "select $1", out);
            text(OPERATION_PARAMETER, "7", out);
            let rest = record::Operation { verdict: "permit".into(), ..Default::default() };
            out.extend_from_slice(&rest.encode_to_vec());
        });
        let operation = record::Operation {
            id: 300,
            text: "select $1".into(),
            parameters: vec!["7".into()],
            verdict: "permit".into(),
            ..Default::default()
        };
        let entry = record::entry::Entry::Operation(operation);
        assert_eq!(decode(pending.payload()), [record::Entry { time_us: 6, entry: Some(entry) }]);
        pending.clear(&pool);
        assert!(pending.is_empty() && pending.bytes.capacity() <= SMALL, "an idle session is small");
        assert_eq!(pool.0.lock().len(), 1);
    }
}
