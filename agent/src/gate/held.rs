//! An operation that waits for somebody else, and what is said of permits that can't be met.

use std::sync::Arc;

use ring::digest::{Context as Digest, SHA256};
use sluice_policy::{Decision, Limits, Obligations, Operation, Principal, Refusal, ResourceKind};

use super::approvals::{Shown, State, Waiting};
use super::session::{CachedPermission, Permit};
use super::{EndReason, Gate, Registered, SessionFacts};
use crate::audit;

/// Characters of a reason; what is longer is cut.
const MAX_REASON: usize = 1000;

/// An operation that waits for somebody else. Dropping it withdraws the request.
#[must_use = "dropping it withdraws the request"]
pub struct Held {
    waiting: Waiting,
    gate: Arc<Gate>,
    registered: Arc<Registered>,
    operation: Operation,
    permission: Arc<CachedPermission>,
    reason: Option<Arc<str>>,
    settled: bool,
}

impl Held {
    /// A request that is on record as one.
    ///
    /// # Errors
    /// The refusal: nobody could tell afterwards who asked for what.
    pub(super) fn file(
        waiting: Waiting,
        gate: Arc<Gate>,
        registered: Arc<Registered>,
        operation: &Operation,
        permission: Arc<CachedPermission>,
        reason: Option<Arc<str>>,
    ) -> Result<Self, Refusal> {
        let operation = operation.clone();
        let held = Self { waiting, gate, registered, operation, permission, reason, settled: false };
        match held.tell("requested") {
            Ok(()) => Ok(held),
            Err(error) => {
                let why = format!("the request could not be written to the audit events: {error}");
                let rules = &held.permission.rules;
                Err(refusal(&held.operation, rules, why, "ask the administrator of this host"))
            }
        }
    }

    /// For `sluice approve`.
    pub fn id(&self) -> &str {
        self.waiting.id()
    }

    /// The rules that demand the approval.
    pub fn rules(&self) -> &[String] {
        &self.permission.rules
    }

    /// Where what it would do can be put, for whoever decides.
    pub fn shown(&self) -> Shown {
        self.waiting.shown()
    }

    /// Why it is asked for, where the person said so.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Who has to agree, in words: `1 of group "dba"`.
    pub fn wanted(&self) -> String {
        let approvals = self.permission.obligations.approvals.iter();
        approvals.map(|r| format!("{} of group \"{}\"", r.count, r.group)).collect::<Vec<_>>().join(" and ")
    }

    /// Microseconds since 1970.
    pub fn expires_us(&self) -> i64 {
        self.waiting.expires_us()
    }

    /// Waits for the decision. Cancel safe; what was waited for is judged again, since the policy may have changed
    /// meanwhile.
    ///
    /// # Errors
    /// The refusal: denied, expired, or no longer permitted.
    pub async fn wait(&mut self) -> Result<Permit, Refusal> {
        let state = self.waiting.decided().await;
        self.settled = true;
        if state != State::Approved {
            let _ = self.tell(state.name());
            let by = self.waiting.message().map(|m| m.decision_reason).filter(|r| !r.is_empty());
            let why = match by {
                Some(reason) => format!("the request for approval was {}: {reason}", state.name()),
                None => format!("the request for approval was {}", state.name()),
            };
            return Err(refusal(
                &self.operation,
                &self.permission.rules,
                why,
                "type the statement again to ask again",
            ));
        }
        let current = self.gate.current();
        let subject = current.policy.subject(&self.registered.principal);
        let mut context = self.registered.facts.context.clone();
        context.now_s = super::now_us() / 1_000_000;
        match current.policy.decide(&subject, &self.operation, &context) {
            Decision::Permit(p) if p.obligations.approvals == self.permission.obligations.approvals => {}
            Decision::Permit(_) => {
                let why = "the policy has changed while the request waited".to_owned();
                return Err(refusal(
                    &self.operation,
                    &self.permission.rules,
                    why,
                    "type the statement again",
                ));
            }
            Decision::Refuse(refusal) => return Err(refusal),
        }
        if let Err(error) = self.tell("used") {
            let why = format!("the approval could not be written to the audit events: {error}");
            return Err(refusal(
                &self.operation,
                &self.permission.rules,
                why,
                "ask the administrator of this host",
            ));
        }
        notify(&self.gate, &self.registered, &self.operation, &self.permission, self.reason.as_deref())?;
        Ok(Permit {
            rules: Arc::clone(&self.permission.rules),
            obligations: Arc::clone(&self.permission.obligations),
            approval: Some(self.id().to_owned()),
            timeless: None,
            reason: self.reason.clone(),
        })
    }

    /// The people who have agreed.
    pub fn approved_by(&self) -> Vec<sluice_api::common::Principal> {
        self.waiting.message().map(|m| m.approved_by).unwrap_or_default()
    }

    fn tell(&self, state: &str) -> Result<(), audit::AuditError> {
        let Some(approval) = self.waiting.message() else { return Ok(()) };
        self.gate.audit().record_now(&audit::approval(&approval, state))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.tell("withdrawn");
        }
    }
}

