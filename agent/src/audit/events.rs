//! The events by kind. No secret and no masked value ever stands in one.

use std::path::Path;

use serde_json::{Map, Value, json};
use sluice_api::common::{Origin, Process};
use sluice_api::{admin, handover};
use sluice_policy::{Operation, Principal, Refusal};

use super::Event;
use crate::gate::SessionFacts;
use crate::identity::{BoundLogin, Login, LoginError};

/// A statement in an event is cut after this; the whole stands in the recording.
const MAX_TEXT: usize = 2000;

fn event(class: &'static str, activity: &str, severity: &'static str, fields: Value) -> Event {
    let fields = match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Event { class, activity: activity.to_owned(), severity, fields }
}

fn person(who: &Principal) -> Value {
    json!({"subject": who.subject, "issuer": who.issuer, "name": who.name, "service": who.service})
}

fn process(lineage: &[Process]) -> Value {
    let Some(p) = lineage.first() else { return Value::Null };
    let ancestors: Vec<_> = lineage.iter().skip(1).map(|a| format!("{}[{}]", a.exe, a.pid)).collect();
    json!({"pid": p.pid, "uid": p.uid, "user": p.user, "loginuid": p.loginuid, "session": p.sid, "tty": p.tty,
           "exe": p.exe, "arguments": p.arguments, "cgroup": p.cgroup, "ancestors": ancestors})
}

