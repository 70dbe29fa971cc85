//! Masking of what a terminal or a command writes: bytes in any pieces, with what the detectors recognise starred out.
//!
//! Must hold: no byte is lost, added or moved, and only visible ASCII characters change, each into one star, so that a
//! terminal's layout survives. How the bytes come in pieces changes nothing, unless [`StreamMask::flush`] is called in
//! between. No more than [`HOLD`] bytes are held back, and by their holder no longer than [`PATIENCE`].
//!
//! Text is cut into windows at characters that no sensitive value has in it (control characters, quotes, commas, most
//! blanks); a window is judged when its end has come. Sequences that colour are no part of the text; those that move the
//! cursor end a window. A line break at the terminal's right margin may be a value that was wrapped: the text is judged
//! with it and without.

use std::time::{Duration, Instant};

use super::detect::scrub_in_place;
use super::prefilter::{SHORTEST, may_hold};

/// Bytes that are held back at most.
pub const HOLD: usize = 4096;
/// How long they may be.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// Characters that stay when a window has to be cut: longer than any value that has a fixed form.
const TAIL: usize = 384;
/// A stream that is no text says so in its first bytes.
const PROOF: usize = 1024;
/// So many bytes of them that are no UTF-8 are no accident.
const MOST_INVALID: u32 = 4;
/// A key that has no end is believed for so many lines that look like one.
const KEY_LINES: u32 = 512;

/// The mask of one stream.
pub struct StreamMask {
    /// Not released yet.
    held: Vec<u8>,
    /// What is visible of the window, also of what was released already.
    text: Vec<u8>,
    /// Where in `held` each of its characters is.
    at: Vec<u16>,
    /// Places in `text` where a line ended at the margin.
    wraps: Vec<usize>,
    scratch: Vec<u8>,
    /// Bytes since the window began.
    window: usize,
    /// A value that was cut goes on: everything up to the window's end is part of it.
    running: bool,
    key: Key,
    sequence: Sequence,
    margin: Margin,
    columns: usize,
    /// `None` after a move of the cursor.
    column: Option<usize>,
    /// The window began at the start of a line.
    line_start: bool,
    kind: Kind,
    deadline: Option<Instant>,
}

/// A character that was released before its window ended.
const RELEASED: u16 = u16::MAX;

/// Between the lines of a private key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Outside,
    Inside { lines: u32, strange: u32 },
}

/// Where in a control sequence (ECMA-48) the stream is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sequence {
    None,
    Escape,
    Intermediate,
    Csi,
    String,
    StringEscape,
}

/// What has come at the right margin and may be a wrap: CR LF, or the blank and CR of line editors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Margin {
    None,
    Blank,
    Return,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Terminal,
    /// Bytes seen of the first ones, invalid ones among them, continuation bytes that have to come.
    Pipe {
        seen: usize,
        invalid: u32,
        wanted: u8,
    },
    Binary,
}

impl StreamMask {
    /// Of a terminal so many columns wide (0: not known). Nothing that it shows turns the mask off.
    pub fn terminal(columns: usize) -> Self {
        Self::new(Kind::Terminal, columns)
    }

    /// Of a command's output. One that is no text, by its first bytes, passes as it is.
    pub fn pipe() -> Self {
        Self::new(Kind::Pipe { seen: 0, invalid: 0, wanted: 0 }, 0)
    }

    fn new(kind: Kind, columns: usize) -> Self {
        Self {
            held: Vec::new(),
            text: Vec::new(),
            at: Vec::new(),
            wraps: Vec::new(),
            scratch: Vec::new(),
            window: 0,
            running: false,
            key: Key::Outside,
            sequence: Sequence::None,
            margin: Margin::None,
            columns,
            column: Some(0),
            line_start: true,
            kind,
            deadline: None,
        }
    }

    /// The terminal's width has changed.
    pub fn set_columns(&mut self, columns: usize) {
        self.columns = columns;
        self.column = None;
    }

    /// The stream was found to be no text: it passes as it is. For the record.
    pub fn is_binary(&self) -> bool {
        self.kind == Kind::Binary
    }