/// Tells those whom the permit names (`@notify`), before it is done. What can't be told is not done.
pub(super) fn notify(
    gate: &Gate,
    registered: &Registered,
    operation: &Operation,
    permission: &CachedPermission,
    reason: Option<&str>,
) -> Result<(), Refusal> {
    if permission.obligations.notify.is_empty() {
        return Ok(());
    }
    let (facts, who) = (&registered.facts, &registered.principal);
    let event =
        audit::alarm(facts, who, operation, &permission.rules, &permission.obligations.notify, reason);
    gate.audit().record_now(&event).map_err(|error| {
        let why = format!("whom the rule names could not be told: {error}");
        refusal(operation, &permission.rules, why, "ask the administrator of this host")
    })
}

/// What to do about an obligation that nothing here can meet.
pub(super) const UNMET: &str =
    "tell whoever keeps the policy of this host: this version of Sluice can't take it there";

/// An obligation that can't be met at all: what it stands on is refused, never let through without it.
pub(super) fn unmet(obligations: &Obligations) -> Option<&'static str> {
    match obligations {
        Obligations { moderators, .. } if !moderators.is_empty() => {
            Some("a moderator (@moderator), which nothing here can wait for")
        }
        _ => None,
    }
}

/// The same, and what a session as a whole can't wait for.
pub(super) fn unmet_by_session(obligations: &Obligations) -> Option<&'static str> {
    match obligations {
        Obligations { reason: true, .. } => Some("a reason (@reason)"),
        Obligations { limits, .. }
            if *limits != (Limits { sessions: limits.sessions, ..Limits::default() }) =>
        {
            Some("a limit (@limit) of what has no rows, bytes or time")
        }
        _ if obligations.approvals.is_empty() => unmet(obligations),
        _ => Some("an approval (@approval)"),
    }
}

/// The same on the host itself, where nobody knows how fresh a login's second factor is.
pub(super) fn unmet_on_host(obligations: &Obligations) -> Option<&'static str> {
    match obligations.mfa_s {
        Some(_) => Some("a second factor (@mfa)"),
        None => unmet_by_session(obligations),
    }
}

/// A refusal of a session whose permit can't be met.
pub(super) fn unmet_session(facts: &SessionFacts, rules: Vec<String>, what: &str) -> Refusal {
    Refusal {
        rules,
        action: "connect".to_owned(),
        resource: facts.target.name.clone(),
        message: format!("the permit to connect demands {what}"),
        hint: UNMET.to_owned(),
    }
}

/// A refusal of a session that would be one too many.
pub(super) fn too_many(facts: &SessionFacts, rules: Vec<String>, most: u64) -> Refusal {
    Refusal {
        rules,
        action: "connect".to_owned(),
        resource: facts.target.name.clone(),
        message: format!("you have {most} sessions at {} already, and may have no more", facts.target.name),
        hint: "end one first; `sluice sessions --live` lists them".to_owned(),
    }
}

/// A reason as it is kept: some words, of a length that people read.
pub(super) fn plain_reason(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    let end = text.char_indices().nth(MAX_REASON).map_or(text.len(), |(at, _)| at);
    let kept = text.get(..end).unwrap_or_default();
    kept.chars().any(char::is_alphanumeric).then(|| kept.into())
}

pub(super) fn needs_nobody(obligations: &Obligations) -> bool {
    obligations.approvals.is_empty() && obligations.moderators.is_empty()
}

pub(super) fn refusal(operation: &Operation, rules: &[String], message: String, hint: &str) -> Refusal {
    Refusal {
        rules: rules.to_vec(),
        action: operation.asks.first().map(|a| a.action.to_owned()).unwrap_or_default(),
        resource: String::new(),
        message,
        hint: hint.to_owned(),
    }
}

pub(super) fn ended(operation: &Operation, reason: &EndReason) -> Refusal {
    refusal(operation, &["session-ended".to_owned()], reason.to_string(), "connect again")
}

/// Binds an approval to what was asked for. Each part goes in with its length, so that no two requests have the
/// same bytes.
pub(super) fn digest(facts: &SessionFacts, who: &Principal, operation: &Operation) -> String {
    let mut digest = Digest::new(&SHA256);
    let mut add = |part: &str| {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    };
    add(&who.issuer);
    add(&who.subject);
    add(&facts.session);
    add(&facts.target.name);
    add(facts.target.user());
    add(&facts.database);
    add(operation.kind);
    add(&operation.text);
    add(&operation.understood);
    for ask in &operation.asks {
        add(ask.action);
        add(resource_kind(ask.resource.kind));
        ask.resource.path.iter().for_each(|p| add(p));
    }
    operation.parameters.iter().for_each(|p| add(p));
    hex::encode(digest.finish())
}

fn resource_kind(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Host => "host",
        ResourceKind::Target => "target",
        ResourceKind::Account => "account",
        ResourceKind::Database => "database",
        ResourceKind::Schema => "schema",
        ResourceKind::Table => "table",
        ResourceKind::Column => "column",
        ResourceKind::Function => "function",
        ResourceKind::Command => "command",
        ResourceKind::Path => "path",
        ResourceKind::Forward => "forward",
    }
}
