//! How much of a statement's result is kept: up to so many rows and bytes, after that counted and digested.
use hashbrown::HashMap;
use ring::digest::{Context, SHA256};
use sluice_api::record;

/// One row, or one frame, can't be longer than a frame of the file format may be.
const LONGEST_ROW: u64 = 4 << 20;

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_rows: u64,
    pub(super) max_bytes: u64,
}

/// Counts of one operation.
struct Statement {
    operation: u64,
    rows: u64,
    bytes: u64,
    typed: u64,
    over: Option<Box<Over>>,
}

/// What stands behind the limit.
struct Over {
    rows: u64,
    bytes: u64,
    digest: Context,
}

/// Statements whose results are on their way. The one whose rows come is at hand; others (suspended portals) wait.
#[derive(Default)]
pub(super) struct Statements {
    current: Option<Statement>,
    others: HashMap<u64, Statement>,
}

/// More than so many unfinished results at once are no session's need: the recording forgets the count of one.
const MOST_OTHERS: usize = 4096;

impl Statements {
    fn at(&mut self, operation: u64) -> &mut Statement {
        if self.current.as_ref().is_none_or(|c| c.operation != operation) {
            let next = self.others.remove(&operation);
            if let Some(previous) = self.current.take()
                && self.others.len() < MOST_OTHERS
            {
                self.others.insert(previous.operation, previous);
            }
            self.current = next;
        }
        self.current.get_or_insert(Statement { operation, rows: 0, bytes: 0, typed: 0, over: None })
    }

    /// How many bytes and rows of `bytes`, which are whole rows, are kept; the others have been digested.
    pub(super) fn rows(&mut self, limits: Limits, operation: u64, bytes: &[u8], count: u64) -> (usize, u64) {
        let statement = self.at(operation);
        let (rows, length) = (statement.rows + count, statement.bytes + bytes.len() as u64);
        let fits = rows <= limits.max_rows && length <= limits.max_bytes && bytes.len() as u64 <= LONGEST_ROW;
        if statement.over.is_none() && fits {
            (statement.rows, statement.bytes) = (rows, length);
            return (bytes.len(), count);
        }
        let (kept, kept_rows) =
            if statement.over.is_some() { (0, 0) } else { statement.prefix(limits, bytes, count) };
        (statement.rows, statement.bytes) = (rows, length);
        let rest = bytes.get(kept..).unwrap_or_default();
        if !rest.is_empty() {
            statement.digest(rest, count - kept_rows);
        }
        (kept, kept_rows)
    }

    /// How many of the bytes of a stream are kept; the others have been digested.
    pub(super) fn stream(&mut self, limits: Limits, operation: u64, bytes: &[u8]) -> usize {
        let statement = self.at(operation);
        let room =
            if statement.over.is_some() { 0 } else { limits.max_bytes.saturating_sub(statement.bytes) };
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        statement.bytes += bytes.len() as u64;
        let rest = bytes.get(kept..).unwrap_or_default();
        if !rest.is_empty() {
            statement.digest(rest, 0);
        }
        kept
    }

    /// Bytes of a terminal's output, which is kept whole.
    pub(super) fn screen(&mut self, operation: u64, bytes: u64) {
        self.at(operation).bytes += bytes;
    }

    /// Keystrokes, which are not kept at all.
    pub(super) fn typed(&mut self, operation: u64, bytes: u64) {
        self.at(operation).typed += bytes;
    }

    /// The operation is done: what was counted goes into `completed`.
    pub(super) fn finish(&mut self, completed: &mut record::Completed) {
        let operation = completed.operation;
        let statement = match self.current.take_if(|c| c.operation == operation) {
            Some(statement) => statement,
            None => match self.others.remove(&operation) {
                Some(statement) => statement,
                None => return,
            },
        };
        (completed.rows, completed.bytes) = (statement.rows, statement.bytes);
        completed.bytes_typed = statement.typed;
        if let Some(over) = statement.over {
            (completed.rows_digested, completed.bytes_digested) = (over.rows, over.bytes);
            completed.digest_sha256 = hex::encode(over.digest.finish());
        }
    }
}

impl Statement {
    /// Whole rows from the start that still fit.
    fn prefix(&self, limits: Limits, bytes: &[u8], count: u64) -> (usize, u64) {
        let (mut kept, mut rows) = (0, 0);
        while rows < count && self.rows + rows < limits.max_rows {
            let Some(length) = bytes.get(kept..).and_then(row_length) else { break };
            let end = kept + length;
            let fits = self.bytes + end as u64 <= limits.max_bytes && end as u64 <= LONGEST_ROW;
            if end > bytes.len() || !fits {
                break;
            }
            (kept, rows) = (end, rows + 1);
        }
        (kept, rows)
    }

    fn digest(&mut self, bytes: &[u8], rows: u64) {
        let over = self
            .over
            .get_or_insert_with(|| Box::new(Over { rows: 0, bytes: 0, digest: Context::new(&SHA256) }));
        over.rows += rows;
        over.bytes += bytes.len() as u64;
        over.digest.update(bytes);
    }
}

/// The type byte of DataRow. A row without it begins with its length, whose first byte is less than this in any row
/// under a gigabyte, so that both forms are told apart by it.
pub(super) const DATA_ROW: u8 = b'D';

/// The length of the first row, its type byte included where there is one.
pub(super) fn row_length(bytes: &[u8]) -> Option<usize> {
    let tag = usize::from(bytes.first() == Some(&DATA_ROW));
    let length = u32::from_be_bytes(*bytes.get(tag..)?.first_chunk()?) as usize;
    (length >= 6).then_some(length + tag)
}
