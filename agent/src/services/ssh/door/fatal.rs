//! Why there is no session, in words.

use crate::audit::Event;

/// The end of a connection before it was a session.
#[derive(Debug)]
pub(in crate::services::ssh) struct Fatal {
    message: String,
    hint: String,
    detail: String,
    /// Instead of the plain event that somebody was refused.
    pub(super) event: Option<Box<Event>>,
}

impl Fatal {
    /// What is wrong, and what to do.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), detail: String::new(), event: None }
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

    /// Nothing goes on that is not on record.
    pub(super) fn unrecorded(error: &dyn std::fmt::Display) -> Self {
        Self::new(
            "Sluice can't put on record what happens here, so nothing happens",
            "ask the administrator of this host whether its disk is full",
        )
        .detail(error.to_string())
    }

    /// For the log.
    pub(super) fn log(&self) -> String {
        if self.detail.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.message, self.detail)
        }
    }

    /// For the person: one line, or two.
    pub(in crate::services::ssh) fn words(&self) -> Vec<String> {
        [&self.message, &self.hint].into_iter().filter(|line| !line.is_empty()).cloned().collect()
    }
}
