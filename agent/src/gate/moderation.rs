//! Four eyes: sessions that must not go on alone.
//!
//! Enters: sessions whose permit to connect names groups (`@moderator`), people who come and go. Leaves: [`Presence`],
//! by which a service lets bytes pass or holds them.
//!
//! Must hold: nobody moderates his own session, compared by issuer and subject and not by account; a service account
//! never does; whoever does is in a group that the permit names. Somebody is present as long as his [`Moderating`]
//! lives, and that he came is in the audit events before it counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_policy::Principal;
use tokio::sync::watch;

use crate::audit::{self, Audit, AuditError};
use crate::identity::Verified;

/// A session that is opened waits no longer than this for its first moderator.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The groups that the permit names.
    pub groups: Vec<String>,
    /// Those of them of which nobody is present.
    pub missing: Vec<String>,
    /// Who is present, in the order in which they came; one who came twice stands here twice.
    pub people: Vec<Principal>,
}

impl Standing {
    /// Whether the session may go on.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    fn of(groups: &[String], present: &[(u64, Principal)]) -> Self {
        let people: Vec<Principal> = present.iter().map(|(_, who)| who.clone()).collect();
        let missing = groups.iter().filter(|g| !people.iter().any(|p| p.in_group(g))).cloned().collect();
        Self { groups: groups.to_vec(), missing, people }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_complete() {
            let names: Vec<_> = self.people.iter().map(|p| p.name.as_str()).collect();
            write!(f, "moderated by {}", names.join(", "))
        } else {
            write!(f, "waits for a moderator of group {}", self.missing.join(" and one of group "))
        }
    }
}

/// Whether moderators of one session are there, for the task that carries it.
#[derive(Clone, Debug)]
pub struct Presence(watch::Receiver<Standing>);

impl Presence {
    /// Who is there now.
    pub fn now(&self) -> Standing {
        self.0.borrow().clone()
    }

    /// Whether the session may go on now. Costs no more than a look.
    pub fn is_complete(&self) -> bool {
        self.0.has_changed().is_ok() && self.0.borrow().is_complete()
    }

