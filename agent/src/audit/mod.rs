//! Audit events.
use sluice_api::admin;
use sluice_policy::{Operation, Principal, Refusal};

use crate::gate::SessionFacts;

/// An event.
#[derive(Debug, Clone)]
pub struct Event;
/// Why an event is not on record.
#[derive(Debug, thiserror::Error)]
#[error("the audit event could not be written")]
pub struct AuditError;
/// The events of this host.
pub struct Audit;
impl Audit {
    /// Writes the event before it returns.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn record_now(&self, _event: &Event) -> Result<(), AuditError> {
        Err(AuditError)
    }
}
/// The gate said no.
pub fn refused(_facts: &SessionFacts, _who: &Principal, _operation: &Operation, _refusal: &Refusal) -> Event {
    Event
}
/// A request for approval, and what became of it.
pub fn approval(_approval: &admin::Approval, _state: &str) -> Event {
    Event
}