fn origin(o: &Origin) -> Value {
    json!({"address": o.address, "port": o.port, "pid": o.pid, "uid": o.uid, "loginuid": o.loginuid,
           "comm": o.comm, "source": o.source, "unix": o.unix})
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Somebody has logged in and the login is bound.
pub fn logged_in(login: &BoundLogin, lineage: &[Process]) -> Event {
    let fields = json!({"actor": person(login.principal()), "how": login.login.how, "process": process(lineage),
                        "bound_to": login.bound_to()});
    event("login", "bound", "info", fields)
}

/// Somebody has logged in for one connection.
pub fn connection_login(login: &Login, lineage: &[Process]) -> Event {
    let fields = json!({"actor": person(&login.principal), "how": login.how, "process": process(lineage)});
    event("login", "connection", "info", fields)
}

/// Somebody tried to log in.
pub fn login_failed(failure: &LoginError, lineage: &[Process]) -> Event {
    let cause = std::error::Error::source(failure).map(ToString::to_string);
    let class = if matches!(failure, LoginError::Provider(_)) { "provider" } else { "login" };
    event(
        class,
        "failed",
        "warning",
        json!({"why": failure.to_string(), "cause": cause, "process": process(lineage)}),
    )
}

/// A login was ended by its person.
pub fn logged_out(login: &BoundLogin, lineage: &[Process]) -> Event {
    event("login", "ended", "info", json!({"actor": person(login.principal()), "process": process(lineage)}))
}

/// A session was let in.
pub fn session_opened(facts: &SessionFacts, who: &Principal, from: &Origin, lineage: &[Process]) -> Event {
    let fields = json!({"actor": person(who), "session": facts.session, "target": facts.target.name,
                        "database": facts.database, "origin": origin(from), "process": process(lineage)});
    event("session", "opened", "info", fields)
}

/// A session has ended.
pub fn session_closed(facts: &SessionFacts, who: &Principal, reason: &str) -> Event {
    let fields = json!({"actor": person(who), "session": facts.session, "target": facts.target.name,
                        "database": facts.database, "why": reason});
    event("session", "closed", "info", fields)
}

/// A connection was not let in.
pub fn session_refused(target: &str, who: Option<&Principal>, why: &str, lineage: &[Process]) -> Event {
    let fields = json!({"actor": who.map(person), "target": target, "why": why, "process": process(lineage)});
    event("session", "refused", "warning", fields)
}

/// The gate said no.
pub fn refused(facts: &SessionFacts, who: &Principal, operation: &Operation, refusal: &Refusal) -> Event {
    let fields = json!({"actor": person(who), "session": facts.session, "target": facts.target.name,
                        "database": facts.database, "rules": refusal.rules, "action": refusal.action,
                        "resource": refusal.resource, "kind": operation.kind, "text": cut(&operation.text)});
    event("decision", "refused", "notice", fields)
}

/// Something was done that somebody wants to know of (`@notify`): an emergency access, for example.
pub fn alarm(
    facts: &SessionFacts,
    who: &Principal,
    operation: &Operation,
    rules: &[String],
    tell: &[String],
    reason: Option<&str>,
) -> Event {
    let fields = json!({"actor": person(who), "tell": tell, "session": facts.session, "target": facts.target.name,
                        "database": facts.database, "rules": rules, "kind": operation.kind,
                        "reason": reason, "text": cut(&operation.text)});
    event("alarm", "done", "warning", fields)
}

/// A request for approval, and what became of it.
pub fn approval(approval: &admin::Approval, state: &str) -> Event {
    let name = |p: &sluice_api::common::Principal| json!({"subject": p.subject, "name": p.name});
    let by: Vec<_> = approval.approved_by.iter().map(name).collect();
    let fields = json!({"actor": approval.requester.as_ref().map(name), "id": approval.id,
                        "session": approval.session, "target": approval.target, "database": approval.database,
                        "rule": approval.rule, "approved_by": by, "digest": approval.digest,
                        "reason": approval.reason, "decision_reason": approval.decision_reason, "lasts_s": approval.lasts_s,
                        "text": cut(&approval.text)});
    event("approval", state, "notice", fields)
}

/// Somebody ended an approval that held for some time.
pub fn grant_revoked(grant: &admin::Grant, by: &Principal) -> Event {
    let of = grant.principal.as_ref().map(|p| json!({"subject": p.subject, "name": p.name}));
    let fields = json!({"actor": person(by), "id": grant.id, "of": of, "target": grant.target,
                        "database": grant.database, "covered": grant.covers});
    event("approval", "revoked", "notice", fields)
}

/// Somebody decided on a request, or tried to.
pub fn decision_tried(asked: &admin::Decide, who: &Principal, outcome: &str) -> Event {
    let wanted = if asked.approve { "approve" } else { "deny" };
    event(
        "approval",
        "decision",
        "notice",
        json!({"actor": person(who), "id": asked.id, "wanted": wanted, "lasts_s": asked.lasts_s,
               "outcome": outcome}),
    )
}

/// The guard was not as it was left, a layer's proof has changed, or its mode.
fn guard(seen: &handover::KernelEvent, incident: &handover::Incident) -> Event {
    let severity = if incident.healed { "warning" } else { "error" };
    let fields = json!({"what": incident.what, "object": incident.object, "detail": cut(&incident.detail),
                        "healed": incident.healed, "failure": cut(&incident.failure), "open_ms": incident.open_ms,
                        "seen_us": seen.time_us});
    event("guard", &incident.what, severity, fields)
}

/// Somebody who may lets the guard enforce, or not. On record before it is in force.
pub fn mode_wanted(mode: &handover::Mode, who: Option<&Principal>, lineage: &[Process]) -> Event {
    let severity = if mode.mode == "enforce" { "notice" } else { "critical" };
    let fields = json!({"mode": mode.mode, "by": mode.by, "approved_by": mode.approved_by, "reason": mode.reason,
                        "until_us": mode.until_us, "actor": who.map(person), "process": process(lineage)});
    event("guard", "mode_wanted", severity, fields)
}

/// Somebody who may not, or not so.
pub fn mode_refused(
    asked: &admin::SetMode,
    login: Option<&BoundLogin>,
    why: &str,
    lineage: &[Process],
) -> Event {
    let fields = json!({"mode": cut(&asked.mode), "reason": cut(&asked.reason), "why": why,
                        "actor": login.map(|login| person(login.principal())), "process": process(lineage)});
    event("guard", "mode_refused", "warning", fields)
}

/// What would have become of a try while nothing is enforced.
pub struct Would<'a> {
    /// Whoever is logged in there.
    pub who: Option<&'a Principal>,
    /// In words: what Sluice would have said to him.
    pub verdict: String,
}

