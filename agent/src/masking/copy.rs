//! Rows of `COPY … TO STDOUT` in its text and CSV formats (PostgreSQL documentation, "COPY", File Formats). The
//! binary format has no place here: the service refuses it for classed columns.

use super::prefilter::may_hold;
use super::row::InvalidRow;
use super::{ColumnPlan, MaskKey, Treatment, detect, show};

/// A line is held whole; no longer one than this.
const MAX_LINE: usize = 64 << 20;

/// How the lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Backslash escapes, one line a row.
    Text {
        /// Between values; a tab by default.
        delimiter: u8,
        /// In place of NULL; `\N` by default.
        null: Vec<u8>,
        /// The first line has the columns' names, since PostgreSQL 15.
        header: bool,
    },
    /// RFC 4180 as PostgreSQL writes it.
    Csv {
        /// Between values; a comma by default.
        delimiter: u8,
        /// Around values; `"` by default.
        quote: u8,
        /// In front of a quote inside a value; the quote by default.
        escape: u8,
        /// In place of NULL; empty by default.
        null: Vec<u8>,
        /// The first line has the columns' names.
        header: bool,
    },
}

/// The mask of one COPY. Bytes may come in any pieces.
pub struct CopyMask {
    format: CopyFormat,
    plan: Vec<ColumnPlan>,
    key: MaskKey,
    line: Vec<u8>,
    scanned: usize,
    quoted: bool,
    escaped: bool,
    header: bool,
    scratch: Vec<u8>,
    /// No column is classed or has a name that says something: the detectors alone decide, whichever column something
    /// stands in.
    detects: bool,
}

impl CopyMask {
    /// A mask by a plan with one entry a copied column.
    pub fn new(format: CopyFormat, plan: Vec<ColumnPlan>, key: &MaskKey) -> Self {
        let header =
            matches!(format, CopyFormat::Csv { header: true, .. } | CopyFormat::Text { header: true, .. });
        let alone = |p: &ColumnPlan| match p.treatment {
            Treatment::Clear => true,
            Treatment::Detect => p.hints.is_empty(),
            Treatment::Mask { .. } => false,
        };
        let detects = plan.iter().all(alone);
        Self {
            format,
            plan,
            detects,
            key: key.clone(),
            line: Vec::new(),
            scanned: 0,
            quoted: false,
            escaped: false,
            header,
            scratch: Vec::new(),
        }
    }

    /// Every column passes as it is.
    pub fn is_noop(&self) -> bool {
        self.plan.iter().all(|p| p.treatment == Treatment::Clear)
    }

