//! Operations that a session may repeat without the policy being asked again.
//!
//! Enters: a permit that was given without looking at the clock and without anybody's approval. Leaves: the same permit
//! for the same operation, as long as the same policy stands. Must hold: whoever keeps a [`Repeatable`] uses it for the
//! operation that it was given for and for nothing else; a session that has ended gets nothing.
use std::sync::Arc;

use sluice_policy::Obligations;

use super::session::{GatedSession, Permit};

/// That an operation was permitted, and would be again.
#[derive(Clone, Debug)]
pub struct Repeatable {
    generation: u64,
    rules: Arc<[String]>,
    obligations: Arc<Obligations>,
}

impl Permit {
    /// What lets the same operation through again; `None` where each time has to be judged by itself.
    pub fn repeatable(&self) -> Option<Repeatable> {
        let generation = self.timeless.filter(|_| self.approval.is_none())?;
        Some(Repeatable {
            generation,
            rules: Arc::clone(&self.rules),
            obligations: Arc::clone(&self.obligations),
        })
    }
}

impl GatedSession {
    /// Permits what was permitted before; `None` where it has to be judged anew.
    pub fn again(&self, permitted: &Repeatable) -> Option<Permit> {
        let may = permitted.generation == self.generation() && !self.has_ended();
        may.then(|| Permit {
            rules: Arc::clone(&permitted.rules),
            obligations: Arc::clone(&permitted.obligations),
            approval: None,
            timeless: Some(permitted.generation),
            reason: None,
        })
    }
}
