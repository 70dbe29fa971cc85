//! One open session at the gate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use sluice_policy::{
    Ask, Context, Decision, Explanation, Feature, Obligations, Operation, Permission, Principal, Refusal,
    Resource,
};

use super::approvals::Request;
use super::grants::needing;
use super::held::{Held, UNMET, digest, ended, needs_nobody, notify, plain_reason, refusal, unmet};
use super::moderation::Presence;
use super::{EndReason, Gate, Known, Registered, SessionFacts, connect_ask};
use crate::identity::Verified;
use crate::{audit, metrics};

/// A cache of decisions larger than this is dropped: the statements of this session don't repeat.
const MAX_CACHED: usize = 512;
/// What to do where a second factor is missing or old.
const LOG_IN_AGAIN: &str =
    "run `sluice login` again, with your second factor (or bring a new token), and connect again";

/// The right to do one operation, once.
#[must_use]
pub struct Permit {
    pub(super) rules: Arc<[String]>,
    pub(super) obligations: Arc<Obligations>,
    /// Who granted it, where somebody had to.
    pub(super) approval: Option<String>,
    /// The policy that would say the same at any time.
    pub(super) timeless: Option<u64>,
    /// Why the person does it, where the permit demanded that he says so.
    pub(super) reason: Option<Arc<str>>,
}

impl Permit {
    /// The rules that permitted it.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// What has to be kept while it is done.
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The approval that was used up by it.
    pub fn approval(&self) -> Option<&str> {
        self.approval.as_deref()
    }

    /// The reason that it demanded and was given.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What a service can do about the obligations of a permit.
pub struct Means<'a> {
    /// The reason that stands with the operation itself; looked for only where it is needed.
    pub stated: &'a dyn Fn() -> Option<String>,
    /// What to do, for whoever gave none.
    pub how: &'static str,
    /// It keeps `@limit`: rows, bytes and time.
    pub limits: bool,
}

/// What the gate says to an operation.
#[must_use]
pub enum Outcome {
    /// Go on.
    Permit(Permit),
    /// Somebody else has to agree first.
    Hold(Held),
    /// No.
    Refuse(Refusal),
}

pub(super) struct CachedPermission {
    pub(super) rules: Arc<[String]>,
    pub(super) obligations: Arc<Obligations>,
    /// The generation of a policy that looks at no clock.
    timeless: Option<u64>,
}

/// What the decision on an operation depends on, as long as no policy looks at the clock.
#[derive(Hash, PartialEq, Eq)]
struct CacheKey {
    kind: &'static str,
    asks: Vec<(&'static str, Resource)>,
    features: BTreeMap<&'static str, Feature>,
}

#[derive(Default)]
struct Cache {
    generation: u64,
    permitted: HashMap<CacheKey, Arc<CachedPermission>>,
}

/// A session that policy has let in. Dropping it takes it out of the register.
pub struct GatedSession {
    gate: Arc<Gate>,
    key: u64,
    registered: Arc<Registered>,
    known: Mutex<Arc<Known>>,
    cache: Mutex<Cache>,
    presence: Option<Presence>,
    /// What the person has said for all that follows.
    reason: Mutex<Option<Arc<str>>>,
}

impl GatedSession {
    pub(super) fn new(gate: Arc<Gate>, key: u64, registered: Arc<Registered>) -> Self {
        let current = gate.current();
        let known =
            Known { generation: current.generation, subject: current.policy.subject(&registered.principal) };
        let known = Mutex::new(Arc::new(known));
        Self {
            gate,
            key,
            registered,
            known,
            cache: Mutex::default(),
            presence: None,
            reason: Mutex::default(),
        }
    }

    /// Somebody of each of these groups has to be present.
    pub(super) fn demand(&mut self, groups: &[String]) {
        if !groups.is_empty() {
            self.presence = Some(self.gate.moderation().demand(self.id(), self.principal(), groups));
        }
    }

    /// Whether the moderators whom the permit demands are there; `None` where it demands none. Nothing passes, in
    /// either direction, while they are not.
    pub fn presence(&self) -> Option<Presence> {
        self.presence.clone()
    }

    /// The session's id.
    pub fn id(&self) -> &str {
        &self.registered.facts.session
    }

    /// Who it belongs to.
    pub fn principal(&self) -> &Verified<Principal> {
        &self.registered.principal
    }

    /// What is known of it.
    pub fn facts(&self) -> &SessionFacts {
        &self.registered.facts
    }

    /// Judges an operation for which nobody can say why. Whoever gets a [`Outcome::Permit`] may do it once.
    pub fn judge(&self, operation: &Operation) -> Outcome {
        self.judge_with(operation, &Means { stated: &|| None, how: UNMET, limits: false })
    }

    /// Judges an operation. Whoever gets a [`Outcome::Permit`] may do it once.
    pub fn judge_with(&self, operation: &Operation, means: &Means<'_>) -> Outcome {
        let outcome = self.outcome(operation, means);
        match &outcome {
            Outcome::Permit(_) => metrics::PERMITTED.add(1),
            Outcome::Hold(_) => metrics::HELD.add(1),
            Outcome::Refuse(_) => metrics::REFUSED.add(1),
        }
        outcome
    }

