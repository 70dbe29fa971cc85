//! Approvals that hold for some time: "updates of orders, for 30 minutes".
//!
//! Enters: an approval whose approvers all said for how long. Leaves: whether an operation that would have to wait is
//! covered. Must hold: a grant meets an `@approval` and gives nothing that no rule permits; it covers what stood in the
//! request that was approved, of that person, in that place, and nothing else; it is made and lengthened by an approval
//! alone, and nobody approves for himself; it ends by itself. Where it is kept on disk it outlives this process, as it
//! was; what could not be written there is not in force.

mod kept;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_api::admin;
use sluice_policy::{ApprovalRule, Ask, Explanation, Principal};

use super::approvals::{Request, satisfied};

/// The longest time that somebody may grant.
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// What nobody can grant beforehand: whoever agrees to it has to see what runs.
const NEVER: &str = "unknown";

/// One grant.
#[derive(Clone, Debug)]
pub struct Grant {
    /// That of the request that was approved.
    pub id: String,
    /// What was asked for then.
    pub request: Request,
    /// Who agreed.
    pub by: Vec<Principal>,
    /// When it ends, microseconds since 1970.
    pub until_us: i64,
}

/// All grants that have not ended.
#[derive(Default)]
pub struct Grants {
    all: Mutex<Vec<Arc<Grant>>>,
    /// Where they are kept; `None`: for the life of this process.
    file: Option<PathBuf>,
}

impl Grants {
    /// Those that this file holds, and it holds what comes. One that can't be read holds none, and is left as it is until
    /// the next grant.
    pub(super) fn kept_in(file: PathBuf) -> Self {
        let all = kept::read(&file).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "grants could not be read: none is in force");
            Vec::new()
        });
        Self { all: Mutex::new(all), file: Some(file) }
    }

    /// Whether what is asked for can be granted beforehand.
    pub(super) fn can_hold(request: &Request) -> bool {
        !request.asks.is_empty() && request.asks.iter().all(|ask| ask.action != NEVER)
    }

    /// Puts a grant in force, once it is kept.
    ///
    /// # Errors
    /// It could not be written: then it is not in force.
    pub(super) fn add(
        &self,
        id: &str,
        request: &Request,
        by: &[Principal],
        lasts: Duration,
    ) -> io::Result<()> {
        let lasts = i64::try_from(lasts.min(LONGEST).as_micros()).unwrap_or(0);
        let until_us = super::now_us().saturating_add(lasts);
        let grant = Grant { id: id.to_owned(), request: request.clone(), by: by.to_vec(), until_us };
        self.change(|all| all.push(Arc::new(grant)))
    }

    /// Changes the list, and what is on disk first.
    fn change(&self, of: impl FnOnce(&mut Vec<Arc<Grant>>)) -> io::Result<()> {
        self.standing(|all| {
            let mut next = all.clone();
            of(&mut next);
            if let Some(file) = &self.file {
                kept::write(file, &next)?;
            }
            *all = next;
            Ok(())
        })
    }

    /// Those in force, the first to end first.
    pub fn all(&self) -> Vec<Arc<Grant>> {
        let mut all = self.standing(|all| all.clone());
        all.sort_by_key(|grant| grant.until_us);
        all
    }

    /// Whether anything is in force for this person in this place: then it is worth to explain the operation.
    pub(super) fn any(&self, who: &Principal, target: &str, database: &str) -> bool {
        self.standing(|all| all.iter().any(|grant| grant.fits(who, target, database)))
    }

    /// The grant that meets every approval that an operation needs.
    pub(super) fn covering(
        &self,
        who: &Principal,
        (target, database): (&str, &str),
        asks: &[Ask],
        explained: &Explanation,
    ) -> Option<Arc<Grant>> {
        let needs: Vec<(&Ask, &[ApprovalRule])> = needing(asks, explained).collect();
        self.standing(|all| {
            let fits = |grant: &&Arc<Grant>| {
                grant.fits(who, target, database)
                    && needs
                        .iter()
                        .all(|(ask, rules)| grant.request.asks.contains(ask) && satisfied(rules, &grant.by))
            };
            all.iter().find(fits).cloned()
        })
    }

    /// Ends one. `false`: there is none.
    ///
    /// # Errors
    /// It has ended here, and would be back after a restart.
    pub fn revoke(&self, id: &str) -> io::Result<bool> {
        let there = self.standing(|all| all.iter().any(|grant| grant.id == id));
        if there && let Err(error) = self.change(|all| all.retain(|grant| grant.id != id)) {
            self.standing(|all| all.retain(|grant| grant.id != id));
            return Err(error);
        }
        Ok(there)
    }

    /// The list without what is over.
    fn standing<T>(&self, of: impl FnOnce(&mut Vec<Arc<Grant>>) -> T) -> T {
        let mut all = self.all.lock();
        let now = super::now_us();
        all.retain(|grant| grant.until_us > now);
        of(&mut all)
    }
}

impl Grant {
    fn fits(&self, who: &Principal, target: &str, database: &str) -> bool {
        let request = &self.request;
        request.requester.same_person(who) && request.target == target && request.database == database
    }

    /// For `sluice grants`.
    pub fn message(&self) -> admin::Grant {
        let request = &self.request;
        admin::Grant {
            id: self.id.clone(),
            principal: Some(crate::identity::message(&request.requester)),
            target: request.target.clone(),
            database: request.database.clone(),
            covers: request.asks.iter().map(|ask| format!("{} on {}", ask.action, ask.resource)).collect(),
            approved_by: self.by.iter().map(crate::identity::message).collect(),
            until_us: self.until_us,
            reason: request.reason.clone(),
            rule: request.rules.join(", "),
        }
    }
}

/// The asks of an operation that somebody else has to agree to, with who that is.
pub(super) fn needing<'a>(
    asks: &'a [Ask],
    explained: &'a Explanation,
) -> impl Iterator<Item = (&'a Ask, &'a [ApprovalRule])> {
    let answers = explained.asks.iter().map(|answer| answer.obligations.approvals.as_slice());
    asks.iter().zip(answers).filter(|(_, rules)| !rules.is_empty())
}
