//! Who else has said yes: requests, decisions, withdrawal, end.
//!
//! Must hold: nobody decides for himself, compared by issuer and subject and not by account; one person counts
//! once; a service account never approves; an approval belongs to one request, is used once and ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_api::admin;
use sluice_policy::{ApprovalRule, Ask, Principal};
use tokio::sync::watch;

use super::grants::Grants;
use crate::identity::Verified;

/// A request waits no longer than this.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Requests that may wait at the same time, of one person; more are refused.
const MAX_WAITING_OF_ONE: usize = 64;
/// Requests that are remembered after their end, for `sluice approvals`.
const REMEMBERED: usize = 1000;

/// What is asked for; everything that an approver decides by, and that the approval is bound to.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who wants it.
    pub requester: Principal,
    /// The session that waits.
    pub session: String,
    /// The target's name.
    pub target: String,
    /// Its database, where there is one.
    pub database: String,
    /// Both as policies see them: `approve` is asked of it.
    pub place: sluice_policy::Resource,
    /// What kind of operation it is.
    pub action: String,
    /// The whole text.
    pub text: String,
    /// Its parameters.
    pub parameters: Vec<String>,
    /// Names of the rules that demand the approval.
    pub rules: Vec<String>,
    /// What of it somebody has to agree to.
    pub asks: Vec<Ask>,
    /// Who must agree; all of them.
    pub approvals: Vec<ApprovalRule>,
    /// SHA-256 over text, parameters, identity, target, database, role and search path, in hex.
    pub digest: String,
    /// Why the requester wants it, when he said so.
    pub reason: String,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided yet, or not enough have.
    Waiting,
    /// Granted; the operation runs, once.
    Approved,
    /// Somebody said no.
    Denied,
    /// The requester cancelled or went away.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

impl State {
    /// As in admin.proto and record.proto.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecideError {
    /// No such request.
    #[error("there is no request `{0}`")]
    Unknown(String),
    /// It was decided, withdrawn or ended before.
    #[error("request `{id}` is {state} already")]
    Over {
        /// Its id.
        id: String,
        /// What became of it.
        state: &'static str,
    },
    /// The requester himself, whatever groups he is in.
    #[error("nobody decides for himself: request `{0}` is your own")]
    Own(String),
    /// A service account.
    #[error("a service account can't approve: a person must")]
    Service,
    /// Not one of those who may.
    #[error("request `{id}` needs somebody of {groups}")]
    NotEntitled {
        /// Its id.
        id: String,
        /// The groups that may.
        groups: String,
    },
    /// For a time, of what has to be looked at each time.
    #[error(
        "request `{0}` can't be granted for a time: what is not understood has to be looked at each time"
    )]
    NotForATime(String),
    /// For a time, and that could not be kept.
    #[error("request `{id}` can't be granted for a time: {why}")]
    NotKept {
        /// Its id.
        id: String,
        /// The cause.
        why: String,
    },
    /// The same person a second time.
    #[error("you have approved request `{0}` before; another person must")]
    Twice(String),
}

struct Pending {
    request: Request,
    by: Vec<Principal>,
    /// For how long all who have agreed so far want it to hold; `None`: for this once.
    lasts: Option<Duration>,
    reason: String,
    preview: String,
    requested_us: i64,
    expires_us: i64,
    state: watch::Sender<State>,
    decided_by: Option<Principal>,
}

/// All requests of this host.
#[derive(Default)]
pub struct Approvals {
    requests: Mutex<Requests>,
    grants: Grants,
}

#[derive(Default)]
struct Requests {
    by_id: HashMap<String, Pending>,
    /// Oldest first, for forgetting.
    order: std::collections::VecDeque<String>,
    counter: u64,
}

/// A request that waits. Dropping it withdraws it.
#[must_use = "dropping it withdraws the request"]
pub struct Waiting {
    id: String,
    state: watch::Receiver<State>,
    approvals: Arc<Approvals>,
    expires_us: i64,
}

/// A place at a request for what it would do.
pub struct Shown {
    id: String,
    approvals: Arc<Approvals>,
}

impl Shown {
    /// Puts it there. It decides nothing, and comes too late where the request is over.
    pub fn put(&self, preview: String) {
        if let Some(pending) = self.approvals.requests.lock().by_id.get_mut(&self.id) {
            pending.preview = preview;
        }
    }
}

/// Too many requests of one person wait.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_WAITING_OF_ONE} of your requests wait for approval already; withdraw one first")]
pub struct TooMany;

