//! Questions on a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::super::Failure;
use super::super::terminal::safe;

/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;
/// No secret is longer.
const LONGEST: u64 = 64 << 10;

/// The terminal of whoever runs this, if there is one: also where standard input is something else.
pub(super) struct Asker {
    terminal: Option<File>,
}

impl Asker {
    /// Asks nothing yet. Where standard input is no terminal, nobody is asked: this is a script.
    pub(super) fn new() -> Self {
        let here = io::IsTerminal::is_terminal(&io::stdin());
        let terminal = here.then(|| OpenOptions::new().read(true).write(true).open("/dev/tty"));
        Self { terminal: terminal.and_then(Result::ok) }
    }

    /// The flag's value, or the answer; an empty one means the default.
    pub(super) fn text(
        &self,
        given: Option<String>,
        flag: &str,
        question: &str,
        default: Option<&str>,
    ) -> Result<String, Failure> {
        if let Some(given) = given {
            return Ok(given);
        }
        let Some(terminal) = &self.terminal else {
            return default.map(str::to_owned).ok_or_else(|| {
                Failure::Failed(format!("{flag} is missing, and there is no terminal to ask on"))
            });
        };
        loop {
            let shown = default.map(|default| format!(" [{}]", safe(default))).unwrap_or_default();
            prompt(terminal, &format!("{question}{shown}: "))?;
            let answer = line(terminal)?;
            match (answer.trim(), default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) => {}
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }

    /// Yes or no; no where nobody can be asked.
    pub(super) fn yes(&self, question: &str, default: bool) -> Result<bool, Failure> {
        let Some(terminal) = &self.terminal else { return Ok(false) };
        loop {
            prompt(terminal, &format!("{question} [{}]: ", if default { "Y/n" } else { "y/N" }))?;
            match line(terminal)?.trim().to_ascii_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => {}
            }
        }
    }

    /// The first line of the file, or an answer that is not shown; `None` for an empty one, and where nobody can be
    /// asked.
    pub(super) fn secret(
        &self,
        file: Option<&Path>,
        question: &str,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        let text = match (file, &self.terminal) {
            (Some(path), _) if path == Path::new("-") => first_line(io::stdin().lock())?,
            (Some(path), _) => {
                let at = |e: io::Error| Failure::Failed(format!("{}: {e}", path.display()));
                first_line(File::open(path).map_err(at)?).map_err(at)?
            }
            (None, Some(terminal)) => {
                // before the question: who answers at once is not shown either
                let hidden = Hidden::new(terminal)?;
                prompt(terminal, &format!("{question}: "))?;
                let answer = line(terminal);
                drop(hidden);
                prompt(terminal, "\n")?;
                answer?
            }
            (None, None) => return Ok(None),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return if file.is_some() {
                Err(Failure::Failed("the file with the secret is empty".into()))
            } else {
                Ok(None)
            };
        }
        Ok(Some(Zeroizing::new(format!("{text}\n"))))
    }
}

fn prompt(mut terminal: &File, text: &str) -> io::Result<()> {
    terminal.write_all(text.as_bytes())
}

/// A line; its end is another one where somebody has had enough.
fn line(mut terminal: &File) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut byte = [0];
    while bytes.len() < LONGEST as usize && terminal.read(&mut byte)? == 1 && byte[0] != INTERRUPT {
        bytes.push(byte[0]);
        if byte[0] == b'\n' {
            let text = std::str::from_utf8(&bytes).map_err(|_| Failure::Failed("not UTF-8".into()))?;
            return Ok(Zeroizing::new(text.to_owned()));
        }
    }
    Err(Failure::Failed("no answer".into()))
}

fn first_line(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    BufReader::with_capacity(1, from.take(LONGEST)).read_line(&mut text)?;
    Ok(text)
}

/// What is typed is not shown as long as this lives.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        // a signal would end us with the terminal still silent: Ctrl-C ends the line instead
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_a_secret_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let asker = Asker { terminal: None };
        std::fs::write(&path, "pä ss\r\nmore").unwrap();
        let secret = asker.secret(Some(&path), "").ok().flatten().unwrap();
        assert_eq!(*secret, "pä ss\n");
        std::fs::write(&path, "\n").unwrap();
        assert!(asker.secret(Some(&path), "").is_err());
        assert!(asker.secret(None, "").is_ok_and(|none| none.is_none()));
        assert!(asker.text(None, "--issuer", "", None).is_err());
        assert!(asker.text(None, "--group", "", Some("staff")).is_ok_and(|text| text == "staff"));
    }
}
