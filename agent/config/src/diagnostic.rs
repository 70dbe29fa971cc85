//! What is wrong, where, and what was probably meant.
use std::fmt;

/// One thing that is wrong with a file of `/etc/sluice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, counted from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when it is about the file as a whole.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do, or what was probably meant.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// About the file as a whole (missing, unreadable, writable by others).
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic { file: file.into(), line: 0, column: 0, message: message.into(), hint: None }
    }

    /// About the place `offset` (in bytes) of `text`.
    pub fn at(file: &str, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = position(text, offset);
        Diagnostic { file: file.into(), line, column, message: message.into(), hint: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Line and column (in characters, both from 1) of a byte offset; an offset past the end is the end.
fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}
