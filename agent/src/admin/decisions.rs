//! Approvals and grants: what waits, what was decided, what holds for some time.

use std::time::Duration;

use sluice_api::admin::{self, response::Response};
use sluice_policy::{Decision, Principal};

use super::answers::Answer;
use super::{Caller, error};
use crate::app::House;
use crate::audit;
use crate::gate::approvals::{DecideError, Request};
use crate::gate::grants::LONGEST;

/// What waits: one's own requests, and those that one may decide.
pub(super) fn approvals(house: &House, caller: &Caller) -> Answer {
    let login = caller.logged_in()?;
    let own = login.principal().to_owned_principal();
    let listed = house.gate.approvals().waiting().into_iter();
    let listed = listed.filter(|(_, request)| concerns(house, caller, &own, request));
    Ok(Response::Approvals(admin::ApprovalList { approvals: listed.map(|(approval, _)| approval).collect() }))
}

/// A decision of the caller on somebody else's request; tried or taken, it is on record.
pub(super) fn decide(house: &House, caller: &Caller, asked: &admin::Decide) -> Answer {
    let login = caller.logged_in()?;
    let own = login.principal().to_owned_principal();
    let tried = |outcome: &str| {
        let event = audit::decision_tried(asked, &own, outcome);
        house
            .audit
            .record_now(&event)
            .map_err(|e| error("unavailable", e.to_string(), "ask the administrator of this host"))
    };
    let request = house.gate.approvals().request_of(&asked.id);
    if let Some(request) = &request
        && let Decision::Refuse(refusal) = house.gate.may_approve(&own, request, &caller.context())
    {
        tried(&refusal.message)?;
        return Err(error(
            "refused",
            format!("{} (rule {})", refusal.message, refusal.rules.join(", ")),
            refusal.hint,
        ));
    }
    // on record before it takes effect
    tried("tried")?;
    let lasts = (asked.lasts_s > 0).then(|| Duration::from_secs(asked.lasts_s));
    if lasts.is_some_and(|lasts| lasts > LONGEST) {
        let longest = LONGEST.as_secs() / 3600;
        return Err(error(
            "invalid",
            format!("nothing is granted for more than {longest} hours"),
            "say less",
        ));
    }
    match house.gate.approvals().decide(&asked.id, login.principal(), asked.approve, lasts, &asked.reason) {
        Ok(approval) => Ok(Response::Approval(approval)),
        Err(why) => {
            tried(&why.to_string())?;
            let code = if matches!(why, DecideError::Unknown(_)) { "not_found" } else { "refused" };
            Err(error(code, why.to_string(), "`sluice approvals` lists what waits"))
        }
    }
}

/// What holds for some time: one's own, and what one might have approved.
pub(super) fn grants(house: &House, caller: &Caller) -> Answer {
    let own = caller.logged_in()?.principal().to_owned_principal();
    let listed = house.gate.approvals().grants().all().into_iter();
    let listed = listed.filter(|grant| concerns(house, caller, &own, &grant.request));
    Ok(Response::Grants(admin::GrantList { grants: listed.map(|grant| grant.message()).collect() }))
}

fn concerns(house: &House, caller: &Caller, own: &Principal, request: &Request) -> bool {
    request.requester.same_person(own)
        || matches!(house.gate.may_approve(own, request, &caller.context()), Decision::Permit(_))
}

/// Ends a grant.
pub(super) fn revoke(house: &House, caller: &Caller, asked: &admin::Revoke) -> Answer {
    let own = caller.logged_in()?.principal().to_owned_principal();
    let all = house.gate.approvals().grants();
    let found = all.all().into_iter().find(|grant| grant.id == asked.id);
    // whoever may not see it is told the same as where there is none
    let Some(grant) = found.filter(|grant| concerns(house, caller, &own, &grant.request)) else {
        let what = format!("there is no grant `{}`", asked.id);
        return Err(error("not_found", what, "`sluice grants` lists them"));
    };
    let ended = all.revoke(&grant.id);
    let event = audit::grant_revoked(&grant.message(), &own);
    house.audit.record_now(&event).map_err(|e| error("unavailable", e.to_string(), ""))?;
    ended.map_err(|e| {
        let what = format!("grant {} has ended, but is still on disk: {e}", grant.id);
        error(
            "unavailable",
            what,
            "it would be back after a restart of the agent: make room, and revoke it again",
        )
    })?;
    Ok(Response::Done(admin::Done { message: format!("grant {} has ended", grant.id) }))
}
