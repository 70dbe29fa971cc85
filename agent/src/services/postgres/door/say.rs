//! Why there is no session, in words.

use sluice_protocol::postgres::wire::Report;

use crate::audit::Event;

/// The end of a connection before it was a session.
#[derive(Debug)]
pub(super) struct Fatal {
    code: String,
    message: String,
    hint: String,
    detail: String,
    /// Instead of the plain event that somebody was refused.
    pub(super) event: Option<Box<Event>>,
}

impl Fatal {
    /// SQLSTATE, what is wrong, and what to do.
    pub(super) fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: hint.into(),
            detail: String::new(),
            event: None,
        }
    }

    /// More for the log; the client does not see it.
    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// With an event of its own.
    pub(super) fn event(mut self, event: Event) -> Self {
        self.event = Some(Box::new(event));
        self
    }

    /// For the log.
    pub(super) fn log(&self) -> String {
        if self.detail.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.message, self.detail)
        }
    }

    /// As an ErrorResponse.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut report = Report::new("FATAL", &self.code, self.message.as_str());
        if !self.hint.is_empty() {
            report = report.hint(self.hint.as_str());
        }
        report.write_error(out);
    }
}