    /// Takes a piece of the stream and appends the whole masked lines to `out`.
    ///
    /// # Errors
    /// [`InvalidRow`]: the copy has to end.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidRow> {
        if self.dismisses(piece) {
            out.extend_from_slice(piece);
            return Ok(());
        }
        if self.line.len() + piece.len() > MAX_LINE {
            return Err(InvalidRow::TooLong(MAX_LINE));
        }
        self.line.extend_from_slice(piece);
        let mut start = 0;
        while let Some(end) = self.line_end() {
            let line = std::mem::take(&mut self.line);
            let outcome = self.mask_line(line.get(start..end).unwrap_or_default(), out);
            self.line = line;
            outcome?;
            out.push(b'\n');
            start = end + 1;
        }
        self.line.drain(..start);
        self.scanned -= start;
        Ok(())
    }

    /// Whole lines in which nothing can be recognised, where nothing else is asked: nearly every piece.
    fn dismisses(&self, piece: &[u8]) -> bool {
        let between_lines = self.line.is_empty() && !self.header && piece.last() == Some(&b'\n');
        // a quote that is open at the end would have to be remembered
        let quotes = match self.format {
            CopyFormat::Text { .. } => false,
            CopyFormat::Csv { quote, .. } => memchr::memchr(quote, piece).is_some(),
        };
        self.detects && between_lines && !quotes && !may_hold(piece)
    }

    /// The end of the stream: what is left is a line without an end.
    ///
    /// # Errors
    /// [`InvalidRow`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), InvalidRow> {
        let line = std::mem::take(&mut self.line);
        self.scanned = 0;
        if line.is_empty() { Ok(()) } else { self.mask_line(&line, out) }
    }

    /// The next unquoted line feed; what was looked at is not looked at again.
    fn line_end(&mut self) -> Option<usize> {
        match self.format {
            CopyFormat::Text { .. } => {
                let at = memchr::memchr(b'\n', self.line.get(self.scanned..)?).map(|at| self.scanned + at);
                self.scanned = at.map_or(self.line.len(), |at| at + 1);
                at
            }
            CopyFormat::Csv { quote, escape, .. } => {
                for (i, byte) in self.line.iter().enumerate().skip(self.scanned) {
                    if self.escaped {
                        self.escaped = false;
                    } else if self.quoted && *byte == escape && escape != quote {
                        self.escaped = true;
                    } else if *byte == quote {
                        // a doubled quote closes and opens again, which comes to the same
                        self.quoted = !self.quoted;
                    } else if *byte == b'\n' && !self.quoted {
                        self.scanned = i + 1;
                        return Some(i);
                    }
                }
                self.scanned = self.line.len();
                None
            }
        }
    }

    fn mask_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidRow> {
        // the end marker of old clients has no columns
        if self.header || line == b"\\." {
            self.header = false;
            out.extend_from_slice(line);
            return Ok(());
        }
        let mut rest = Some(line);
        let mut got = 0;
        while let Some(from) = rest {
            let end = self.field_end(from);
            let field = from.get(..end).unwrap_or_default();
            rest = from.get(end + 1..);
            let plan =
                self.plan.get(got).ok_or(InvalidRow::Columns { expected: self.plan.len(), got: got + 1 })?;
            if got > 0 {
                out.push(self.delimiter());
            }
            got += 1;
            match plan.treatment {
                Treatment::Clear => out.extend_from_slice(field),
                _ if field == self.null() => out.extend_from_slice(field),
                Treatment::Detect => {
                    let at = out.len() + self.quotes(field);
                    out.extend_from_slice(field);
                    let end = out.len() - self.quotes(field);
                    let found = detect::scrub_hinted(out.get_mut(at..end).unwrap_or_default(), plan.hints);
                    if !found.is_empty() {
                        super::counts::detected();
                    }
                }
                Treatment::Mask { .. } => {
                    let mut value = std::mem::take(&mut self.scratch);
                    value.clear();
                    self.decode(field, &mut value);
                    let mut shown = Vec::new();
                    let as_text = ColumnPlan { binary: false, ..plan.clone() };
                    if show::show(&as_text, &value, &self.key, &mut shown) {
                        self.encode(&shown, out);
                    } else {
                        out.extend_from_slice(self.null());
                    }
                    self.scratch = value;
                }
            }
        }
        if got == self.plan.len() {
            Ok(())
        } else {
            Err(InvalidRow::Columns { expected: self.plan.len(), got })
        }
    }

    fn delimiter(&self) -> u8 {
        match self.format {
            CopyFormat::Text { delimiter, .. } | CopyFormat::Csv { delimiter, .. } => delimiter,
        }
    }

    fn null(&self) -> &[u8] {
        match &self.format {
            CopyFormat::Text { null, .. } | CopyFormat::Csv { null, .. } => null,
        }
    }

    /// Bytes at each end of a field that are not the value's.
    fn quotes(&self, field: &[u8]) -> usize {
        match (&self.format, field) {
            (CopyFormat::Csv { quote, .. }, [first, .., last]) => {
                usize::from(first == quote && last == quote)
            }
            _ => 0,
        }
    }

    fn field_end(&self, from: &[u8]) -> usize {
        let (mut quoted, mut escaped) = (false, false);
        let position = from.iter().position(|byte| match self.format {
            CopyFormat::Text { delimiter, .. } => {
                let ends = !escaped && *byte == delimiter;
                escaped = !escaped && *byte == b'\\';
                ends
            }
            CopyFormat::Csv { delimiter, quote, escape, .. } => {
                if escaped {
                    escaped = false;
                } else if quoted && *byte == escape && escape != quote {
                    escaped = true;
                } else if *byte == quote {
                    quoted = !quoted;
                }
                !quoted && *byte == delimiter
            }
        });
        position.unwrap_or(from.len())
    }

    /// The value behind a field, as far as the masks need it.
    fn decode(&self, field: &[u8], value: &mut Vec<u8>) {
        match self.format {
            CopyFormat::Text { .. } => {
                let mut bytes = field.iter();
                while let Some(byte) = bytes.next() {
                    value.push(match byte {
                        b'\\' => match bytes.next() {
                            Some(b'n') => b'\n',
                            Some(b't') => b'\t',
                            Some(b'r') => b'\r',
                            Some(other) => *other,
                            None => b'\\',
                        },
                        other => *other,
                    });
                }
            }
            CopyFormat::Csv { quote, escape, .. } => {
                let Some(inner) = field.strip_prefix(&[quote]).and_then(|f| f.strip_suffix(&[quote])) else {
                    value.extend_from_slice(field);
                    return;
                };
                let mut bytes = inner.iter().peekable();
                while let Some(byte) = bytes.next() {
                    if *byte == escape && bytes.peek().is_some_and(|next| **next == quote || **next == escape)
                    {
                        continue_with(&mut bytes, value);
                    } else {
                        value.push(*byte);
                    }
                }
            }
        }
    }

    fn encode(&self, shown: &[u8], out: &mut Vec<u8>) {
        match self.format {
            CopyFormat::Text { delimiter, .. } => {
                for byte in shown {
                    match byte {
                        b'\n' => out.extend_from_slice(b"\\n"),
                        b'\r' => out.extend_from_slice(b"\\r"),
                        b'\t' => out.extend_from_slice(b"\\t"),
                        b if *b == b'\\' || *b == delimiter => out.extend_from_slice(&[b'\\', *b]),
                        b => out.push(*b),
                    }
                }
            }
            CopyFormat::Csv { quote, escape, .. } => {
                out.push(quote);
                for byte in shown {
                    if *byte == quote || *byte == escape {
                        out.push(escape);
                    }
                    out.push(*byte);
                }
                out.push(quote);
            }
        }
    }
}

