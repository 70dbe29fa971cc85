//! Everything after a session is established, until it ends.
//!
//! Enters: both legs past their ReadyForQuery ([`Established`]). Leaves: why the session ended. Must hold: nothing
//! goes to the target that the gate did not permit; nothing goes to the client that did not pass masking; both are
//! on record before they go. What a message means is decided in [`machine`], which knows no socket; [`pump`] moves
//! the bytes.
//!
//! **Refusals.** In the place of a refused message the target gets one that is bound to fail, and the client gets
//! our words in the place of the target's error. So the answers come in their order, a pipeline is skipped up to its
//! Sync, and the transaction that was open has failed, all by the target itself: the status that the client sees is
//! never one that we made up.
//!
//! **Names and settings.** Verdicts depend on search_path, role, prepared statements and cursors. A statement that may
//! change one of them is a barrier: nothing behind it is judged before the target has answered, and where the path
//! may be another the target is asked for it.
mod back;
mod budget;
mod execution;
mod front;
mod known;
mod machine;
mod mask;
mod pump;
mod tell;
mod understand;

#[cfg(test)]
mod tests;

use std::future::Future;

use sluice_api::record;

use super::Established;

/// A recording, as the relay sees it.
pub trait Tape: Send + 'static {
    /// Something that happened; in the next commit.
    fn entry(&mut self, entry: record::entry::Entry);
    /// An operation of which everything but number, text and parameters (`rest`) stands encoded already, as
    /// [`record::Operation`].
    fn operation_again(&mut self, id: u64, text: &str, parameters: &[String], rest: &[u8]);
    /// A [`record::Result`] of which everything but the operation's number stands encoded already.
    fn result_again(&mut self, operation: u64, rest: &[u8]);
    /// Rows as the client gets them: int32 length, int16 number of values, the values.
    fn rows(&mut self, operation: u64, rows: &[u8], count: u64);
    /// A piece of a COPY.
    fn stream(&mut self, operation: u64, bytes: &[u8], upstream: bool);
    /// One write of everything said so far; then `bytes` may go.
    ///
    /// # Errors
    /// In words that may be shown; the session has to end.
    fn commit<'a>(&mut self, bytes: &'a [u8], upstream: bool) -> Result<&'a [u8], String>;
    /// The same, on the disk when it returns.
    ///
    /// # Errors
    /// As [`Tape::commit`].
    fn commit_strict(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// The session has ended.
    fn close(self, reason: &str);
}

/// Carries a session to its end. Returns why it ended, for the log and the audit.
pub async fn relay<R: Tape>(established: Established<R>) -> String {
    pump::run(established).await.to_string()
}