impl Approvals {
    /// With the grants that this file holds.
    pub fn kept_in(grants: std::path::PathBuf) -> Arc<Self> {
        Arc::new(Self { requests: Mutex::default(), grants: Grants::kept_in(grants) })
    }

    /// Files a request; it waits until it is decided, dropped or [`LIFETIME`] is over.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn request(self: &Arc<Self>, request: Request) -> Result<Waiting, TooMany> {
        let mut requests = self.requests.lock();
        let mine = requests
            .by_id
            .values()
            .filter(|p| is_waiting(p) && p.request.requester.same_person(&request.requester))
            .count();
        if mine >= MAX_WAITING_OF_ONE {
            return Err(TooMany);
        }
        requests.forget();
        requests.counter += 1;
        let id = short_id(requests.counter);
        let now = super::now_us();
        let expires_us = now + i64::try_from(LIFETIME.as_micros()).unwrap_or(i64::MAX);
        let (state, watcher) = watch::channel(State::Waiting);
        requests.order.push_back(id.clone());
        requests.by_id.insert(
            id.clone(),
            Pending {
                request,
                by: Vec::new(),
                lasts: None,
                reason: String::new(),
                preview: String::new(),
                requested_us: now,
                expires_us,
                state,
                decided_by: None,
            },
        );
        Ok(Waiting { id, state: watcher, approvals: Arc::clone(self), expires_us })
    }

    /// Approvals that hold for some time.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Takes a person's decision on a request. With `lasts`, what is agreed to holds for so long, and not only this
    /// once; where several agree, for the shortest time that all of them said.
    ///
    /// # Errors
    /// [`DecideError`]; nothing has changed then.
    pub fn decide(
        &self,
        id: &str,
        by: &Verified<Principal>,
        approve: bool,
        lasts: Option<Duration>,
        reason: &str,
    ) -> Result<admin::Approval, DecideError> {
        let mut requests = self.requests.lock();
        let pending = requests.by_id.get_mut(id).ok_or_else(|| DecideError::Unknown(id.to_owned()))?;
        entitled(id, pending, by)?;
        if approve && lasts.is_some() && !Grants::can_hold(&pending.request) {
            return Err(DecideError::NotForATime(id.to_owned()));
        }
        if approve {
            let mut people = pending.by.clone();
            people.push(by.to_owned_principal());
            let lasts =
                if people.len() == 1 { lasts } else { pending.lasts.zip(lasts).map(|(a, b)| a.min(b)) };
            let enough = satisfied(&pending.request.approvals, &people);
            if let Some(lasts) = lasts.filter(|_| enough) {
                self.grants
                    .add(id, &pending.request, &people, lasts)
                    .map_err(|error| DecideError::NotKept { id: id.to_owned(), why: error.to_string() })?;
            }
            (pending.by, pending.lasts) = (people, lasts);
            pending.reason = reason.to_owned();
            if enough {
                pending.decided_by = Some(by.to_owned_principal());
                pending.state.send_replace(State::Approved);
            }
        } else {
            pending.reason = reason.to_owned();
            pending.decided_by = Some(by.to_owned_principal());
            pending.state.send_replace(State::Denied);
        }
        Ok(message(id, pending))
    }

    /// One request as it stands.
    pub fn get(&self, id: &str) -> Option<admin::Approval> {
        self.requests.lock().by_id.get(id).map(|p| message(id, p))
    }

    /// What was asked for and by whom.
    pub fn request_of(&self, id: &str) -> Option<Request> {
        self.requests.lock().by_id.get(id).map(|p| p.request.clone())
    }

    /// Those that wait, oldest first.
    pub fn waiting(&self) -> Vec<(admin::Approval, Request)> {
        let requests = self.requests.lock();
        let listed = requests.order.iter().filter_map(|id| requests.by_id.get(id).map(|p| (id, p)));
        listed.filter(|(_, p)| is_waiting(p)).map(|(id, p)| (message(id, p), p.request.clone())).collect()
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.requests.lock().by_id.values().filter(|p| is_waiting(p)).count()
    }

    /// Ends a request that still waits; returns what it became.
    fn end(&self, id: &str, as_state: State) -> State {
        let requests = self.requests.lock();
        let Some(pending) = requests.by_id.get(id) else { return as_state };
        pending.state.send_if_modified(|state| {
            let waiting = *state == State::Waiting;
            if waiting {
                *state = as_state;
            }
            waiting
        });
        *pending.state.borrow()
    }
}

impl Waiting {
    /// For `sluice approve`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Microseconds since 1970.
    pub fn expires_us(&self) -> i64 {
        self.expires_us
    }

