//! Answers that need no conversation, and the two that come in many pieces.

use std::io;
use std::sync::Arc;

use sluice_api::admin::{self, request::Request, response::Response};
use sluice_policy::{Decision, Principal};
use uuid::Uuid;

use super::{Caller, Wire, decisions, error, explain, prove};
use crate::app::House;
use crate::audit;
use crate::gate::Gate;
use crate::recorder::{Filter, RecorderError};

/// Destinations in a report; there may be a hundred thousand.
const MOST_SHOWN: usize = 1000;

pub(super) type Answer = Result<Response, admin::Error>;

/// One question, one answer.
pub(super) async fn answer(house: &Arc<House>, caller: &Caller, request: Request) -> Answer {
    match request {
        Request::Status(_) => Ok(Response::Status(status_report(house).await?)),
        Request::Prove(asked) => prove::prove(house, caller, &asked).await,
        Request::Targets(_) => Ok(targets(house, caller)),
        Request::Sessions(asked) => sessions(house, caller, asked),
        Request::Approvals(_) => decisions::approvals(house, caller),
        Request::Decide(asked) => decisions::decide(house, caller, &asked),
        Request::Grants(_) => decisions::grants(house, caller),
        Request::Revoke(asked) => decisions::revoke(house, caller, &asked),
        Request::Explain(explain) => explain::explain(house, caller, &explain).await,
        Request::Reload(_) => reload(house, caller),
        // a certificate is no secret: whoever connects gets to see it
        Request::Ca(asked) => ca(house, &asked),
        _ => Err(error("invalid", "this is no question of its own", "")),
    }
}

fn ca(house: &House, asked: &admin::Ca) -> Answer {
    let settings = house.settings.load();
    let pem = match asked.kind.as_str() {
        "" => house.authority.certificate_pem(),
        "ssh" => {
            let line = house.ssh_authority.known_hosts_line(settings.targets.iter().map(Arc::as_ref));
            if line.is_empty() {
                return Err(error("not_found", "no target speaks SSH", "`sluice targets` lists them"));
            }
            line
        }
        "ssh-user" => house.ssh_authority.user_ca_line(),
        _ => return Err(error("invalid", "there is no CA of this kind", "")),
    };
    Ok(Response::Ca(admin::CaCertificate { pem }))
}

/// What is enforced, and how everything does: probed now.
pub(super) async fn status_report(house: &House) -> Result<admin::StatusReport, admin::Error> {
    let unavailable =
        |e: &dyn std::fmt::Display| error("unavailable", e.to_string(), "see the log of sluice-loader");
    let layers = house.link.layers().await.map_err(|e| unavailable(&e))?;
    let component = |name: &str, state: &str, detail: String| admin::Component {
        name: name.to_owned(),
        state: state.to_owned(),
        detail,
    };
    let identity = house.identity.load_full();
    let mut components = vec![match identity.check().await {
        Ok(()) => component("provider", "ok", identity.issuer().to_owned()),
        Err(error) => {
            component("provider", "failed", format!("{error}; known logins go on, new ones are refused"))
        }
    }];
    let health = house.recorder.health();
    components.push(match health.failed {
        Some(why) => component("recorder", "failed", format!("{why}; no session is opened")),
        None if health.free < health.wanted => {
            component("recorder", "failed", format!("only {} bytes free; no session is opened", health.free))
        }
        None => component("recorder", "ok", format!("{} sessions are being recorded", health.live)),
    });
    components.push(match house.audit.health() {
        Ok(()) => component("audit", "ok", String::new()),
        Err(why) => component("audit", "failed", format!("{why}; nothing is decided")),
    });
    let fence = house.fence.landlock;
    let state = if fence == "enforced" { "ok" } else { "degraded" };
    components.push(component("fence", state, format!("seccomp on, no capability, Landlock {fence}")));
    components.push(if layers.standing.is_empty() {
        let detail =
            format!("compared to what was put there; {} incidents since it started", layers.incidents);
        component("integrity", "ok", detail)
    } else {
        component("integrity", "degraded", layers.standing.join("; "))
    });
    if !layers.degraded.is_empty() {
        components.push(component("config", "degraded", layers.degraded));
    }
    let fault = house.settings.load().policy_fault.clone();
    let digest = house.gate.policy_digest();
    components.push(if fault.is_empty() {
        component("policy", "ok", digest)
    } else {
        component("policy", "degraded", format!("{digest}: {fault}"))
    });
    let places = house.link.destinations();
    Ok(admin::StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        layers: layers.layers,
        destinations: places.iter().take(MOST_SHOWN).cloned().collect(),
        destinations_total: places.len() as u64,
        events_dropped: layers.events_dropped,
        cgroup: layers.cgroup,
        sessions_open: house.gate.open_sessions() as u64,
        logins: house.bindings.count() as u64,
        approvals_waiting: house.gate.approvals().count() as u64,
        components,
        policy_generation: house.gate.generation(),
        armed_for_s: layers.armed_for_s,
        incidents: layers.incidents,
        mode: layers.mode,
        programs: layers.programs,
    })
}

fn targets(house: &House, caller: &Caller) -> Response {
    let settings = house.settings.load();
    let places = house.link.destinations();
    let target = |target: &Arc<sluice_config::Target>| admin::Target {
        name: target.name.clone(),
        protocol: target.protocol().name().to_owned(),
        hosts: target.hosts.iter().map(ToString::to_string).collect(),
        ports: target.ports.iter().map(|port| u32::from(*port)).collect(),
        access: access(house, caller, target),
        addresses: places.iter().filter(|p| p.target == target.name).map(|p| p.network.clone()).collect(),
    };
    Response::Targets(admin::TargetList { targets: settings.targets.iter().map(target).collect() })
}