    /// When [`StreamMask::flush`] has to be called; `None` while nothing is held back.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes a piece of the stream and appends to `out` what may be shown.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        let mut rest = piece;
        while !rest.is_empty() {
            if self.kind == Kind::Binary {
                out.extend_from_slice(rest);
                break;
            }
            let harmless = self.harmless_lines(rest);
            let (lines, after) = rest.split_at(harmless);
            if harmless > 0 {
                out.extend_from_slice(lines);
                self.column = Some(0);
                self.line_start = true;
            }
            let line = memchr::memchr(b'\n', after).map_or(after.len(), |end| end + 1);
            let (line, after) = after.split_at(line);
            for (n, byte) in line.iter().enumerate() {
                if self.kind == Kind::Binary {
                    out.extend_from_slice(line.get(n..).unwrap_or_default());
                    break;
                }
                self.byte(*byte, out);
            }
            rest = after;
        }
        if self.at.last().is_none_or(|at| *at == RELEASED) {
            // nothing visible is held back: sequences, a line's end
            self.release(self.held.len(), out);
        }
        if self.held.is_empty() {
            self.deadline = None;
        } else if self.deadline.is_none() || out.len() > before {
            self.deadline = Some(Instant::now() + PATIENCE);
        }
    }

    /// Appends everything that is held back to `out`. What of a value comes later is still recognised, what was
    /// released is not taken back.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.judge();
        self.release(self.held.len(), out);
        self.deadline = None;
    }

    /// How many bytes at the front are whole lines that would go through as they are, looked at in one go each: most of
    /// what programs write. A terminal's lines may belong together (a value that was wrapped), a command's never do.
    fn harmless_lines(&self, rest: &[u8]) -> usize {
        let at_rest = matches!(self.kind, Kind::Pipe { seen, .. } if seen >= PROOF)
            && self.held.is_empty()
            && self.text.is_empty()
            && self.sequence == Sequence::None
            && self.margin == Margin::None
            && self.key == Key::Outside
            && !self.running
            && self.columns == 0;
        if !at_rest {
            return 0;
        }
        let mut harmless = 0;
        for end in memchr::memchr_iter(b'\n', rest) {
            let line = rest.get(harmless..=end).unwrap_or_default();
            // a sequence that colours may stand in the middle of a value
            if may_hold(line) || memchr::memchr(0x1b, line).is_some() {
                break;
            }
            harmless = end + 1;
        }
        harmless
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Kind::Pipe { .. } = self.kind
            && self.proves_binary(byte)
        {
            self.end_window(out);
            out.push(byte);
            return;
        }
        if self.sequence != Sequence::None {
            let moves = self.in_sequence(byte);
            self.hold(byte, out);
            if moves {
                self.column = None;
                self.end_window(out);
            }
            return;
        }
        match byte {
            0x1b => {
                self.sequence = Sequence::Escape;
                self.hold(byte, out);
            }
            b'\r' | b'\n' => self.line_end(byte, out),
            b' ' if self.at_margin() && self.margin == Margin::None => {
                self.margin = Margin::Blank;
                self.hold(byte, out);
            }
            _ => {
                self.no_wrap(out);
                self.visible(byte, out);
            }
        }
    }

    /// A character that is shown, or a control character that ends whatever is.
    fn visible(&mut self, byte: u8, out: &mut Vec<u8>) {
        let after_blank = self.text.last() == Some(&b' ');
        if after_blank && !grouped(byte) {
            self.end_window(out);
        }
        self.advance(byte);
        let part = matches!(byte, b'!' | b'#'..=b'\'' | b'*'..=b'+' | b'-'..=b'9' | b'=' | b'?'..=b'Z' | b'^'..=b'~');
        if self.running {
            if part {
                self.held.push(b'*');
                self.release(self.held.len(), out);
                return;
            }
            self.running = false;
        }
        let blank_inside = byte == b' ' && self.text.last().is_some_and(|last| grouped(*last));
        if part || blank_inside {
            self.text.push(byte);
            // below HOLD, and so below RELEASED
            self.at.push(u16::try_from(self.held.len()).unwrap_or(RELEASED));
            self.hold(byte, out);
        } else {
            self.hold(byte, out);
            self.end_window(out);
            self.line_start = false;
        }
    }

    fn hold(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push(byte);
        self.window += 1;
        if self.window >= HOLD {
            self.cut(out);
        }
    }

    fn at_margin(&self) -> bool {
        self.columns > 0 && self.column == Some(self.columns)
    }

    fn line_end(&mut self, byte: u8, out: &mut Vec<u8>) {
        let wrap = match (byte, self.margin) {
            (b'\r', Margin::None) if self.at_margin() => {
                self.margin = Margin::Return;
                return self.hold(byte, out);
            }
            (b'\r', Margin::Blank) | (b'\n', Margin::Return) => true,
            _ => false,
        };
        self.column = if byte == b'\r' || self.margin == Margin::Return || self.column.is_none() {
            Some(0)
        } else {
            self.column
        };
        if wrap {
            self.margin = Margin::None;
            self.column = Some(0);
            self.wraps.push(self.text.len());
            return self.hold(byte, out);
        }
        self.no_wrap(out);
        self.running = false;
        self.hold(byte, out);
        self.end_window(out);
        // most often a line feed comes with a return; without one the column is anybody's guess
        self.column = Some(0);
        self.line_start = true;
    }

    /// What came at the margin was no wrap.
    fn no_wrap(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.margin, Margin::None) {
            Margin::None => {}
            Margin::Blank => {
                self.running = false;
                self.column = Some(1);
                self.end_window(out);
                self.line_start = false;
            }
            Margin::Return => {
                self.running = false;
                self.column = Some(0);
                self.end_window(out);
                self.line_start = true;
            }
        }
    }

    fn advance(&mut self, byte: u8) {
        let Some(column) = self.column else { return };
        self.column = match byte {
            // continuation bytes are part of a character; wide ones are not known here
            0x80..=0xbf | 0x00..=0x07 | 0x0e..=0x1a | 0x7f => Some(column),
            0x08 => Some(column.saturating_sub(1)),
            b'\t' => Some((column / 8 + 1) * 8),
            0x0b..=0x1f => None,
            _ if column >= self.columns && self.columns > 0 => Some(1),
            _ => Some(column + 1),
        };
    }

    /// Goes on in a control sequence. True at the end of one that may move the cursor.
    fn in_sequence(&mut self, byte: u8) -> bool {
        let (next, moves) = match (self.sequence, byte) {
            (_, 0x18 | 0x1a) => (Sequence::None, false),
            (Sequence::String, 0x07) => (Sequence::None, false),
            (Sequence::String, 0x1b) => (Sequence::StringEscape, false),
            (Sequence::String, _) => (Sequence::String, false),
            (Sequence::StringEscape, b'\\') => (Sequence::None, false),
            (_, 0x1b) => (Sequence::Escape, false),
            (Sequence::Escape | Sequence::StringEscape, b'[') => (Sequence::Csi, false),
            (Sequence::Escape | Sequence::StringEscape, b']' | b'P' | b'X' | b'^' | b'_') => {
                (Sequence::String, false)
            }
            (Sequence::Escape | Sequence::StringEscape | Sequence::Intermediate, 0x20..=0x2f) => {
                (Sequence::Intermediate, false)
            }
            (Sequence::Intermediate, _) => (Sequence::None, false),
            // keypad modes and the like move nothing; save, restore, index and reset do
            (Sequence::Escape | Sequence::StringEscape, _) => (Sequence::None, !matches!(byte, b'=' | b'>')),
            (Sequence::Csi, 0x40..=0x7e) => {
                let moves =
                    !matches!(byte, b'm' | b'K' | b'J' | b'h' | b'l' | b'q' | b'n' | b'c' | b't' | b'p');
                (Sequence::None, moves)
            }
            (Sequence::Csi, _) => (Sequence::Csi, false),
            (Sequence::None, _) => (Sequence::None, false),
        };
        self.sequence = next;
        moves
    }

    /// The window has ended: what is in it is known.
    fn end_window(&mut self, out: &mut Vec<u8>) {
        self.judge();
        out.extend_from_slice(&self.held);
        self.held.clear();
        self.text.clear();
        self.at.clear();
        self.wraps.clear();
        self.window = 0;
        self.line_start = false;
    }

    /// The window is too long to wait for its end.
    fn cut(&mut self, out: &mut Vec<u8>) {
        let to_its_end = self.judge();
        let keep = self.text.len().saturating_sub(TAIL);
        let from = self.at.get(keep).copied().unwrap_or(RELEASED);
        if to_its_end || from == RELEASED {
            self.end_window(out);
            self.running = to_its_end;
            return;
        }
        self.text.drain(..keep);
        self.at.drain(..keep);
        self.wraps = self.wraps.iter().filter_map(|wrap| wrap.checked_sub(keep)).collect();
        self.release(usize::from(from), out);
        self.window = self.held.len();
        self.line_start = false;
        // sequences alone fill it: they can go
        if self.window >= HOLD {
            self.release(self.held.len(), out);
            self.window = self.text.len();
        }
    }

    /// Gives out the first bytes that are held.
    fn release(&mut self, count: usize, out: &mut Vec<u8>) {
        if count == 0 {
            return;
        }
        out.extend_from_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        let count = u16::try_from(count).unwrap_or(RELEASED);
        for at in &mut self.at {
            *at = if *at == RELEASED { RELEASED } else { at.checked_sub(count).unwrap_or(RELEASED) };
        }
    }

    /// Stars out what is recognised in the window. True when the last value goes to the window's end.
    fn judge(&mut self) -> bool {
        if self.key != Key::Outside || self.text.len() >= 27 && self.text.starts_with(b"-----BEGIN ") {
            self.key_line();
        }
        if self.text.len() < SHORTEST {
            return false;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.text);
        let mut found = scrub_in_place(&mut self.scratch);
        if found {
            super::counts::detected();
            star(&mut self.held, &self.text, &self.at, &self.scratch);
        }
        let to_its_end = self.scratch.last() != self.text.last();
        if !self.wraps.is_empty() {
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.text);
            let mut start = 0;
            for end in self.wraps.iter().copied().chain([self.text.len()]) {
                found |= self.scratch.get_mut(start..end).is_some_and(scrub_in_place);
                start = end;
            }
            if found {
                star(&mut self.held, &self.text, &self.at, &self.scratch);
            }
        }
        to_its_end
    }

    /// RFC 7468: the lines from BEGIN to END. The first and the last are the detectors' own.
    fn key_line(&mut self) {
        let begins = memchr::memmem::find(&self.text, b"PRIVATE KEY-----").is_some();
        match self.key {
            Key::Outside if begins => self.key = Key::Inside { lines: 0, strange: 0 },
            Key::Outside => {}
            Key::Inside { .. } if self.text.starts_with(b"-----END ") => self.key = Key::Outside,
            Key::Inside { lines, strange } => {
                let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
                let body = !self.text.is_empty() && self.text.iter().all(base64);
                if body && self.line_start {
                    for at in self.at.iter().filter(|at| **at != RELEASED) {
                        if let Some(byte) = self.held.get_mut(usize::from(*at)) {
                            *byte = b'*';
                        }
                    }
                    self.key = Key::Inside { lines: lines + 1, strange: 0 };
                } else if self.line_start && !self.text.is_empty() {
                    self.key = Key::Inside { lines, strange: strange + 1 };
                }
                // a key has two or three lines of headers at most
                if matches!(self.key, Key::Inside { lines, strange } if strange > 4 || lines > KEY_LINES) {
                    self.key = Key::Outside;
                }
            }
        }
    }

    /// Looks at the first bytes of a stream that may be no text.
    fn proves_binary(&mut self, byte: u8) -> bool {
        let Kind::Pipe { seen, invalid, wanted } = &mut self.kind else { return false };
        if *seen >= PROOF {
            return false;
        }
        *seen += 1;
        let continues = (0x80..=0xbf).contains(&byte);
        let mut bad = u32::from(*wanted > 0 && !continues);
        *wanted = match byte {
            _ if *wanted > 0 && continues => *wanted - 1,
            0x00..=0x7f => 0,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => {
                bad = 1;
                0
            }
        };
        *invalid += bad;
        let binary = byte == 0 || *invalid >= MOST_INVALID;
        if binary {
            self.kind = Kind::Binary;
        }
        binary
    }
}

/// Characters that a value has around its blanks: cards, IBANs, the first line of a key.
fn grouped(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Puts the stars of `starred` where their characters are held.
fn star(held: &mut [u8], text: &[u8], at: &[u16], starred: &[u8]) {
    for ((before, after), at) in text.iter().zip(starred).zip(at) {
        if before != after
            && *at != RELEASED
            && let Some(byte) = held.get_mut(usize::from(*at))
        {
            *byte = *after;
        }
    }
}

#[cfg(test)]
mod tests;
