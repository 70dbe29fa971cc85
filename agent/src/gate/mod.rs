//! The one gate of all protocols: every operation is judged here and comes back as a [`Permit`], a [`Held`] or a
//! refusal.
//!
//! Enters: a login, the facts of a connection, operations. Leaves: permits that name what they permit. Must hold: a
//! session stands in the register before it is judged, so that a policy change in between reaches it; a permit is
//! made here alone; no operation of a session that has ended is permitted.

pub mod approvals;
pub mod grants;
pub mod moderation;
mod repeat;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sluice_config::{Protocol, Target};
use sluice_policy::{
    Ask, Context, Decision, Explanation, Obligations, Operation, Permission, Policy, Principal, Refusal,
    Resource, ResourceKind, Subject,
};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::identity::Verified;

pub use approvals::Approvals;
pub use moderation::{Moderating, Moderation, Presence, Standing};
pub use repeat::Repeatable;
pub use session::{GatedSession, Held, Means, Outcome, Permit};

/// The policy in force and its number: each accepted change counts up.
pub(crate) struct Current {
    pub(crate) policy: Policy,
    pub(crate) generation: u64,
}

/// What is known of a connection when its session is opened.
#[derive(Clone)]
pub struct SessionFacts {
    /// The id of the session and of its recording.
    pub session: String,
    /// The configured target behind the destination.
    pub target: Arc<Target>,
    /// The very address that the client asked for.
    pub address: SocketAddr,
    /// Database, or what the protocol has in its place: the account of SSH. Empty where it has none.
    pub database: String,
    /// What policies may look at.
    pub context: Context,
}

/// The right to open this target at this address; the only thing that [`crate::upstream`] dials by.
#[must_use]
pub struct ConnectPermit {
    target: Arc<Target>,
    address: SocketAddr,
    account: String,
}

impl ConnectPermit {
    /// The target, with its credentials' names and TLS mode.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Where to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As whom, where one may choose: the account of an SSH target, the database of another.
    pub fn account(&self) -> &str {
        &self.account
    }
}

/// Why a session has to end now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The login ended: logout, expiry, revocation.
    LoginEnded(String),
    /// The policy no longer permits this session; the rule.
    PolicyChanged(String),
    /// Somebody ended it.
    Killed(String),
    /// This process is going down.
    Shutdown,
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LoginEnded(why) => write!(f, "your login has ended ({why})"),
            Self::PolicyChanged(rule) => {
                write!(f, "the policy has changed and no longer permits this session ({rule})")
            }
            Self::Killed(by) => write!(f, "{by} ended this session"),
            Self::Shutdown => write!(f, "Sluice is shutting down on this host"),
        }
    }
}

/// A session in the register.
pub(crate) struct Registered {
    pub(crate) facts: SessionFacts,
    pub(crate) principal: Verified<Principal>,
    pub(crate) end: watch::Sender<Option<EndReason>>,
}

/// The gate of this host.
pub struct Gate {
    current: ArcSwap<Current>,
    sessions: Mutex<HashMap<u64, Arc<Registered>>>,
    next: AtomicU64,
    approvals: Arc<Approvals>,
    moderation: Arc<Moderation>,
    audit: Arc<Audit>,
}

