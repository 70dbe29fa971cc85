//! Bound logins: a person's proof, bound to the kernel session that it was given in.
//!
//! The key is the session id of `setsid(2)` with the start of its leader. A pid that comes again has another start,
//! and a session whose leader is gone matches nothing: a login ends with its terminal. It is not the uid, so that
//! whatever runs in that terminal, also under `sudo -u other`, is that person, and nobody else with that uid is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use sluice_api::common::Process;
use sluice_policy::Principal;
use tokio::sync::watch;

use super::{Login, Verified};

/// Logins at one time; beyond, new ones are refused.
const MAX_BOUND: usize = 65_536;

/// A session of the kernel, as `/proc` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelSession {
    /// Session id.
    pub sid: u32,
    /// Start of its leader, clock ticks since boot.
    pub leader_start_ticks: u64,
}

impl KernelSession {
    /// The session of a process; `None` where its leader is gone or nothing is known.
    pub fn of(process: &Process) -> Option<Self> {
        let known = process.sid != 0 && process.sid_start_ticks != 0;
        known.then_some(Self { sid: process.sid, leader_start_ticks: process.sid_start_ticks })
    }
}

/// A login and the session that it is bound to.
#[derive(Debug)]
pub struct BoundLogin {
    /// The proof.
    pub login: Login,
    /// Where it holds.
    pub session: KernelSession,
    /// Uid of the process that logged in, for display.
    pub uid: u32,
    /// Terminal of the process that logged in, for display.
    pub tty: String,
    /// The same end as that of the login, by a clock that nobody sets back.
    deadline: Option<Instant>,
    ended: watch::Sender<Option<&'static str>>,
}

impl BoundLogin {
    /// Who.
    pub fn principal(&self) -> &Verified<Principal> {
        &self.login.principal
    }

    /// Waits for the end of the login and says why it ended: `logout` or `expired`. Cancel safe.
    pub async fn ended(&self) -> &'static str {
        let mut ended = self.ended.subscribe();
        let left = self.login.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        let left = self
            .deadline
            .map_or(left, |deadline| left.min(deadline.saturating_duration_since(Instant::now())));
        let outcome = tokio::time::timeout(left, ended.wait_for(Option::is_some)).await;
        match outcome {
            Ok(Ok(why)) => why.unwrap_or("logout"),
            Ok(Err(_)) => "logout",
            Err(_) => "expired",
        }
    }

    /// What it is bound to, in words.
    pub fn bound_to(&self) -> String {
        let terminal =
            if self.tty.is_empty() { "no terminal".to_owned() } else { format!("terminal {}", self.tty) };
        format!("session {} ({terminal}), opened by uid {}", self.session.sid, self.uid)
    }

    fn holds(&self) -> bool {
        self.ended.borrow().is_none()
            && self.login.expires_at > SystemTime::now()
            && self.deadline.is_none_or(|deadline| deadline > Instant::now())
    }
}

/// Why a login can't be bound.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unbindable {
    /// Nothing to bind it to.
    #[error("the process has no session whose leader is alive: log in from a terminal, or under `setsid`")]
    NoSession,
    /// The table is full.
    #[error("{MAX_BOUND} logins are bound on this host already")]
    Full,
}

/// All bound logins of this host.
#[derive(Default)]
pub struct Bindings {
    bound: Mutex<HashMap<KernelSession, Arc<BoundLogin>>>,
}

impl Bindings {
    /// Binds a login to the session of the first process of `lineage`; an older login of that session ends.
    ///
    /// # Errors
    /// [`Unbindable`].
    pub fn bind(&self, lineage: &[Process], login: Login) -> Result<Arc<BoundLogin>, Unbindable> {
        let process = lineage.first().ok_or(Unbindable::NoSession)?;
        let session = KernelSession::of(process).ok_or(Unbindable::NoSession)?;
        let mut bound = self.bound.lock();
        bound.retain(|_, login| login.holds());
        if bound.len() >= MAX_BOUND {
            return Err(Unbindable::Full);
        }
        let (ended, _) = watch::channel(None);
        let left = login.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        // none: later than any clock can say
        let deadline = Instant::now().checked_add(left);
        let (uid, tty) = (process.uid, process.tty.clone());
        let login = Arc::new(BoundLogin { login, session, uid, tty, deadline, ended });
        if let Some(older) = bound.insert(session, Arc::clone(&login)) {
            older.ended.send_replace(Some("another login in the same session"));
        }
        Ok(login)
    }

