//! The recorder's session as the relay's [`Tape`].

use sluice_api::record::entry::Entry;

use super::relay::Tape;
use crate::recorder::{RecorderError, Released, SessionRecording};

fn words(error: RecorderError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

impl Tape for SessionRecording {
    fn entry(&mut self, entry: Entry) {
        match entry {
            // counts and digest are the recorder's to fill in
            Entry::Completed(completed) => self.completed(completed),
            entry => SessionRecording::entry(self, entry),
        }
    }

    fn operation_again(&mut self, id: u64, text: &str, parameters: &[String], rest: &[u8]) {
        SessionRecording::operation_again(self, id, text, parameters, rest);
    }

    fn result_again(&mut self, operation: u64, rest: &[u8]) {
        SessionRecording::result_again(self, operation, rest);
    }

    fn rows(&mut self, operation: u64, rows: &[u8], count: u64) {
        SessionRecording::rows(self, operation, rows, count);
    }

    fn stream(&mut self, operation: u64, bytes: &[u8], upstream: bool) {
        SessionRecording::stream(self, operation, bytes, upstream);
    }

    fn commit<'a>(&mut self, bytes: &'a [u8], upstream: bool) -> Result<&'a [u8], String> {
        // the relay gives here what the gate permitted, or what masking has made
        let released = if upstream { Released::permitted(bytes) } else { Released::masked(bytes) };
        SessionRecording::commit(self, released).map(|recorded| recorded.bytes()).map_err(words)
    }

    async fn commit_strict(&mut self) -> Result<(), String> {
        SessionRecording::commit_strict(self, Released::own(&[])).await.map(drop).map_err(words)
    }

    fn close(self, reason: &str) {
        SessionRecording::close(self, reason);
    }
}
