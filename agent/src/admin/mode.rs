//! `sluice arm`, `observe`, `disarm`: whether the guard enforces.
//!
//! Must hold: opening is permitted by policy to a person who is logged in here, or to root on the console, where nobody
//! can log in when the host is broken; what policy wants agreed to waits for somebody else; it is on record and on the
//! disk before the loader is asked. Closing is root's right, too, from wherever.

use std::io;
use std::sync::Arc;

use sluice_api::admin::{self, response::Response};
use sluice_api::handover;
use sluice_policy::{Ask, Decision, Obligations, Permission, Principal};

use super::answers::Answer;
use super::{Caller, Wire, error};
use crate::app::House;
use crate::audit;
use crate::gate::approvals::{Request, State};
use crate::gate::{Gate, host, now_us};

/// It is read by people in one line.
const MAX_REASON: usize = 500;
/// Nobody disarms a host for longer without saying so again.
const LONGEST_S: u64 = 7 * 24 * 3600;

/// Who wants it, and what policy demands of him.
struct Wants {
    by: String,
    person: Option<Principal>,
    permission: Option<Permission>,
}

/// Lets the guard enforce, or not.
pub(super) async fn set(
    house: &Arc<House>,
    caller: &Caller,
    asked: &admin::SetMode,
    wire: &mut Wire,
) -> io::Result<Answer> {
    let wants = match check(house, caller, asked) {
        Ok(wants) => wants,
        Err(refusal) => {
            let why = audit::mode_refused(asked, caller.login.as_deref(), &refusal.message, &caller.lineage);
            return Ok(recorded(house, &why).and(Err(refusal)));
        }
    };
    let approvals = wants.permission.as_ref().map_or(&[][..], |permission| &permission.obligations.approvals);
    let approved = if approvals.is_empty() {
        String::new()
    } else {
        match agreed(house, asked, &wants, wire).await? {
            Ok(by) => by,
            Err(error) => return Ok(Err(error)),
        }
    };
    let mode = handover::Mode {
        mode: asked.mode.clone(),
        since_us: now_us(),
        until_us: if asked.for_s == 0 {
            0
        } else {
            now_us().saturating_add_unsigned(asked.for_s * 1_000_000)
        },
        by: wants.by,
        approved_by: approved,
        reason: asked.reason.clone(),
    };
    let event = audit::mode_wanted(&mode, wants.person.as_ref(), &caller.lineage);
    if let Err(error) = recorded(house, &event) {
        return Ok(Err(error));
    }
    let told = house.link.set_mode(mode.clone()).await;
    let what = match mode.mode.as_str() {
        "enforce" => "armed: what is protected is reached through Sluice alone",
        "observe" => "observing: everything is told as it would be, and nothing is enforced",
        _ => "DISARMED: everybody reaches everything directly, until `sluice arm`",
    };
    Ok(match told {
        Ok(Ok(())) => Ok(Response::Done(admin::Done { message: what.to_owned() })),
        Ok(Err(why)) => Err(error("internal", why, "see the log of sluice-loader")),
        Err(why) => Err(error("unavailable", why.to_string(), "see the log of sluice-loader")),
    })
}

fn recorded(house: &House, event: &audit::Event) -> Result<(), admin::Error> {
    let outcome = house.audit.record_now(event).and_then(|()| house.audit.sync_now());
    outcome.map_err(|e| {
        let hint = "nothing was done: it could not be put on record. On the console: sluice-loader disarm";
        error("unavailable", e.to_string(), hint)
    })
}

