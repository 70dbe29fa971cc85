//! ErrorResponse and NoticeResponse: a list of fields, each with one letter.
use std::borrow::Cow;

use super::frame::{Fields, InvalidMessage};
use super::write;

/// Letters of the fields, from the protocol's documentation ("Error and Notice Message Fields").
pub mod field {
    /// Severity in the server's language.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated.
    pub const SEVERITY_PLAIN: u8 = b'V';
    /// SQLSTATE.
    pub const CODE: u8 = b'C';
    /// The message proper.
    pub const MESSAGE: u8 = b'M';
    /// More about the problem; may quote values.
    pub const DETAIL: u8 = b'D';
    /// What to do.
    pub const HINT: u8 = b'H';
    /// Call stack of functions; may quote values and statements.
    pub const WHERE: u8 = b'W';
    /// A statement that the server ran on its own account.
    pub const INTERNAL_QUERY: u8 = b'q';
}

/// SQLSTATE codes that Sluice itself answers with.
pub mod code {
    /// insufficient_privilege: a refusal.
    pub const REFUSED: &str = "42501";
    /// query_canceled: a held statement was withdrawn.
    pub const CANCELED: &str = "57014";
    /// admin_shutdown: the session was ended.
    pub const ENDED: &str = "57P01";
    /// disk_full: nothing can be recorded, so nothing passes.
    pub const RECORDER: &str = "53100";
    /// protocol_violation.
    pub const PROTOCOL: &str = "08P01";
    /// connection_failure: the upstream went away.
    pub const UPSTREAM: &str = "08006";
    /// program_limit_exceeded: too large to be judged or masked.
    pub const LIMIT: &str = "54000";
    /// character_not_in_repertoire: text that is not UTF-8.
    pub const ENCODING: &str = "22021";
    /// feature_not_supported.
    pub const UNSUPPORTED: &str = "0A000";
    /// invalid_authorization_specification.
    pub const AUTHORIZATION: &str = "28000";
    /// too_many_connections.
    pub const TOO_MANY: &str = "53300";
}

/// The fields of an error or a notice, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report<'a> {
    fields: Vec<(u8, Cow<'a, str>)>,
}

impl<'a> Report<'a> {
    /// Of our own making: `severity` is ERROR, FATAL, NOTICE …, `code` a SQLSTATE.
    pub fn new(severity: &'a str, code: &'a str, message: impl Into<Cow<'a, str>>) -> Self {
        Self {
            fields: vec![
                (field::SEVERITY, severity.into()),
                (field::SEVERITY_PLAIN, severity.into()),
                (field::CODE, code.into()),
                (field::MESSAGE, message.into()),
            ],
        }
    }

    /// Adds a field; an empty value adds nothing.
    #[must_use]
    pub fn with(mut self, letter: u8, value: impl Into<Cow<'a, str>>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.fields.push((letter, value));
        }
        self
    }

    /// Adds DETAIL.
    #[must_use]
    pub fn detail(self, value: impl Into<Cow<'a, str>>) -> Self {
        self.with(field::DETAIL, value)
    }

    /// Adds HINT.
    #[must_use]
    pub fn hint(self, value: impl Into<Cow<'a, str>>) -> Self {
        self.with(field::HINT, value)
    }

    /// Reads the body of an ErrorResponse or NoticeResponse. Bytes that are not UTF-8 (a server speaks in its
    /// own encoding until the session has one) become U+FFFD.
    ///
    /// # Errors
    /// A field without its zero byte, a missing terminator, bytes behind it.
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut rest = Fields::new(body);
        let mut fields = Vec::with_capacity(12);
        loop {
            match rest.byte("field of an error")? {
                0 => break,
                letter => fields.push((letter, String::from_utf8_lossy(rest.string("field of an error")?))),
            }
        }
        rest.end("error")?;
        Ok(Self { fields })
    }

    /// The value of the first field with this letter.
    pub fn get(&self, letter: u8) -> Option<&str> {
        self.fields.iter().find(|(l, _)| *l == letter).map(|(_, v)| v.as_ref())
    }

    /// SQLSTATE, or nothing.
    pub fn code(&self) -> &str {
        self.get(field::CODE).unwrap_or_default()
    }

    /// The message proper, or nothing.
    pub fn message(&self) -> &str {
        self.get(field::MESSAGE).unwrap_or_default()
    }

    /// Severity in English where the server says it, else in its own words.
    pub fn severity(&self) -> &str {
        self.get(field::SEVERITY_PLAIN).or_else(|| self.get(field::SEVERITY)).unwrap_or_default()
    }

    /// Each field in turn may be replaced; `None` takes it out.
    pub fn rewrite(&mut self, mut each: impl FnMut(u8, &str) -> Rewrite) {
        self.fields.retain_mut(|(letter, value)| match each(*letter, value) {
            Rewrite::Keep => true,
            Rewrite::Remove => false,
            Rewrite::Replace(text) => {
                *value = Cow::Owned(text);
                true
            }
        });
    }

    /// Appends an ErrorResponse.
    pub fn write_error(&self, out: &mut Vec<u8>) {
        self.write(b'E', out);
    }

    /// Appends a NoticeResponse.
    pub fn write_notice(&self, out: &mut Vec<u8>) {
        self.write(b'N', out);
    }

    fn write(&self, kind: u8, out: &mut Vec<u8>) {
        write::message(kind, out, |out| {
            for (letter, value) in &self.fields {
                out.push(*letter);
                write::string(value, out);
            }
            out.push(0);
        });
    }
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
    /// It says this instead.
    Replace(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let report = Report::new("ERROR", code::REFUSED, "refused by rule \"x\"").detail("d").hint("");
        let mut out = Vec::new();
        report.write_error(&mut out);
        assert_eq!(out[0], b'E');
        let again = Report::parse(&out[5..]).unwrap();
        assert_eq!(again, report);
        assert_eq!((again.code(), again.severity(), again.get(b'H')), ("42501", "ERROR", None));
        for end in 5..out.len() {
            assert!(Report::parse(&out[5..end]).is_err());
        }
    }

    #[test]
    fn a_zero_byte_can_not_forge_a_field() {
        let mut out = Vec::new();
        Report::new("ERROR", "42501", "a\0Cforged").write_error(&mut out);
        assert_eq!(Report::parse(&out[5..]).unwrap().message(), "aCforged");
    }
}