    /// The login that holds for a process: that of its own session, else of its nearest ancestor's.
    pub fn find(&self, lineage: &[Process]) -> Option<Arc<BoundLogin>> {
        let bound = self.bound.lock();
        if bound.is_empty() {
            return None;
        }
        let sessions = lineage.iter().filter_map(KernelSession::of);
        sessions.filter_map(|session| bound.get(&session)).find(|login| login.holds()).cloned()
    }

    /// Ends the login that holds for a process. Returns it.
    pub fn unbind(&self, lineage: &[Process]) -> Option<Arc<BoundLogin>> {
        let login = self.find(lineage)?;
        self.bound.lock().remove(&login.session);
        login.ended.send_replace(Some("logout"));
        Some(login)
    }

    /// Ends every login of a person. Returns how many.
    pub fn unbind_person(&self, person: &Principal) -> usize {
        let mut bound = self.bound.lock();
        let before = bound.len();
        bound.retain(|_, login| {
            let his = login.principal().same_person(person);
            if his {
                login.ended.send_replace(Some("logout"));
            }
            !his
        });
        before - bound.len()
    }

    /// Logins that hold.
    pub fn count(&self) -> usize {
        self.bound.lock().values().filter(|login| login.holds()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn process(pid: u32, sid: u32, sid_start_ticks: u64) -> Process {
        Process { pid, sid, sid_start_ticks, uid: 1000, ..Process::default() }
    }

    fn login(subject: &str, life: Duration) -> Login {
        let principal = Principal {
            issuer: "https://id".into(),
            subject: subject.into(),
            name: subject.into(),
            email: String::new(),
            groups: Vec::new(),
            service: false,
        };
        Login {
            principal: Verified::for_test(principal),
            expires_at: SystemTime::now() + life,
            how: "device",
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_session_decides_and_not_the_uid() {
        let bindings = Bindings::default();
        bindings.bind(&[process(10, 5, 100)], login("alice", LONG)).unwrap();
        let found = |p: Process| bindings.find(&[p]).map(|l| l.principal().subject.clone());
        assert_eq!(found(process(11, 5, 100)).as_deref(), Some("alice"));
        // another session of the same uid; the same id with another leader; a leader that is gone
        assert_eq!(found(process(12, 6, 100)), None);
        assert_eq!(found(process(12, 5, 200)), None);
        assert_eq!(found(process(12, 5, 0)), None);
        // sudo with a terminal of its own: the ancestor's session counts
        let lineage = [process(20, 20, 300), process(11, 5, 100), process(1, 1, 1)];
        assert!(bindings.find(&lineage).is_some());
    }

    #[test]
    fn logins_end() {
        let bindings = Bindings::default();
        let here = [process(10, 5, 100)];
        let other = [process(11, 6, 100)];
        let first = bindings.bind(&here, login("alice", LONG)).unwrap();
        bindings.bind(&other, login("alice", LONG)).unwrap();
        assert_eq!(bindings.count(), 2);
        assert_eq!(bindings.unbind_person(first.principal()), 2);
        assert!(bindings.find(&here).is_none() && !first.holds());
        bindings.bind(&here, login("bob", Duration::ZERO)).unwrap();
        assert!(bindings.find(&here).is_none(), "an expired login holds for nobody");
        assert_eq!(
            bindings.bind(&[process(9, 9, 0)], login("bob", LONG)).unwrap_err(),
            Unbindable::NoSession
        );
    }

    #[tokio::test]
    async fn those_who_wait_hear_of_it() {
        let bindings = Bindings::default();
        let here = [process(10, 5, 100)];
        let login = bindings.bind(&here, login("alice", LONG)).unwrap();
        let waiting = tokio::spawn(async move { login.ended().await });
        tokio::task::yield_now().await;
        bindings.unbind(&here);
        assert_eq!(waiting.await.unwrap(), "logout");
    }

    /// To a login the clock that was set back looks like an end that is further away than it was.
    #[test]
    fn h22_a_clock_that_is_set_back_prolongs_no_login() {
        let bindings = Bindings::default();
        let here = [process(10, 5, 100)];
        bindings.bind(&here, login("alice", Duration::from_millis(50))).unwrap();
        let bound = bindings.find(&here).unwrap();
        let set_back = BoundLogin {
            login: login("alice", LONG),
            session: bound.session,
            uid: bound.uid,
            tty: bound.tty.clone(),
            deadline: bound.deadline,
            ended: watch::channel(None).0,
        };
        assert!(set_back.holds());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!set_back.holds() && !bound.holds());
        // and one that is set forward ends it at once
        let set_forward = BoundLogin { login: login("alice", Duration::ZERO), deadline: None, ..set_back };
        assert!(!set_forward.holds());
    }
}
