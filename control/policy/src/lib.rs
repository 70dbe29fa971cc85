//! Who may do what, and under which obligations.
//!
//! What enters: Cedar policies ([`Source`]), a [`Principal`], an [`Operation`] with everything that it asks for, and
//! the [`Context`] of the session. What leaves: a [`Decision`].
//! What must hold: no IO, no clock, no protocol is known here; nothing is permitted that no rule permits; what can't
//! be judged (an action that the schema does not know, a path of the wrong shape, a rule that fails) is refused.
mod cases;
mod decision;
mod diagnostic;
mod digest;
mod load;
mod operation;
mod place;
mod policy;
mod schema;

pub use cases::{CaseOutcome, Report, run_cases};
pub use decision::{
    ApprovalRule, AskAnswer, DEFAULT_DENY, Decision, Effect, Explanation, Limits, Obligations, Permission,
    Refusal,
};
pub use diagnostic::Diagnostic;
pub use operation::{Ask, Context, Feature, Operation, Principal, Resource, ResourceKind};
pub use policy::{Policy, Source, Subject};
pub use schema::{ACTIONS, FEATURES, Neutral, SCHEMA};

#[cfg(test)]
mod tests;
