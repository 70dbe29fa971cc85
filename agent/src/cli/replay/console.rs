//! The auditor's terminal: keys in, frames out. It is put back as it was when the console is dropped.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::emulator::Emulator;
use crate::cli::terminal::safe;

/// What somebody pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Pause,
    Back,
    On,
    Slower,
    Faster,
    Quit,
    Other,
}

/// The terminal, with the alternate screen and no echo.
pub(super) struct Console {
    before: Option<Termios>,
    canvas: Canvas,
}

impl Console {
    pub(super) fn open() -> io::Result<Self> {
        let mut before = None;
        if io::stdin().is_terminal() {
            let known = tcgetattr(io::stdin())?;
            let mut raw = known.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
            before = Some(known);
        }
        let console = Self { before, canvas: Canvas::default() };
        write("\x1b[?1049h\x1b[2J")?;
        Ok(console)
    }

    /// Whether there is a keyboard.
    pub(super) fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    /// Shows a screen and a line about it.
    pub(super) fn draw(&mut self, screen: &Emulator, status: &str) -> io::Result<()> {
        let size = tcgetwinsize(io::stdout())?;
        let size = (usize::from(size.ws_col).max(1), usize::from(size.ws_row).max(1));
        let frame = self.canvas.frame(screen, status, size);
        if frame.is_empty() { Ok(()) } else { write(&frame) }
    }

    /// Waits for a key for so long.
    pub(super) fn key(&self, wait: Duration) -> io::Result<Option<Key>> {
        if !self.has_keys() {
            std::thread::sleep(wait);
            return Ok(None);
        }
        let stdin = io::stdin();
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 16];
        let n = stdin.lock().read(&mut bytes)?;
        // a terminal that is gone presses nothing more
        Ok(Some(if n == 0 { Key::Quit } else { key(bytes.get(..n).unwrap_or_default()) }))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = write("\x1b[0m\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The first key of what was read.
fn key(bytes: &[u8]) -> Key {
    match bytes {
        [b' ', ..] => Key::Pause,
        [0x1b, b'[' | b'O', b'D', ..] => Key::Back,
        [0x1b, b'[' | b'O', b'C', ..] => Key::On,
        [b'<' | b'-', ..] => Key::Slower,
        [b'>' | b'+', ..] => Key::Faster,
        [b'q' | b'Q' | 0x03 | 0x04, ..] => Key::Quit,
        _ => Key::Other,
    }
}

/// What stands on the terminal, so that only what changes is written.
#[derive(Default)]
pub(super) struct Canvas {
    size: (usize, usize),
    lines: Vec<String>,
}

impl Canvas {
    /// What has to be written to show this screen, and below it the status.
    pub(super) fn frame(&mut self, screen: &Emulator, status: &str, size: (usize, usize)) -> String {
        let (columns, rows) = size;
        let view = rows.saturating_sub(1);
        if self.size != size {
            self.size = size;
            self.lines = vec!["\0".to_owned(); rows];
        }
        let (_, height) = screen.size();
        let cursor = screen.cursor();
        // a smaller window shows the part that the cursor is in
        let first =
            if height <= view { 0 } else { (cursor.map_or(height, |(_, row)| row + 1)).saturating_sub(view) };
        let mut out = String::new();
        for row in 0..rows {
            let line = if row < view {
                screen.line(first + row, columns)
            } else {
                format!("\x1b[0;7m{}", safe(status).chars().take(columns).collect::<String>())
            };
            if let Some(before) = self.lines.get_mut(row).filter(|before| **before != line) {
                out.push_str(&format!("\x1b[{};1H\x1b[0m\x1b[K{line}\x1b[0m", row + 1));
                *before = line;
            }
        }
        let place = cursor.filter(|(column, row)| *column < columns && (first..first + view).contains(row));
        if !out.is_empty() {
            match place {
                Some((column, row)) => {
                    out.push_str(&format!("\x1b[{};{}H\x1b[?25h", row - first + 1, column + 1));
                }
                None => out.push_str("\x1b[?25l"),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::emulator::tests::{HOSTILE, only_harmless};
    use super::*;

    #[test]
    fn frames_have_nothing_of_the_recording_but_what_it_showed() {
        let mut screen = Emulator::new((30, 6)).unwrap();
        let mut canvas = Canvas::default();
        for (n, attack) in HOSTILE.iter().enumerate() {
            screen.feed(attack.as_bytes());
            let frame = canvas.frame(&screen, attack, (20 + n % 20, 4 + n % 4));
            only_harmless(&frame, true).unwrap();
        }
    }

    #[test]
    fn only_what_changes_is_written() {
        let mut screen = Emulator::new((10, 3)).unwrap();
        let mut canvas = Canvas::default();
        screen.feed(b"one\r\ntwo");
        assert!(canvas.frame(&screen, "s", (10, 4)).contains("one"));
        assert_eq!(canvas.frame(&screen, "s", (10, 4)), "");
        screen.feed(b"!");
        let frame = canvas.frame(&screen, "s", (10, 4));
        assert!(
            frame.contains("two!") && !frame.contains("one") && frame.ends_with("\x1b[2;5H\x1b[?25h"),
            "{frame:?}"
        );
        // a window that is too low shows where the cursor is
        assert!(!canvas.frame(&screen, "s", (10, 2)).contains("one"));
    }

    #[test]
    fn keys() {
        let pressed = [" ", "\x1b[D", "\x1bOC", "q", "\x03", "x", "\x1b", ">"].map(|k| key(k.as_bytes()));
        use Key::{Back, Faster, On, Other, Pause, Quit};
        assert_eq!(pressed, [Pause, Back, On, Quit, Quit, Other, Other, Faster]);
    }
}
