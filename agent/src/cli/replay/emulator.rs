//! A terminal that exists in memory only: bytes of a recording in, lines of an auditor's terminal out.
//!
//! Must hold: what a recording has in it never reaches the auditor's terminal. What is written there is made here out
//! of the emulator's cells: printable characters, colours and attributes, and nothing else; what can't be shown safely
//! is shown as [`UNSAFE`].

use std::fmt::Write as _;

use avt::observer::Transcript;
use avt::parser::{Function, Parser};
use avt::{Color, Line, Pen, Terminal};

use crate::cli::terminal::harmful;

/// No terminal is larger; a recording may claim what it likes.
const LARGEST: u32 = 1000;
/// In place of a character that would do something to the terminal or to the eye.
const UNSAFE: char = '\u{fffd}';

/// The emulator.
pub(super) struct Emulator {
    terminal: Terminal,
    parser: Parser,
    /// The start of a character whose end has not come.
    partial: Vec<u8>,
    transcript: Transcript,
}

/// A size that a terminal can have.
pub(super) fn sane(columns: u32, rows: u32) -> (usize, usize) {
    let clamp = |n: u32, usual| if n == 0 { usual } else { n.min(LARGEST) as usize };
    (clamp(columns, 80), clamp(rows, 24))
}

impl Emulator {
    /// Of this size, as [`sane`] gives it. `None` for a size of nothing.
    pub(super) fn new((columns, rows): (usize, usize)) -> Option<Self> {
        let terminal = Terminal::new(columns, rows).ok()?;
        Some(Self { terminal, parser: Parser::new(), partial: Vec::new(), transcript: Transcript::new() })
    }

    /// Output of the recorded terminal. Returns the lines that have left the screen at its top.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let text = decode(&mut self.partial, bytes);
        let (columns, rows) = self.terminal.size();
        let most = u16::try_from(columns.saturating_mul(rows)).unwrap_or(u16::MAX);
        let mut left = Vec::new();
        for character in text.chars() {
            let function = match self.parser.feed(character) {
                // a few bytes must not be days of work
                Some(Function::Rep(count)) => Function::Rep(count.min(most)),
                Some(function) => function,
                None => continue,
            };
            left.append(&mut self.terminal.execute_with(function, &mut self.transcript));
        }
        left
    }

    /// The lines that are still on the screen, as text.
    pub(super) fn rest(self) -> Vec<String> {
        self.transcript.finish(&self.terminal)
    }

    /// The recorded terminal has another size from now on.
    pub(super) fn resize(&mut self, (columns, rows): (usize, usize)) {
        self.terminal.resize(columns, rows);
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        self.terminal.size()
    }

    /// Where the cursor is, column and row, when it can be seen.
    pub(super) fn cursor(&self) -> Option<(usize, usize)> {
        self.terminal.cursor().position()
    }

    /// The line that the cursor is in, as text, at least up to the cursor.
    pub(super) fn unfinished(&self) -> String {
        let cursor = self.terminal.cursor();
        let Some(line) = self.terminal.screen().line(cursor.row) else { return String::new() };
        let text: String = line.chars().collect();
        let end = text.trim_end().chars().count().max(cursor.col);
        text.chars().take(end).collect()
    }

    /// One line of the screen for the auditor's terminal, at most so many columns of it.
    pub(super) fn line(&self, row: usize, columns: usize) -> String {
        self.terminal.screen().line(row).map(|line| shown(line, columns)).unwrap_or_default()
    }
}

fn shown(line: &Line, columns: usize) -> String {
    let mut out = String::new();
    let (mut used, mut pen) = (0, None);
    let blank = |cell: &avt::Cell| cell.char() == ' ' && cell.pen().is_default();
    let end = line.cells().iter().rposition(|cell| !blank(cell)).map_or(0, |last| last + 1);
    for cell in line.cells().iter().take(end) {
        let width = usize::from(cell.width());
        if width == 0 {
            continue;
        }
        if used + width > columns {
            break;
        }
        used += width;
        if pen != Some(*cell.pen()) {
            style(cell.pen(), &mut out);
            pen = Some(*cell.pen());
        }
        let unsafe_here = harmful(cell.char());
        out.push(if unsafe_here { UNSAFE } else { cell.char() });
    }
    out
}