/// The kernel saw a try on a road of its own. A redirect is the ordinary way in and no alarm.
pub fn kernel(seen: &handover::KernelEvent, would: Option<&Would<'_>>) -> Event {
    if let Some(incident) = &seen.incident {
        return guard(seen, incident);
    }
    let severity =
        if matches!(seen.verdict.as_str(), "redirected" | "would-redirect") { "info" } else { "warning" };
    let fields = json!({"road": seen.road, "target": seen.target, "seen_us": seen.time_us, "lost_before": seen.dropped,
                        "actor": would.and_then(|would| would.who).map(person), "would": would.map(|would| &would.verdict),
                        "origin": seen.origin.as_ref().map(origin), "process": process(&seen.lineage)});
    event("bypass", &seen.verdict, severity, fields)
}

/// A program was executed by what has outlived its session, or was made by one that this process does not know.
pub fn executed(execution: &handover::Execution, who: Option<&Principal>) -> Event {
    let ran = execution.executed.as_ref();
    let fields = json!({"actor": who.map(person), "session": execution.session,
                        "pid": ran.map(|e| e.pid), "parent": ran.map(|e| e.parent), "uid": ran.map(|e| e.uid),
                        "program": ran.map(|e| cut(&e.program)), "executable": ran.map(|e| cut(&e.executable)),
                        "text": ran.map(|e| cut(&e.arguments.join(" ")))});
    event("lineage", "executed", "info", fields)
}

/// Processes live on without their session.
pub fn outlived(facts: &SessionFacts, who: &Principal, processes: u32) -> Event {
    let fields = json!({"actor": person(who), "session": facts.session, "target": facts.target.name,
                        "database": facts.database, "processes": processes});
    event("lineage", "outlived", "notice", fields)
}

/// Configuration and policy were read again.
pub fn reloaded(config: &Path, policy: &str) -> Event {
    event("config", "accepted", "notice", json!({"config": config, "policy": policy}))
}

/// They were not accepted; the old ones stay.
pub fn reload_rejected(config: &Path, error: &str) -> Event {
    event("config", "rejected", "warning", json!({"config": config, "error": cut(error)}))
}

/// The recorder can't keep what passes.
pub fn recorder_failed(session: &str, error: &str) -> Event {
    event("recorder", "failed", "error", json!({"session": session, "error": error}))
}

/// A recording was found changed, or closed after a crash.
pub fn recording_found(what: &str, session: &str) -> Event {
    event("recorder", what, "warning", json!({"session": session}))
}

/// A target could not be reached or did not prove who it is.
pub fn upstream_failed(target: &str, why: &str) -> Event {
    event("upstream", "failed", "error", json!({"target": target, "why": why}))
}

/// The host key of a target is not the one that is known: somebody may be in between.
pub fn host_key_alarm(target: &str, why: &str) -> Event {
    event("upstream", "host_key", "critical", json!({"target": target, "why": why}))
}

/// Somebody read what others did.
pub fn looked_at(what: &str, which: &str, who: &Principal) -> Event {
    event("session", what, "notice", json!({"actor": person(who), "which": which}))
}

/// A signed report of what is enforced was made; `digest` is its SHA-256.
pub fn proved(who: Option<&Principal>, uid: u32, digest: &str) -> Event {
    event("host", "proved", "info", json!({"actor": who.map(person), "uid": uid, "sha256": digest}))
}

/// Somebody came to a session that must not go on alone, or left it.
pub fn moderation(what: &str, session: &str, who: &Principal, groups: &str) -> Event {
    event("session", what, "notice", json!({"actor": person(who), "session": session, "groups": groups}))
}

/// Somebody is about to end another's session, or his own.
pub fn session_killed(session: &str, who: &Principal, of: Option<&Principal>, reason: &str) -> Event {
    let fields =
        json!({"actor": person(who), "session": session, "of": of.map(person), "reason": cut(reason)});
    event("session", "killed", "notice", fields)
}