    fn outcome(&self, operation: &Operation, means: &Means<'_>) -> Outcome {
        if let Some(reason) = self.registered.end.borrow().as_ref() {
            return Outcome::Refuse(ended(operation, reason));
        }
        let decided = self.decide(operation).and_then(|permission| {
            let limits = permission.obligations.limits;
            if limits.sessions.is_some() || !(means.limits || limits.is_none()) {
                let why = "its permit demands a limit (@limit) that can't be kept here".to_owned();
                return Err(refusal(operation, &permission.rules, why, UNMET));
            }
            if let Some(what) = self.unmet_factor(&permission.obligations) {
                let why = format!("its permit demands {what}");
                return Err(refusal(operation, &permission.rules, why, LOG_IN_AGAIN));
            }
            let reason = self.reason_for(operation, &permission, means)?;
            Ok((permission, reason))
        });
        let decided = decided.and_then(|(permission, reason)| {
            let grant = self.granted_before(operation, &permission);
            if !needs_nobody(&permission.obligations) && grant.is_none() {
                return Ok(self.hold(operation, permission, reason));
            }
            self.permit(operation, &permission, reason, grant).map(Outcome::Permit)
        });
        match decided {
            Ok(outcome) => outcome,
            Err(refusal) => {
                if let Err(error) = self.gate.audit().record_now(&audit::refused(
                    &self.registered.facts,
                    self.principal(),
                    operation,
                    &refusal,
                )) {
                    tracing::error!(%error, "a refusal could not be written to the audit events");
                }
                Outcome::Refuse(refusal)
            }
        }
    }

    /// What `@mfa` demands and the login of this session does not have (any more).
    pub(super) fn unmet_factor(&self, obligations: &Obligations) -> Option<&'static str> {
        let within = i64::try_from(obligations.mfa_s?).unwrap_or(i64::MAX);
        let age = self.principal().second_factor_s().map(|at| super::now_us() / 1_000_000 - at);
        let fresh = age.is_some_and(|age| age <= within);
        (!fresh).then_some("a second factor that was asked for lately (@mfa)")
    }

    /// Says why all that follows is done, or takes that back. It is the person's word: kept, shown and judged by nobody.
    pub fn say_why(&self, reason: Option<&str>) {
        *self.reason.lock() = reason.and_then(plain_reason);
    }

    /// The reason of an operation whose permit demands one, or the refusal that asks for it. What is said otherwise
    /// goes with a request for approval.
    fn reason_for(
        &self,
        operation: &Operation,
        permission: &CachedPermission,
        means: &Means<'_>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let obligations = &permission.obligations;
        if !obligations.reason && obligations.approvals.is_empty() {
            return Ok(None);
        }
        let stated = (means.stated)().as_deref().and_then(plain_reason);
        let reason = stated.or_else(|| self.reason.lock().clone());
        if obligations.reason && reason.is_none() {
            let why = "it is permitted to whoever says why, and no reason was given".to_owned();
            return Err(refusal(operation, &permission.rules, why, means.how));
        }
        Ok(reason)
    }

    /// Whether [`GatedSession::judge`] would refuse: nothing is filed and no event is written. A permit is no part of
    /// the answer.
    pub fn would_refuse(&self, operation: &Operation) -> bool {
        let unmet = |permission: Arc<CachedPermission>| self.unmet_factor(&permission.obligations).is_some();
        self.has_ended() || self.decide(operation).map_or(true, unmet)
    }

    /// May values of this column be shown in clear?
    pub fn may_unmask(&self, column: &Resource) -> bool {
        let ask = Ask { action: "unmask", resource: column.clone() };
        let current = self.gate.current();
        let known = self.known(&current);
        let decision = current.policy.may(&known.subject, &ask, &self.context());
        // an unmasking with an approval has no place to wait in: it stays masked
        matches!(decision, Decision::Permit(permission)
            if needs_nobody(&permission.obligations) && self.unmet_factor(&permission.obligations).is_none())
    }

    /// Changes when decisions that were kept have to be taken again.
    pub fn generation(&self) -> u64 {
        self.gate.generation()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.registered.end.borrow().is_some()
    }