/// SGR (ECMA-48 8.3.117), from the ground up. Blinking is left out.
fn style(pen: &Pen, out: &mut String) {
    out.push_str("\x1b[0");
    for (on, code) in [
        (pen.is_bold(), ";1"),
        (pen.is_faint(), ";2"),
        (pen.is_italic(), ";3"),
        (pen.is_underline(), ";4"),
        (pen.is_inverse(), ";7"),
        (pen.is_strikethrough(), ";9"),
    ] {
        if on {
            out.push_str(code);
        }
    }
    for (colour, code) in [(pen.foreground(), 38), (pen.background(), 48)] {
        let _ = match colour {
            Some(Color::Indexed(n)) => write!(out, ";{code};5;{n}"),
            Some(Color::RGB(c)) => write!(out, ";{code};2;{};{};{}", c.r, c.g, c.b),
            None => Ok(()),
        };
    }
    out.push('m');
}

/// UTF-8 that comes in pieces; what is none becomes U+FFFD.
pub(super) fn decode(partial: &mut Vec<u8>, bytes: &[u8]) -> String {
    partial.extend_from_slice(bytes);
    let mut out = String::with_capacity(partial.len());
    let mut rest = partial.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                partial.clear();
                return out;
            }
            Err(error) => {
                let (text, bad) = rest.split_at(error.valid_up_to());
                out.push_str(std::str::from_utf8(text).unwrap_or_default());
                match error.error_len() {
                    Some(length) => {
                        out.push(UNSAFE);
                        rest = bad.get(length..).unwrap_or_default();
                    }
                    None => {
                        let bad = bad.to_vec();
                        *partial = bad;
                        return out;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What may be written to an auditor's terminal: text, SGR, and with `moves` what the player places it by.
    pub(in crate::cli::replay) fn only_harmless(written: &str, moves: bool) -> Result<(), String> {
        let mut rest = written.chars().peekable();
        while let Some(character) = rest.next() {
            if character != '\x1b' {
                if harmful(character) {
                    return Err(format!("{character:?} in {written:?}"));
                }
                continue;
            }
            let mut sequence = String::new();
            for character in rest.by_ref() {
                sequence.push(character);
                if sequence.len() > 1 && ('@'..='~').contains(&character) {
                    break;
                }
            }
            let parameters = |end: char| {
                sequence
                    .strip_prefix('[')
                    .and_then(|s| s.strip_suffix(end))
                    .is_some_and(|p| p.chars().all(|c| c.is_ascii_digit() || c == ';'))
            };
            let placed = moves
                && (parameters('H') || parameters('K') || matches!(sequence.as_str(), "[?25l" | "[?25h"));
            if !parameters('m') && !placed {
                return Err(format!("{sequence:?} in {written:?}"));
            }
        }
        Ok(())
    }

    fn screen(bytes: &[u8]) -> Vec<String> {
        let mut emulator = Emulator::new((40, 5)).unwrap();
        emulator.feed(bytes);
        (0..5).map(|row| emulator.line(row, 40)).collect()
    }

    fn plain(bytes: &[u8]) -> String {
        screen(bytes)
            .iter()
            .map(|l| anstream::adapter::strip_str(l).to_string().trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What a program may have written to attack whoever looks at it later.
    pub(in crate::cli::replay) const HOSTILE: &[&str] = &[
        "\x1b]52;c;cm0gLXJmIH4=\x07",
        "\x1b]52;c;cm0gLXJmIH4=\x1b\\",
        "\x1b]0;pwned\x07\x1b[21t",
        "\x1b]2;pwned\x1b\\",
        "\x1b]8;;http://evil.example/\x1b\\click\x1b]8;;\x1b\\",
        "\x1b]1337;File=inline=1:AAAA\x07",
        "\x1b]50;#monospace\x07\x1b]10;?\x07\x1b]4;1;?\x07",
        "\x1bPq#0;2;0;0;0\x1b\\",
        "\x1bP$qm\x1b\\\x1bP+q544e\x1b\\",
        "\x1b_Gf=100;AAAA\x1b\\",
        "\x1b^private\x1b\\\x1bXstring\x1b\\",
        "\x05\x1bZ\x1b[c\x1b[>c\x1b[5n\x1b[6n\x1b[?15n\x1b[x",
        "\x1b[5i\x1b[4i\x1b[?5i",
        "\x1b[8;9999;9999t\x1b[3;0;0t\x1b[2t\x1b[20t\x1b[21t",
        "\x1b[?1000h\x1b[?1003h\x1b[?2004h\x1b[?1049h\x1b[?47h\x1b[4h\x1b[20h\x1b[2l",
        "\x1b#8\x1bc\x1b[!p\x1b[?3h\x1b%G\x1b%@\x1b(0lqqk\x0e\x0f",
        "\u{9b}2J\u{9d}0;x\u{9c}\u{90}q\u{9c}\u{85}\u{8d}",
        "\u{202e}evil\u{202c}\u{2066}\u{2069}\u{200b}\u{feff}\u{200f}",
        "\x1b[65535b\x1b[65535@\x1b[65535L\x1b[65535S\x1b[65535X\x1b[99999999999999999999m",
        "a\u{300}\u{301}\u{302}\u{489}\u{20dd}",
        "\x1b[38;5;999m\x1b[38:2::1:2:3m\x1b[;;;;m\x1b[1;2;3;4;5;6;7;8;9m",
        "\x1b[31",
        "\x1b]0;without an end",
    ];

    #[test]
    fn hostile_output_is_shown_and_does_nothing() {
        for attack in HOSTILE {
            for line in screen(format!("before{attack}after\r\n").as_bytes()) {
                only_harmless(&line, false).unwrap();
            }
        }
        assert_eq!(plain(b"one \x1b]52;c;eA==\x07two\r\n\x1b[31mred\x1b[0m"), "one two\nred\n\n\n");
        assert!(screen(b"\x1b[1;31mred")[0].starts_with("\x1b[0;1;38;5;1mred"));
        // bytes as they may come where there is no UTF-8
        for line in screen(&(0..=255).collect::<Vec<u8>>()) {
            only_harmless(&line, false).unwrap();
        }
    }

    #[test]
    fn a_claimed_size_is_not_believed() {
        assert_eq!(sane(0, 0), (80, 24));
        assert_eq!(sane(u32::MAX, u32::MAX), (1000, 1000));
        let mut emulator = Emulator::new((80, 24)).unwrap();
        emulator.feed(b"\x1b[8;60000;60000t");
        assert_eq!(emulator.size(), (80, 24));
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let mut partial = Vec::new();
        let text: String = "größe →".as_bytes().iter().map(|b| decode(&mut partial, &[*b])).collect();
        assert_eq!((text.as_str(), partial.len()), ("größe →", 0));
        assert_eq!(decode(&mut partial, b"a\xff\xfeb\xe2"), "a\u{fffd}\u{fffd}b");
        assert_eq!(decode(&mut partial, b"x"), "\u{fffd}x");
    }

    #[test]
    fn a_transcript_has_every_line_once() {
        let mut emulator = Emulator::new((10, 1)).unwrap();
        let mut lines = emulator.feed(b"$ l\x08\x1b[Kls\r\na  b\r\nlonger than ten\r\n$ ");
        assert_eq!(emulator.unfinished(), "$ ");
        lines.extend(emulator.rest());
        assert_eq!(lines, ["$ ls", "a  b", "longer than ten", "$"]);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..400), attacks in proptest::collection::vec(0..HOSTILE.len(), 0..6), columns in 1usize..50, rows in 1usize..10) {
            let mut emulator = Emulator::new((columns, rows)).unwrap();
            for attack in attacks {
                emulator.feed(HOSTILE[attack].as_bytes());
                emulator.feed(&bytes);
                emulator.resize((rows, columns));
                for row in 0..columns.max(rows) {
                    let harmless = only_harmless(&emulator.line(row, 40), false);
                    prop_assert!(harmless.is_ok(), "{:?}", harmless);
                }
            }
        }
    }
}
