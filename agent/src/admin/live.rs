//! Live sessions: watching them, being their moderator, ending them.
//!
//! Must hold: that somebody watches another's session or ends it is in the audit events before it happens; a watcher
//! is gone as soon as his login ends or policy no longer lets him.

use std::io;
use std::sync::Arc;

use sluice_api::admin::{self, response::Response};
use sluice_api::record::entry::Entry;
use sluice_policy::{Decision, Principal};
use uuid::Uuid;

use super::answers::{failed, sees_all};
use super::{Caller, Wire, error};
use crate::app::House;
use crate::audit;
use crate::gate::moderation::JoinError;
use crate::gate::{EndReason, Gate, Moderating};
use crate::identity::BoundLogin;
use crate::recorder::Following;

/// A reason is read by people in one line.
const MAX_REASON: usize = 200;

type Answer = Result<Response, admin::Error>;

/// By what somebody watches; it ends with the watching.
enum Seat {
    Owner,
    Onlooker { generation: u64 },
    Moderator(Moderating),
}

/// Follows a session until it or the caller ends.
pub(super) async fn watch(
    house: &Arc<House>,
    caller: &Caller,
    asked: &admin::Watch,
    wire: &mut Wire,
) -> io::Result<Answer> {
    let seated = caller.logged_in().and_then(|login| Ok((login, sit(house, caller, login, asked)?)));
    let (login, (mut seat, mut following, session)) = match seated {
        Ok(seated) => seated,
        Err(error) => return Ok(Err(error)),
    };
    let moderating_for = match &seat {
        Seat::Moderator(moderating) => moderating.groups().to_owned(),
        _ => String::new(),
    };
    wire.send(Response::Watching(admin::Watching { session: Some(session), moderating_for })).await?;
    let mut why = String::new();
    loop {
        let next = tokio::select! {
            next = following.next() => next,
            () = wire.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
            ended = login.ended() => {
                let text = format!("your login has ended ({ended})");
                return Ok(Err(error("not_logged_in", text, "run `sluice login`")));
            }
        };
        let entry = match next {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(why) => return Ok(Err(failed(&why))),
        };
        if let Err(error) = still(house, caller, &mut seat) {
            return Ok(Err(error));
        }
        if let Some(Entry::Closed(closed)) = &entry.entry {
            why.clone_from(&closed.reason);
        }
        wire.send(Response::Frame(admin::ReplayFrame { entry: Some(entry) })).await?;
    }
    Ok(Ok(Response::Done(admin::Done { message: format!("the session has ended: {why}") })))
}

/// The right to watch, and what is watched.
fn sit(
    house: &House,
    caller: &Caller,
    login: &BoundLogin,
    asked: &admin::Watch,
) -> Result<(Seat, Following, admin::SessionSummary), admin::Error> {
    let (id, of) = live(house, &asked.id)?;
    let name = id.to_string();
    // before the right is taken, so that nobody counts as present who can't see anything
    let following = house.recorder.follow(&id).map_err(|why| failed(&why))?;
    let session = house.recorder.summary(&id).unwrap_or_default();
    let seat = if asked.moderate {
        Seat::Moderator(house.gate.moderate(&name, login.principal()).map_err(|why| not_joined(&why))?)
    } else if of.same_person(login.principal()) {
        Seat::Owner
    } else {
        let generation = house.gate.generation();
        sees_all(house, caller, "replay")?;
        let event = audit::looked_at("watched", &name, login.principal());
        house.audit.record_now(&event).map_err(|e| error("unavailable", e.to_string(), ""))?;
        Seat::Onlooker { generation }
    };
    Ok((seat, following, session))
}

/// Whether he may go on watching: the policy may have changed.
fn still(house: &House, caller: &Caller, seat: &mut Seat) -> Result<(), admin::Error> {
    let Seat::Onlooker { generation } = seat else { return Ok(()) };
    let now = house.gate.generation();
    if *generation != now {
        sees_all(house, caller, "replay")?;
        *generation = now;
    }
    Ok(())
}

fn not_joined(why: &JoinError) -> admin::Error {
    match why {
        JoinError::Unknown(_) => {
            error("not_found", why.to_string(), "`sluice sessions --live` lists those that do")
        }
        JoinError::Audit(_) => error("unavailable", why.to_string(), "ask the administrator of this host"),
        _ => error("refused", why.to_string(), "another person has to"),
    }
}

/// A session that is open at this gate, and whose it is.
fn live(house: &House, id: &str) -> Result<(Uuid, Principal), admin::Error> {
    let id = Uuid::parse_str(id)
        .map_err(|_| error("invalid", "this is no id of a session", "`sluice sessions --live` lists them"))?;
    let of = house.gate.person_of(&id.to_string()).ok_or_else(|| {
        error(
            "not_found",
            format!("session {id} is not open"),
            "`sluice sessions --live` lists those that are; `sluice replay` shows what was",
        )
    })?;
    Ok((id, of))
}

/// Ends a session.
pub(super) fn kill(house: &House, caller: &Caller, asked: &admin::Kill) -> Answer {
    let login = caller.logged_in()?;
    let own = login.principal();
    if asked.reason.chars().count() > MAX_REASON || asked.reason.chars().any(char::is_control) {
        let what = format!("a reason is one line of at most {MAX_REASON} characters");
        return Err(error("invalid", what, "say it shorter"));
    }
    let (id, of) = live(house, &asked.id)?;
    let name = id.to_string();
    let standing = house.gate.moderation().standing(&name);
    let moderates = standing.is_some_and(|s| s.people.iter().any(|p| p.same_person(own)));
    if !of.same_person(own) && !moderates {
        may_kill(house, caller, &asked.reason)?;
    }
    // on record before it takes effect
    let event = audit::session_killed(&name, own, Some(&of), &asked.reason);
    house.audit.record_now(&event).map_err(|e| {
        error("unavailable", e.to_string(), "nothing was done; ask the administrator of this host")
    })?;
    // it is read in the terminal of the one whose session it was
    let name_shown: String = own.name.chars().filter(|c| !c.is_control()).collect();
    let by = match asked.reason.as_str() {
        "" => name_shown,
        reason => format!("{name_shown} ({reason})"),
    };
    match house.gate.end_sessions(&EndReason::Killed(by), |facts, _| facts.session == name) {
        0 => Err(error("not_found", format!("session {id} has ended meanwhile"), "")),
        _ => Ok(Response::Done(admin::Done { message: format!("session {id} is being ended") })),
    }
}

fn may_kill(house: &House, caller: &Caller, reason: &str) -> Result<(), admin::Error> {
    let login = caller.logged_in()?;
    match house.gate.may_on_host(login.principal(), "kill", &caller.context()) {
        Decision::Permit(permission) => match Gate::unmet_on_host(&permission.obligations, reason) {
            None => Ok(()),
            Some(what) => {
                let text = format!("the permit demands {what} (rule {})", permission.rules.join(", "));
                Err(error("refused", text, "for a reason: --reason TEXT"))
            }
        },
        Decision::Refuse(refusal) => {
            let text = format!("{} (rule {})", refusal.message, refusal.rules.join(", "));
            Err(error("refused", text, refusal.hint))
        }
    }
}