    /// Waits until the session has to end. Cancel safe.
    pub async fn ended(&self) -> EndReason {
        let mut end = self.registered.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(EndReason::Shutdown),
            // the sender lives in the register entry that `self` holds
            Err(_) => EndReason::Shutdown,
        }
    }

    /// Ends the session: its login has ended.
    pub fn login_ended(&self, why: String) {
        self.registered.end.send_replace(Some(EndReason::LoginEnded(why)));
    }

    pub(super) fn may_connect(&self) -> Decision {
        let facts = &self.registered.facts;
        let current = self.gate.current();
        let known = self.known(&current);
        current.policy.may(&known.subject, &connect_ask(facts), &self.context())
    }

    fn context(&self) -> Context {
        let mut context = self.registered.facts.context.clone();
        context.now_s = super::now_us() / 1_000_000;
        context
    }

    fn known(&self, current: &super::Current) -> Arc<Known> {
        let mut known = self.known.lock();
        if known.generation != current.generation {
            let subject = current.policy.subject(&self.registered.principal);
            *known = Arc::new(Known { generation: current.generation, subject });
        }
        Arc::clone(&known)
    }

    fn decide(&self, operation: &Operation) -> Result<Arc<CachedPermission>, Refusal> {
        let current = self.gate.current();
        let key = current.policy.timeless().then(|| CacheKey {
            kind: operation.kind,
            asks: operation.asks.iter().map(|a| (a.action, a.resource.clone())).collect(),
            features: operation.features.clone(),
        });
        if let Some(found) = key.as_ref().and_then(|key| self.cached(current.generation, key)) {
            return Ok(found);
        }
        let known = self.known(&current);
        match current.policy.decide(&known.subject, operation, &self.context()) {
            Decision::Permit(Permission { rules, obligations, .. }) => {
                if let Some(what) = unmet(&obligations) {
                    return Err(refusal(operation, &rules, format!("its permit demands {what}"), UNMET));
                }
                let found = Arc::new(CachedPermission {
                    rules: rules.into(),
                    obligations: Arc::new(obligations),
                    timeless: key.is_some().then_some(current.generation),
                });
                if let Some(key) = key {
                    let mut cache = self.cache.lock();
                    if cache.permitted.len() >= MAX_CACHED {
                        cache.permitted.clear();
                    }
                    cache.permitted.insert(key, Arc::clone(&found));
                }
                Ok(found)
            }
            Decision::Refuse(refusal) => Err(refusal),
        }
    }

    fn cached(&self, generation: u64, key: &CacheKey) -> Option<Arc<CachedPermission>> {
        let mut cache = self.cache.lock();
        if cache.generation != generation {
            cache.generation = generation;
            cache.permitted.clear();
        }
        cache.permitted.get(key).cloned()
    }

    /// The permit for what needs nobody, or nobody any more.
    fn permit(
        &self,
        operation: &Operation,
        permission: &CachedPermission,
        reason: Option<Arc<str>>,
        approval: Option<String>,
    ) -> Result<Permit, Refusal> {
        notify(&self.gate, &self.registered, operation, permission, reason.as_deref())?;
        // the next one has to be told of, or needs a reason of its own
        let obligations = &permission.obligations;
        let same_again = approval.is_none()
            && reason.is_none()
            && obligations.notify.is_empty()
            // a second factor grows old
            && obligations.mfa_s.is_none();
        Ok(Permit {
            rules: Arc::clone(&permission.rules),
            obligations: Arc::clone(&permission.obligations),
            approval,
            timeless: permission.timeless.filter(|_| same_again),
            reason,
        })
    }

    /// The grant that covers an operation which would have to wait.
    fn granted_before(&self, operation: &Operation, permission: &CachedPermission) -> Option<String> {
        let facts = &self.registered.facts;
        let place = (facts.target.name.as_str(), facts.database.as_str());
        let grants = self.gate.approvals().grants();
        if !permission.obligations.moderators.is_empty() || !grants.any(self.principal(), place.0, place.1) {
            return None;
        }
        let explained = self.explained(operation);
        let permitted = matches!(explained.decision, Decision::Permit(_));
        let covered = || grants.covering(self.principal(), place, &operation.asks, &explained);
        permitted.then(covered).flatten().map(|grant| grant.id.clone())
    }

    fn explained(&self, operation: &Operation) -> Explanation {
        let current = self.gate.current();
        let known = self.known(&current);
        current.policy.explain(&known.subject, operation, &self.context())
    }

    fn hold(
        &self,
        operation: &Operation,
        permission: Arc<CachedPermission>,
        reason: Option<Arc<str>>,
    ) -> Outcome {
        let facts = &self.registered.facts;
        let request = Request {
            requester: self.principal().to_owned_principal(),
            session: facts.session.clone(),
            target: facts.target.name.clone(),
            database: facts.database.clone(),
            place: super::place(facts),
            action: operation.kind.to_owned(),
            text: operation.text.clone(),
            parameters: operation.parameters.clone(),
            rules: permission.rules.to_vec(),
            asks: needing(&operation.asks, &self.explained(operation)).map(|(ask, _)| ask.clone()).collect(),
            approvals: permission.obligations.approvals.clone(),
            digest: digest(facts, self.principal(), operation),
            reason: reason.as_deref().unwrap_or_default().to_owned(),
        };
        let waiting = match self.gate.approvals().request(request) {
            Ok(waiting) => waiting,
            Err(error) => {
                return Outcome::Refuse(refusal(
                    operation,
                    &permission.rules,
                    error.to_string(),
                    "`sluice approvals` lists them",
                ));
            }
        };
        let (gate, registered) = (Arc::clone(&self.gate), Arc::clone(&self.registered));
        match Held::file(waiting, gate, registered, operation, permission, reason) {
            Ok(held) => Outcome::Hold(held),
            Err(refusal) => Outcome::Refuse(refusal),
        }
    }
}

impl Drop for GatedSession {
    fn drop(&mut self) {
        self.gate.release(self.key);
    }
}