fn continue_with<'a>(bytes: &mut impl Iterator<Item = &'a u8>, value: &mut Vec<u8>) {
    if let Some(byte) = bytes.next() {
        value.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Families, hints};
    use super::*;
    use proptest::prelude::*;
    use sluice_config::MaskKind;

    fn plans() -> Vec<ColumnPlan> {
        let email = Treatment::Mask { kind: MaskKind::Partial, class: "pii.email".into(), derived: false };
        [Treatment::Clear, email, Treatment::Detect]
            .into_iter()
            .map(|treatment| ColumnPlan { treatment, type_oid: 25, binary: false, hints: Families::NONE })
            .collect()
    }

    fn text() -> CopyFormat {
        CopyFormat::Text { delimiter: b'\t', null: b"\\N".to_vec(), header: false }
    }

    fn csv() -> CopyFormat {
        CopyFormat::Csv { delimiter: b',', quote: b'"', escape: b'"', null: Vec::new(), header: true }
    }

    fn run(format: CopyFormat, input: &[u8], piece: usize) -> Result<String, InvalidRow> {
        let mut mask = CopyMask::new(format, plans(), &MaskKey::new(&[0; 32]));
        let mut out = Vec::new();
        for part in input.chunks(piece) {
            mask.push(part, &mut out)?;
        }
        mask.finish(&mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    const TEXT: &str = "1\tbob@x.org\tcall bob@x.org\n2\t\\N\tplain\\ttab\n3\tan\\\\n@x.org\tx\n";
    const CSV: &str = "id,email,note\n1,bob@x.org,\"said \"\"hi\"\",\nbob@x.org\"\n2,,x\n3,\"a,b@x.org\",y\n";

    #[test]
    fn lines_are_masked_whatever_the_pieces() {
        for piece in 1..TEXT.len() {
            let shown = run(text(), TEXT.as_bytes(), piece).unwrap();
            assert_eq!(shown, "1\tb***@***.org\tcall *********\n2\t\\N\tplain\\ttab\n3\ta***@***.org\tx\n");
        }
        for piece in 1..CSV.len() {
            let shown = run(csv(), CSV.as_bytes(), piece).unwrap();
            let lines = "id,email,note\n1,\"b***@***.org\",\"said \"\"hi\"\",\n*********\"\n2,,x\n3,\"a***@***.org\",y\n";
            assert_eq!(shown, lines);
        }
    }

    fn plan(column: &str) -> ColumnPlan {
        let hints = hints(column.as_bytes());
        ColumnPlan { treatment: Treatment::Detect, type_oid: 25, binary: false, hints }
    }

    #[test]
    fn a_name_that_says_something_is_heard() {
        let csv = CopyFormat::Csv {
            delimiter: b',',
            quote: b'\'',
            escape: b'\'',
            null: b"null".to_vec(),
            header: false,
        };
        for (format, rows, shown) in [
            (text(), "030 1234567\tnote\n\\N\t030 1234567\n", "*** *******\tnote\n\\N\t030 1234567\n"),
            (csv, "'030,1234567',x\nnull,'030'\n", "'***********',x\nnull,'030'\n"),
        ] {
            let plans = vec![plan("password"), plan("note")];
            let mut mask = CopyMask::new(format, plans, &MaskKey::new(&[0; 32]));
            let mut out = Vec::new();
            mask.push(rows.as_bytes(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_dismissed_is_what_nothing_would_have_changed() {
        let plans = || vec![plan("note"); 2];
        let pieces = ["1\tplain\n", "2\tbob@x.org\n", "3\tpla", "in\n", "4\t4111111111111111\n", "5\tx\n"];
        let mut mask = CopyMask::new(text(), plans(), &MaskKey::new(&[0; 32]));
        let mut out = Vec::new();
        for piece in pieces {
            mask.push(piece.as_bytes(), &mut out).unwrap();
        }
        let shown = "1\tplain\n2\t*********\n3\tplain\n4\t************1111\n5\tx\n";
        assert_eq!(String::from_utf8(out).unwrap(), shown);
        // a line break inside quotes: what follows is still inside
        let csv =
            CopyFormat::Csv { delimiter: b' ', quote: b'"', escape: b'"', null: Vec::new(), header: false };
        let mut mask = CopyMask::new(csv, plans(), &MaskKey::new(&[0; 32]));
        let mut out = Vec::new();
        for piece in ["1 \"a\n", "b\n", "4111 1111 1111 1111\"\n"] {
            mask.push(piece.as_bytes(), &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), "1 \"a\nb\n**** **** **** 1111\"\n");
    }

    #[test]
    fn a_header_is_no_row_and_what_follows_it_is() {
        let format = CopyFormat::Text { delimiter: b'\t', null: b"\\N".to_vec(), header: true };
        let shown = run(format, b"id\tbob@x.org\tnote\n1\tbob@x.org\tcall bob@x.org\n", 7).unwrap();
        assert_eq!(shown, "id\tbob@x.org\tnote\n1\tb***@***.org\tcall *********\n");
    }

    #[test]
    fn another_shape_is_an_error() {
        assert_eq!(run(text(), b"1\t2\n", 9), Err(InvalidRow::Columns { expected: 3, got: 2 }));
        assert_eq!(run(text(), b"1\t2\t3\t4\n", 9), Err(InvalidRow::Columns { expected: 3, got: 4 }));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[a-z@.,\"\t\n\\\\]{0,60}", piece in 1_usize..20) {
            for format in [text(), csv()] {
                prop_assert_eq!(run(format.clone(), input.as_bytes(), piece), run(format, input.as_bytes(), 1000));
            }
        }
    }
}