fn access(house: &House, caller: &Caller, target: &sluice_config::Target) -> String {
    let Some(login) = &caller.login else { return "unknown: log in first".to_owned() };
    match house.gate.may_connect(login.principal(), target, &caller.context()) {
        Decision::Permit(permission) => format!("permit ({})", permission.rules.join(", ")),
        Decision::Refuse(refusal) => format!("refuse ({})", refusal.rules.join(", ")),
    }
}

/// May he look at what others did?
pub(super) fn sees_all(house: &House, caller: &Caller, action: &'static str) -> Result<(), admin::Error> {
    let login = caller.logged_in()?;
    match house.gate.may_on_host(login.principal(), action, &caller.context()) {
        Decision::Permit(permission) => match Gate::unmet_on_host(&permission.obligations, "") {
            None => Ok(()),
            Some(what) => {
                let text = format!("the permit demands {what} (rule {})", permission.rules.join(", "));
                Err(error("refused", text, "tell whoever keeps the policy of this host"))
            }
        },
        Decision::Refuse(refusal) => Err(error(
            "refused",
            format!("{} (rule {})", refusal.message, refusal.rules.join(", ")),
            refusal.hint,
        )),
    }
}

fn sessions(house: &House, caller: &Caller, asked: admin::Sessions) -> Answer {
    let own = caller.logged_in()?.principal().to_owned_principal();
    let all = sees_all(house, caller, "replay").is_ok();
    let limit = usize::try_from(asked.limit).unwrap_or(0);
    let filter = Filter {
        subject: asked.subject,
        target: asked.target,
        live_only: asked.live_only,
        limit: if all { limit } else { 0 },
    };
    let mut sessions = house.recorder.list(&filter).map_err(|e| failed(&e))?;
    let moderation = house.gate.moderation();
    for session in sessions.iter_mut().filter(|s| s.ended_us == 0) {
        session.moderation = moderation.standing(&session.id).map(|s| s.to_string()).unwrap_or_default();
    }
    if !all {
        let login = caller.logged_in()?.principal();
        sessions.retain(|session| {
            let waits_for_him = session.ended_us == 0 && moderation.may_join(&session.id, login).is_ok();
            is_own(session.principal.as_ref(), &own) || waits_for_him
        });
        if limit > 0 {
            sessions.truncate(limit);
        }
    }
    Ok(Response::Sessions(admin::SessionList { sessions }))
}

fn is_own(of: Option<&sluice_api::common::Principal>, own: &Principal) -> bool {
    of.is_some_and(|p| p.subject == own.subject && p.issuer == own.issuer)
}

pub(super) fn failed(why: &RecorderError) -> admin::Error {
    let mut text = why.to_string();
    let mut cause = std::error::Error::source(why);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let code = if matches!(why, RecorderError::NotFound(_)) { "not_found" } else { "internal" };
    error(code, text, "`sluice sessions` lists them")
}

/// A recording, entry by entry: one's own, or anybody's where policy lets.
pub(super) async fn replay(
    house: &Arc<House>,
    caller: &Caller,
    asked: &admin::Replay,
    wire: &mut Wire,
) -> io::Result<Answer> {
    let entries = match readable(house, caller, &asked.id) {
        Ok(entries) => entries,
        Err(error) => return Ok(Err(error)),
    };
    for entry in entries {
        match entry {
            Ok(entry) => wire.send(Response::Frame(admin::ReplayFrame { entry: Some(entry) })).await?,
            Err(why) => return Ok(Err(failed(&why))),
        }
    }
    Ok(Ok(Response::Done(admin::Done::default())))
}

fn readable(house: &House, caller: &Caller, id: &str) -> Result<crate::recorder::Entries, admin::Error> {
    use sluice_api::record::entry::Entry;
    let own = caller.logged_in()?.principal().to_owned_principal();
    let id = Uuid::parse_str(id)
        .map_err(|_| error("invalid", "this is no id of a session", "`sluice sessions` lists them"))?;
    let of = house.recorder.read(&id).map_err(|e| failed(&e))?.next();
    let his = match of {
        Some(Ok(entry)) => match entry.entry {
            Some(Entry::Opened(opened)) => is_own(opened.principal.as_ref(), &own),
            _ => false,
        },
        _ => false,
    };
    if !his {
        sees_all(house, caller, "replay")?;
        let event = audit::looked_at("replayed", &id.to_string(), &own);
        house.audit.record_now(&event).map_err(|e| error("unavailable", e.to_string(), ""))?;
    }
    house.recorder.read(&id).map_err(|e| failed(&e))
}

/// Audit events; for whoever policy lets.
pub(super) async fn events(
    house: &Arc<House>,
    caller: &Caller,
    asked: &admin::Events,
    wire: &mut Wire,
) -> io::Result<Answer> {
    if let Err(error) = sees_all(house, caller, "events") {
        return Ok(Err(error));
    }
    let mut follower = house.audit.follow(asked.since_us, &asked.class, asked.follow);
    loop {
        let next = tokio::select! {
            next = follower.next() => next?,
            () = wire.gone(), if asked.follow => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        match next {
            Some(json) => wire.send(Response::Event(admin::EventLine { json })).await?,
            None => return Ok(Ok(Response::Done(admin::Done::default()))),
        }
    }
}

fn reload(house: &House, caller: &Caller) -> Answer {
    if caller.uid != 0 {
        return Err(error(
            "refused",
            "only root may say that the configuration is read again",
            "files are watched anyway",
        ));
    }
    house.reload().map_err(|why| error("invalid", why, "the old configuration stays in force"))?;
    Ok(Response::Done(admin::Done { message: "the configuration and the policy were read again".to_owned() }))
}