    /// Where what it would do can be put.
    pub fn shown(&self) -> Shown {
        Shown { id: self.id.clone(), approvals: Arc::clone(&self.approvals) }
    }

    /// The request as it stands.
    pub fn message(&self) -> Option<admin::Approval> {
        self.approvals.get(&self.id)
    }

    /// Waits for the end of the request: approved, denied or expired. Cancel safe.
    pub async fn decided(&mut self) -> State {
        let left = u64::try_from(self.expires_us - super::now_us()).unwrap_or(0);
        let settled = self.state.wait_for(|state| *state != State::Waiting);
        match tokio::time::timeout(Duration::from_micros(left), settled).await {
            Ok(Ok(state)) => *state,
            // the sender is only dropped when the request is forgotten, and then it is over
            Ok(Err(_)) => State::Expired,
            Err(_) => self.approvals.end(&self.id, State::Expired),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.approvals.end(&self.id, State::Withdrawn);
    }
}

impl Requests {
    fn forget(&mut self) {
        while self.order.len() >= REMEMBERED {
            let oldest_over =
                self.order.iter().position(|id| self.by_id.get(id).is_none_or(|p| !is_waiting(p)));
            let Some(id) = oldest_over.and_then(|i| self.order.remove(i)) else { return };
            self.by_id.remove(&id);
        }
    }
}

fn is_waiting(pending: &Pending) -> bool {
    *pending.state.borrow() == State::Waiting && pending.expires_us > super::now_us()
}

fn entitled(id: &str, pending: &Pending, by: &Verified<Principal>) -> Result<(), DecideError> {
    if !is_waiting(pending) {
        let state = match *pending.state.borrow() {
            State::Waiting => State::Expired,
            other => other,
        };
        return Err(DecideError::Over { id: id.to_owned(), state: state.name() });
    }
    if pending.request.requester.same_person(by) {
        return Err(DecideError::Own(id.to_owned()));
    }
    if by.service {
        return Err(DecideError::Service);
    }
    if pending.by.iter().any(|p| p.same_person(by)) {
        return Err(DecideError::Twice(id.to_owned()));
    }
    let groups = &pending.request.approvals;
    if !groups.iter().any(|rule| by.groups.contains(&rule.group)) {
        let groups = groups.iter().map(|r| format!("group `{}`", r.group)).collect::<Vec<_>>().join(" or ");
        return Err(DecideError::NotEntitled { id: id.to_owned(), groups });
    }
    Ok(())
}

/// Each rule has as many different people of its group as it names. One person in two of the groups counts for
/// both rules, but once in each.
pub(super) fn satisfied(rules: &[ApprovalRule], by: &[Principal]) -> bool {
    rules.iter().all(|rule| {
        let people = by.iter().filter(|p| p.groups.contains(&rule.group)).count();
        u32::try_from(people).unwrap_or(u32::MAX) >= rule.count
    })
}

fn message(id: &str, pending: &Pending) -> admin::Approval {
    let request = &pending.request;
    let state = match *pending.state.borrow() {
        State::Waiting if pending.expires_us <= super::now_us() => State::Expired,
        state => state,
    };
    admin::Approval {
        id: id.to_owned(),
        requester: Some(crate::identity::message(&request.requester)),
        target: request.target.clone(),
        database: request.database.clone(),
        action: request.action.clone(),
        text: request.text.clone(),
        parameters: request.parameters.clone(),
        rule: request.rules.join(", "),
        group: request.approvals.iter().map(|r| r.group.clone()).collect::<Vec<_>>().join(", "),
        needed: request.approvals.iter().map(|r| r.count).max().unwrap_or(1),
        approved_by: pending.by.iter().map(crate::identity::message).collect(),
        requested_us: pending.requested_us,
        expires_us: pending.expires_us,
        state: state.name().to_owned(),
        session: request.session.clone(),
        digest: request.digest.clone(),
        reason: request.reason.clone(),
        decision_reason: pending.reason.clone(),
        preview: pending.preview.clone(),
        lasts_s: pending.lasts.map(|lasts| lasts.as_secs()).unwrap_or_default(),
    }
}

/// Short enough to type, not to be guessed from the one before; it is a name and no secret.
fn short_id(counter: u64) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mixed = uuid::Uuid::now_v7().as_u128() as u64 ^ counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letter = |i: u64| LETTERS.get(((mixed >> (5 * i)) & 31) as usize).copied().unwrap_or(b'a');
    let mut id: String = (0..6).map(|i| char::from(letter(i))).collect();
    // unique on this host whatever the letters are
    id.push_str(&counter.to_string());
    id
}