impl Gate {
    /// A gate with its first policy.
    pub fn new(policy: Policy, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(Current { policy, generation: 1 }),
            sessions: Mutex::default(),
            next: AtomicU64::new(1),
            approvals: Arc::default(),
            moderation: Arc::default(),
            audit,
        })
    }

    /// Opens a session, or refuses it; also where its permit demands a moderator, whom the service can't wait for.
    ///
    /// # Errors
    /// The refusal with its rule.
    pub fn open(
        self: &Arc<Self>,
        principal: &Verified<Principal>,
        facts: SessionFacts,
    ) -> Result<(GatedSession, ConnectPermit), Refusal> {
        self.admit(principal, facts, false)
    }

    /// The same for a service that lets nothing pass while [`GatedSession::presence`] is not complete.
    ///
    /// # Errors
    /// The refusal with its rule.
    pub fn open_moderated(
        self: &Arc<Self>,
        principal: &Verified<Principal>,
        facts: SessionFacts,
    ) -> Result<(GatedSession, ConnectPermit), Refusal> {
        self.admit(principal, facts, true)
    }

    fn admit(
        self: &Arc<Self>,
        principal: &Verified<Principal>,
        facts: SessionFacts,
        can_pause: bool,
    ) -> Result<(GatedSession, ConnectPermit), Refusal> {
        let permit = ConnectPermit {
            target: Arc::clone(&facts.target),
            address: facts.address,
            account: facts.database.clone(),
        };
        // registered first: a policy that comes while this one is judged finds the session
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let (end, _) = watch::channel(None);
        let registered = Arc::new(Registered { facts, principal: principal.clone(), end });
        self.sessions.lock().insert(key, Arc::clone(&registered));
        let mut session = GatedSession::new(Arc::clone(self), key, registered);
        match session.may_connect() {
            Decision::Permit(Permission { rules, mut obligations, .. }) => {
                if can_pause {
                    session.demand(&std::mem::take(&mut obligations.moderators));
                }
                if let Some(most) = obligations.limits.sessions
                    && self.sessions_of(session.facts(), principal) > most
                {
                    return Err(session::too_many(session.facts(), rules, most));
                }
                match session::unmet_by_session(&obligations) {
                    Some(what) => Err(session::unmet_session(session.facts(), rules, what)),
                    None => Ok((session, permit)),
                }
            }
            Decision::Refuse(refusal) => Err(refusal),
        }
    }

    /// Sessions that a person has at a target, with the one that has just been registered.
    fn sessions_of(&self, facts: &SessionFacts, who: &Principal) -> u64 {
        let sessions = self.sessions.lock();
        let his = sessions
            .values()
            .filter(|s| s.facts.target.name == facts.target.name && s.principal.same_person(who));
        his.count() as u64
    }

    /// Somebody becomes a moderator of a session, as long as the answer lives.
    ///
    /// # Errors
    /// [`moderation::JoinError`].
    pub fn moderate(
        &self,
        session: &str,
        by: &Verified<Principal>,
    ) -> Result<Moderating, moderation::JoinError> {
        self.moderation.join(session, by, &self.audit)
    }

    /// Who is present in sessions that must not go on alone.
    pub fn moderation(&self) -> &Arc<Moderation> {
        &self.moderation
    }

    /// Whose session this is; `None` for one that has ended.
    pub fn person_of(&self, session: &str) -> Option<Principal> {
        let sessions = self.sessions.lock();
        sessions.values().find(|s| s.facts.session == session).map(|s| s.principal.to_owned_principal())
    }

    /// What would be said to an operation, without a session: for `sluice explain` and `sluice targets`.
    pub fn preview(&self, principal: &Principal, operation: &Operation, context: &Context) -> Decision {
        let current = self.current.load();
        current.policy.decide(&current.policy.subject(principal), operation, context)
    }

    /// The same, ask by ask.
    pub fn explain(&self, principal: &Principal, operation: &Operation, context: &Context) -> Explanation {
        let current = self.current.load();
        current.policy.explain(&current.policy.subject(principal), operation, context)
    }

    /// May this person open this target? Where it has accounts, as the one that nobody has to ask for.
    pub fn may_connect(&self, principal: &Principal, target: &Target, context: &Context) -> Decision {
        let current = self.current.load();
        let resource = match target.ssh() {
            Some(ssh) => Resource::new(ResourceKind::Account, [&target.name, &ssh.user]),
            None => whole(&target.name),
        };
        let ask = Ask { action: "connect", resource };
        current.policy.may(&current.policy.subject(principal), &ask, context)
    }

    /// What a permit on the host demands that nothing here can meet; a reason is none of it where one was given.
    pub fn unmet_on_host(obligations: &Obligations, reason: &str) -> Option<&'static str> {
        let given = obligations.reason && !reason.trim().is_empty();
        session::unmet_by_session(&Obligations {
            reason: obligations.reason && !given,
            ..obligations.clone()
        })
    }

    /// May this person do something on the host itself (`replay`, `events`, `kill`)?
    pub fn may_on_host(&self, principal: &Principal, action: &'static str, context: &Context) -> Decision {
        let current = self.current.load();
        let ask = Ask { action, resource: host() };
        current.policy.may(&current.policy.subject(principal), &ask, context)
    }

    /// May this person approve on this target? Asked beside the group that the rule names.
    pub fn may_approve(
        &self,
        principal: &Principal,
        request: &approvals::Request,
        context: &Context,
    ) -> Decision {
        let current = self.current.load();
        let resource = request.place.clone();
        current.policy.may(&current.policy.subject(principal), &Ask { action: "approve", resource }, context)
    }

    /// May this person have the values of a database looked at by the detectors?
    pub fn may_classify(
        &self,
        principal: &Principal,
        target: &str,
        database: &str,
        context: &Context,
    ) -> Decision {
        let current = self.current.load();
        let resource = Resource::new(ResourceKind::Database, [target, database]);
        current.policy.may(&current.policy.subject(principal), &Ask { action: "classify", resource }, context)
    }

    /// Requests that wait for somebody else.
    pub fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
    }

    /// Puts another policy in force and judges the open sessions again. Returns its generation.
    pub fn replace(&self, policy: Policy) -> u64 {
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Current { policy, generation }));
        let open: Vec<_> = self.sessions.lock().values().cloned().collect();
        let current = self.current.load();
        for session in open {
            let subject = current.policy.subject(&session.principal);
            let ask = connect_ask(&session.facts);
            let rules = match current.policy.may(&subject, &ask, &session.facts.context) {
                Decision::Refuse(refusal) => refusal.rules,
                // one that may no longer be alone, and is
                Decision::Permit(permission)
                    if !self
                        .moderation
                        .covers(&session.facts.session, &permission.obligations.moderators) =>
                {
                    permission.rules
                }
                Decision::Permit(_) => continue,
            };
            session.end.send_replace(Some(EndReason::PolicyChanged(rules.join(", "))));
        }
        generation
    }

    /// The policy's number; it changes when decisions have to be taken again.
    pub fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// The digest of the policy in force.
    pub fn policy_digest(&self) -> String {
        self.current.load().policy.digest().to_owned()
    }

    /// Open sessions.
    pub fn open_sessions(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Ends open sessions that `which` picks; how many.
    pub fn end_sessions(
        &self,
        reason: &EndReason,
        which: impl Fn(&SessionFacts, &Principal) -> bool,
    ) -> usize {
        let sessions = self.sessions.lock();
        let mut ended = 0;
        for session in sessions.values().filter(|s| which(&s.facts, &s.principal)) {
            session.end.send_replace(Some(reason.clone()));
            ended += 1;
        }
        ended
    }

    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Current>> {
        self.current.load()
    }

    pub(crate) fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    fn release(&self, key: u64) {
        if let Some(session) = self.sessions.lock().remove(&key) {
            self.moderation.release(&session.facts.session);
        }
    }
}

pub(crate) fn host() -> Resource {
    Resource { kind: ResourceKind::Host, path: vec!["localhost".into()], class: None }
}

fn whole(target: &str) -> Resource {
    Resource::new(ResourceKind::Target, [target])
}

/// What a session is opened in: the database or the account where there is one, else the target.
pub(crate) fn place(facts: &SessionFacts) -> Resource {
    let (target, within) = (facts.target.name.as_str(), facts.database.as_str());
    let kind = match facts.target.protocol() {
        _ if within.is_empty() => return whole(target),
        Protocol::Postgres => ResourceKind::Database,
        Protocol::Ssh => ResourceKind::Account,
    };
    Resource::new(kind, [target, within])
}

pub(crate) fn connect_ask(facts: &SessionFacts) -> Ask {
    Ask { action: "connect", resource: place(facts) }
}

/// Wall clock, microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Entities of a principal under a policy: built once a session and policy.
pub(crate) struct Known {
    pub(crate) generation: u64,
    pub(crate) subject: Subject,
}

#[cfg(test)]
mod tests;