fn check(house: &House, caller: &Caller, asked: &admin::SetMode) -> Result<Wants, admin::Error> {
    let action = match asked.mode.as_str() {
        "enforce" => "arm",
        "observe" => "observe",
        "disarmed" => "disarm",
        _ => return Err(error("invalid", "there is no such mode", "arm, observe, disarm")),
    };
    if asked.reason.chars().count() > MAX_REASON || asked.reason.chars().any(char::is_control) {
        return Err(error("invalid", format!("a reason is one line of at most {MAX_REASON} characters"), ""));
    }
    if action == "disarm" && asked.reason.trim().is_empty() {
        return Err(error("invalid", "a reason is missing", "--reason TEXT"));
    }
    if asked.for_s > LONGEST_S {
        return Err(error("invalid", "nothing is opened for more than 7 days", "say less"));
    }
    let tty = caller.lineage.first().map(|process| process.tty.as_str()).unwrap_or_default();
    let root = caller.uid == 0 && (action == "arm" || is_console(tty));
    let Some(login) = &caller.login else {
        if root {
            let tty = if tty.is_empty() { "no terminal" } else { tty };
            return Ok(Wants { by: format!("root on {tty}"), person: None, permission: None });
        }
        let hint = "run `sluice login`; or, as root on the host's console, the same command without one";
        return Err(error("not_logged_in", "nobody is logged in here", hint));
    };
    let person = login.principal().to_owned_principal();
    let by = format!("{} ({} of {})", person.name, person.subject, person.issuer);
    match house.gate.may_on_host(login.principal(), action, &caller.context()) {
        Decision::Permit(permission) => {
            let alone = Obligations { approvals: Vec::new(), ..permission.obligations.clone() };
            if let Some(what) = Gate::unmet_on_host(&alone, &asked.reason) {
                let text = format!("the permit demands {what} (rule {})", permission.rules.join(", "));
                return Err(error("refused", text, "for a reason: --reason TEXT"));
            }
            Ok(Wants { by, person: Some(person), permission: Some(permission) })
        }
        Decision::Refuse(_) if root => {
            Ok(Wants { by: format!("root, logged in as {by}"), person: Some(person), permission: None })
        }
        Decision::Refuse(refusal) => {
            let text = format!("{} (rule {})", refusal.message, refusal.rules.join(", "));
            Err(error("refused", text, refusal.hint))
        }
    }
}

/// A terminal of the machine itself, which nobody has from another place.
fn is_console(tty: &str) -> bool {
    let name = tty.trim_start_matches("/dev/");
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "console" || ["tty", "ttyS", "hvc", "ttyAMA"].iter().any(|prefix| numbered(prefix))
}

/// Waits until somebody else has agreed; who has.
async fn agreed(
    house: &Arc<House>,
    asked: &admin::SetMode,
    wants: &Wants,
    wire: &mut Wire,
) -> io::Result<Result<String, admin::Error>> {
    let (Some(person), Some(permission)) = (&wants.person, &wants.permission) else {
        return Ok(Err(error("internal", "an approval without a person", "")));
    };
    let mut waiting = match house.gate.approvals().request(request(asked, person, permission)) {
        Ok(waiting) => waiting,
        Err(many) => return Ok(Err(error("refused", many.to_string(), "`sluice approvals`"))),
    };
    if let Some(approval) = waiting.message() {
        if let Err(error) = recorded(house, &audit::approval(&approval, "requested")) {
            return Ok(Err(error));
        }
        wire.send(Response::Waiting(approval)).await?;
    }
    let state = tokio::select! {
        state = waiting.decided() => state,
        // dropping the request withdraws it
        () = wire.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let approval = waiting.message().unwrap_or_default();
    if let Err(error) = recorded(house, &audit::approval(&approval, state.name())) {
        return Ok(Err(error));
    }
    if state != State::Approved {
        return Ok(Err(error("refused", format!("the request {} is {}", waiting.id(), state.name()), "")));
    }
    let names: Vec<String> =
        approval.approved_by.iter().map(|p| format!("{} ({} of {})", p.name, p.subject, p.issuer)).collect();
    Ok(Ok(names.join(", ")))
}

fn request(asked: &admin::SetMode, person: &Principal, permission: &Permission) -> Request {
    let action = if asked.mode == "disarmed" { "disarm" } else { "observe" };
    let lasts = if asked.for_s == 0 {
        "until somebody says `sluice arm`".to_owned()
    } else {
        format!("for {} s", asked.for_s)
    };
    let text = format!("{action} this host {lasts}: everybody reaches everything directly");
    let bound = format!("{text}\n{}\n{}\n{}", asked.reason, person.issuer, person.subject);
    let digest = ring::digest::digest(&ring::digest::SHA256, bound.as_bytes());
    Request {
        requester: person.clone(),
        session: String::new(),
        target: "localhost".to_owned(),
        database: String::new(),
        place: host(),
        action: action.to_owned(),
        text,
        parameters: Vec::new(),
        rules: permission.rules.clone(),
        asks: vec![Ask { action: if action == "disarm" { "disarm" } else { "observe" }, resource: host() }],
        approvals: permission.obligations.approvals.clone(),
        digest: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        reason: asked.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_console;

    #[test]
    fn a_console_is_no_terminal_of_somebody_elsewhere() {
        for tty in ["tty1", "/dev/tty12", "console", "ttyS0", "hvc0", "/dev/ttyAMA0"] {
            assert!(is_console(tty), "{tty}");
        }
        for tty in ["", "pts/3", "/dev/pts/3", "tty", "ttyUSBx", "/dev/pts/tty1", "consoles", "tty1x"] {
            assert!(!is_console(tty), "{tty}");
        }
    }
}
