//! The policy as it was loaded, and who it is applied to.
use crate::{Ask, Context, DEFAULT_DENY, Decision, Diagnostic, Explanation, Operation, Principal, Refusal};

/// A file of policies.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What diagnostics call it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// Rules, parsed and checked once.
#[derive(Debug)]
pub struct Policy {
    digest: String,
}

/// A principal made ready to be judged; built once a session.
#[derive(Clone, Debug)]
pub struct Subject {
    principal: Principal,
}

impl Subject {
    /// Whom it stands for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl Policy {
    /// Parses and checks every source; on error all that could be found.
    pub fn load(_sources: &[Source<'_>]) -> Result<Policy, Vec<Diagnostic>> {
        Ok(Policy { digest: String::new() })
    }

    /// SHA-256, in hex, over names and texts of all sources: which policy this is.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The entities of `principal`.
    pub fn subject(&self, principal: &Principal) -> Subject {
        Subject { principal: principal.clone() }
    }

    /// Judges `operation`: every ask must be permitted.
    pub fn decide(&self, subject: &Subject, operation: &Operation, context: &Context) -> Decision {
        self.explain(subject, operation, context).decision
    }

    /// Judges a single ask that belongs to no operation (`approve`, `replay`, `events`, `unmask`).
    pub fn may(&self, _subject: &Subject, ask: &Ask, _context: &Context) -> Decision {
        Decision::Refuse(Refusal {
            rules: vec![DEFAULT_DENY.into()],
            action: ask.action.into(),
            resource: ask.resource.to_string(),
            message: "the engine lands in the next commit".into(),
            hint: String::new(),
        })
    }

    /// The decision, ask by ask.
    pub fn explain(&self, _subject: &Subject, _operation: &Operation, _context: &Context) -> Explanation {
        Explanation {
            decision: Decision::Refuse(Refusal {
                rules: vec![DEFAULT_DENY.into()],
                action: String::new(),
                resource: String::new(),
                message: "the engine lands in the next commit".into(),
                hint: String::new(),
            }),
            asks: Vec::new(),
        }
    }

    /// Whether no rule looks at the time: then a decision may be kept.
    pub fn timeless(&self) -> bool {
        false
    }
}