    /// Waits until the session may go on. For ever, once the session has left the gate. Cancel safe.
    pub async fn complete(&mut self) {
        let gone = self.0.wait_for(Standing::is_complete).await.is_err() || self.0.has_changed().is_err();
        if gone {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the session must pause. Cancel safe.
    pub async fn incomplete(&mut self) {
        // a sender that is gone is a session that is gone
        let _ = self.0.wait_for(|standing| !standing.is_complete()).await;
    }

    /// Waits until somebody comes or goes. For ever, once the session has left the gate. Cancel safe.
    pub async fn changed(&mut self) -> Standing {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }
}

/// Why somebody is no moderator of a session.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no such session, it has ended, or nobody has to be present in it.
    #[error("session `{0}` needs no moderator, or has ended")]
    Unknown(String),
    /// The person of the session himself, whatever groups he is in.
    #[error("nobody moderates himself: session `{0}` is your own")]
    Own(String),
    /// A service account.
    #[error("a service account can't moderate: a person must")]
    Service,
    /// Not one of those who may.
    #[error("session `{id}` needs somebody of {groups}")]
    NotEntitled {
        /// The session.
        id: String,
        /// The groups that may.
        groups: String,
    },
    /// It could not be put on record, and so it does not count.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Somebody who is present. Dropping it is his leaving.
#[must_use = "dropping it is leaving"]
pub struct Moderating {
    moderation: Arc<Moderation>,
    audit: Arc<Audit>,
    session: String,
    key: u64,
    who: Principal,
    groups: String,
}

impl Moderating {
    /// The groups of the permit that he is in.
    pub fn groups(&self) -> &str {
        &self.groups
    }
}

impl Drop for Moderating {
    fn drop(&mut self) {
        self.moderation.leave(&self.session, self.key);
        let event = audit::moderation("moderator_left", &self.session, &self.who, &self.groups);
        if let Err(error) = self.audit.record_now(&event) {
            tracing::error!(%error, session = self.session, "a moderator's leaving is not in the audit events");
        }
    }
}

/// All sessions of this host that must not go on alone.
#[derive(Default)]
pub struct Moderation(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    by_session: HashMap<String, Seat>,
    next: u64,
}

struct Seat {
    requester: Principal,
    groups: Vec<String>,
    present: Vec<(u64, Principal)>,
    standing: watch::Sender<Standing>,
}

impl Moderation {
    /// A session needs somebody of each of these groups from now on.
    pub(super) fn demand(&self, session: &str, requester: &Principal, groups: &[String]) -> Presence {
        let (standing, presence) = watch::channel(Standing::of(groups, &[]));
        let seat =
            Seat { requester: requester.clone(), groups: groups.to_vec(), present: Vec::new(), standing };
        self.0.lock().by_session.insert(session.to_owned(), seat);
        Presence(presence)
    }

    /// The session has ended.
    pub(super) fn release(&self, session: &str) {
        self.0.lock().by_session.remove(session);
    }

    /// Whether the session has somebody of each of these groups, or waits for him.
    pub(super) fn covers(&self, session: &str, groups: &[String]) -> bool {
        let seats = self.0.lock();
        let held = seats.by_session.get(session).map(|seat| seat.groups.as_slice()).unwrap_or_default();
        groups.iter().all(|group| held.contains(group))
    }

    /// Who is there; `None` for a session that nobody has to be present in.
    pub fn standing(&self, session: &str) -> Option<Standing> {
        self.0.lock().by_session.get(session).map(|seat| seat.standing.borrow().clone())
    }

    /// Whether this person could be a moderator of the session.
    ///
    /// # Errors
    /// [`JoinError`], why not.
    pub fn may_join(&self, session: &str, by: &Verified<Principal>) -> Result<(), JoinError> {
        entitled(session, self.0.lock().by_session.get(session), by).map(drop)
    }

    /// Somebody comes: on record first, then counted.
    pub(super) fn join(
        self: &Arc<Self>,
        session: &str,
        by: &Verified<Principal>,
        audit: &Arc<Audit>,
    ) -> Result<Moderating, JoinError> {
        // the lock is held over the event: nobody can come to a session that has ended in between
        let mut seats = self.0.lock();
        let groups = entitled(session, seats.by_session.get(session), by)?;
        audit.record_now(&audit::moderation("moderator_joined", session, by, &groups))?;
        seats.next += 1;
        let key = seats.next;
        if let Some(seat) = seats.by_session.get_mut(session) {
            seat.present.push((key, by.to_owned_principal()));
            seat.tell();
        }
        Ok(Moderating {
            moderation: Arc::clone(self),
            audit: Arc::clone(audit),
            session: session.to_owned(),
            key,
            who: by.to_owned_principal(),
            groups,
        })
    }

    fn leave(&self, session: &str, key: u64) {
        if let Some(seat) = self.0.lock().by_session.get_mut(session) {
            seat.present.retain(|(k, _)| *k != key);
            seat.tell();
        }
    }
}

impl Seat {
    fn tell(&self) {
        self.standing.send_replace(Standing::of(&self.groups, &self.present));
    }
}

/// The groups by which somebody may be a moderator.
fn entitled(session: &str, seat: Option<&Seat>, by: &Verified<Principal>) -> Result<String, JoinError> {
    let seat = seat.ok_or_else(|| JoinError::Unknown(session.to_owned()))?;
    if seat.requester.same_person(by) {
        return Err(JoinError::Own(session.to_owned()));
    }
    if by.service {
        return Err(JoinError::Service);
    }
    let his: Vec<_> = seat.groups.iter().filter(|group| by.in_group(group)).map(String::as_str).collect();
    if his.is_empty() {
        let groups = seat.groups.iter().map(|g| format!("group `{g}`")).collect::<Vec<_>>().join(" or ");
        return Err(JoinError::NotEntitled { id: session.to_owned(), groups });
    }
    Ok(his.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(subject: &str, groups: &[&str]) -> Verified<Principal> {
        Verified::for_test(Principal {
            issuer: "https://idp".into(),
            subject: subject.into(),
            name: subject.into(),
            email: String::new(),
            groups: groups.iter().map(ToString::to_string).collect(),
            service: false,
        })
    }

    struct World {
        _dir: tempfile::TempDir,
        audit: Arc<Audit>,
        moderation: Arc<Moderation>,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let audit = Audit::start(dir.path()).unwrap();
            Self { _dir: dir, audit, moderation: Arc::default() }
        }

        fn join(&self, by: &Verified<Principal>) -> Result<Moderating, JoinError> {
            self.moderation.join("s1", by, &self.audit)
        }

        fn events(&self) -> String {
            std::fs::read_to_string(self._dir.path().join("events.jsonl")).unwrap()
        }
    }

    #[test]
    fn who_may_not_moderate() {
        let world = World::new();
        let alice = person("alice", &["leads"]);
        let presence = world.moderation.demand("s1", &alice, &["leads".into()]);
        assert!(matches!(world.join(&alice), Err(JoinError::Own(_))));
        // another account, under whatever name, is still the same person
        let mut twin = alice.to_owned_principal();
        twin.name = "root".into();
        assert!(matches!(world.join(&Verified::for_test(twin)), Err(JoinError::Own(_))));
        assert!(matches!(world.join(&person("bob", &["dev"])), Err(JoinError::NotEntitled { .. })));
        let robot = Principal { service: true, ..person("robot", &["leads"]).to_owned_principal() };
        assert!(matches!(world.join(&Verified::for_test(robot)), Err(JoinError::Service)));
        assert!(!presence.is_complete());
        assert!(world.events().is_empty(), "nobody has come");
        // the same subject of another provider is another person
        let other = Principal { issuer: "https://other".into(), ..alice.to_owned_principal() };
        let _moderating = world.join(&Verified::for_test(other)).unwrap();
        assert!(presence.is_complete());
    }

    #[tokio::test]
    async fn leaving_pauses_and_coming_back_goes_on() {
        let world = World::new();
        let mut presence = world.moderation.demand("s1", &person("alice", &[]), &["leads".into()]);
        assert_eq!(presence.now().to_string(), "waits for a moderator of group leads");
        let first = world.join(&person("bob", &["leads"])).unwrap();
        let second = world.join(&person("bob", &["leads"])).unwrap();
        presence.complete().await;
        assert_eq!(first.groups(), "leads");
        drop(first);
        assert!(presence.is_complete(), "his other window is still there");
        drop(second);
        presence.incomplete().await;
        assert_eq!(presence.now().missing, ["leads"]);
        let _again = world.join(&person("carol", &["leads", "dev"])).unwrap();
        assert_eq!(presence.changed().await.people.len(), 1);
        assert!(presence.is_complete());
        let events = world.events();
        assert_eq!(events.matches("moderator_joined").count(), 3, "{events}");
        assert_eq!(events.matches("moderator_left").count(), 2, "{events}");
    }

    #[test]
    fn each_group_needs_somebody() {
        let world = World::new();
        let groups = ["leads".to_owned(), "security".to_owned()];
        let presence = world.moderation.demand("s1", &person("alice", &[]), &groups);
        let _bob = world.join(&person("bob", &["leads"])).unwrap();
        assert_eq!(presence.now().missing, ["security"]);
        let _carol = world.join(&person("carol", &["security"])).unwrap();
        assert!(presence.is_complete());
        assert!(world.moderation.covers("s1", &["leads".into()]));
        assert!(!world.moderation.covers("s1", &["leads".into(), "board".into()]));
        assert!(world.moderation.covers("s2", &[]) && !world.moderation.covers("s2", &groups));
    }

    #[test]
    fn the_end_of_the_session_releases_it() {
        let world = World::new();
        let presence = world.moderation.demand("s1", &person("alice", &[]), &["leads".into()]);
        let bob = person("bob", &["leads"]);
        let moderating = world.join(&bob).unwrap();
        world.moderation.release("s1");
        assert!(!presence.is_complete(), "a session that is gone does not go on");
        assert!(matches!(world.join(&bob), Err(JoinError::Unknown(_))));
        assert!(world.moderation.standing("s1").is_none());
        drop(moderating);
    }
}
