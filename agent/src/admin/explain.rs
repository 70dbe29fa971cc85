//! `sluice explain`: what the policy in force says to a statement, or to a command line.

use std::sync::Arc;

use sluice_api::admin::{self, response::Response};
use sluice_config::{Service, SshTarget, Target};
use sluice_policy::{Decision, Effect, Obligations, Operation, Principal};
use sluice_protocol::postgres::sql::{Outputs, SearchPath, analyse};
use sluice_protocol::ssh::ask::Place;
use sluice_protocol::ssh::{command, path};

use super::answers::{Answer, sees_all};
use super::{Caller, error};
use crate::app::House;

/// What the policy in force says to a text, for the caller or for whom he may look after.
pub(super) async fn explain(house: &House, caller: &Caller, asked: &admin::Explain) -> Answer {
    let own = caller.logged_in()?.principal().to_owned_principal();
    let principal = if asked.subject.is_empty() || asked.subject == own.subject || asked.subject == own.name {
        own
    } else {
        sees_all(house, caller, "replay")?;
        Principal {
            subject: asked.subject.clone(),
            name: asked.subject.clone(),
            groups: asked.groups.clone(),
            email: String::new(),
            ..own
        }
    };
    let settings = house.settings.load_full();
    let target = settings.target(&asked.target).ok_or_else(|| {
        let known: Vec<&str> = settings.targets.iter().map(|t| t.name.as_str()).collect();
        error(
            "not_found",
            format!("there is no target `{}`", asked.target),
            format!("there are: {}", known.join(", ")),
        )
    })?;
    let mut explained =
        Explained { house, caller, principal, answer: admin::Explanation::default(), worst: 0 };
    match &target.service {
        Service::Postgres(_) => statements(&mut explained, target, asked).await?,
        Service::Ssh(ssh) => line(&mut explained, target, ssh, asked),
    }
    let Explained { mut answer, worst, .. } = explained;
    answer.outcome = ["permit", "hold", "refuse"].get(worst).copied().unwrap_or("refuse").to_owned();
    Ok(Response::Explanation(answer))
}

/// An explanation that grows by each operation of the text.
struct Explained<'a> {
    house: &'a House,
    caller: &'a Caller,
    principal: Principal,
    answer: admin::Explanation,
    worst: usize,
}

/// A command line; `database` is the account.
fn line(explained: &mut Explained<'_>, target: &Target, ssh: &SshTarget, asked: &admin::Explain) {
    let place = Place { target: &target.name, account: ssh.account(&asked.database) };
    let line = asked.text.as_bytes();
    explained.add(&place.exec(line, &command::analyse(line), &path::Start::default()));
}

async fn statements(
    explained: &mut Explained<'_>,
    target: &Arc<Target>,
    asked: &admin::Explain,
) -> Result<(), admin::Error> {
    let databases = target.postgres().and_then(|postgres| postgres.databases.as_ref());
    let only = databases.and_then(|all| all.first()).map_or("", String::as_str);
    let database = if asked.database.is_empty() { only } else { &asked.database };
    let known = explained.house.postgres.known_catalogue(target, database).await;
    let catalogue = known.ok_or_else(|| {
        error(
            "unavailable",
            format!("the definitions of database `{database}` are not known yet"),
            "open a session there first (psql), or name another one by --database",
        )
    })?;
    for statement in &analyse(&asked.text, &catalogue, &SearchPath::default()).statements {
        let place = (target.name.as_str(), database);
        explained.add(&statement.operation(&catalogue, place, &asked.text, Vec::new()));
        if statement.unknown.is_some() || !statement.copies.is_empty() || !statement.probes.is_empty() {
            let lines = catalogue.vouchers(statement);
            explained.answer.vouchers.extend(lines.iter().map(|line| format!("{line:?}")));
        }
        let masked = &mut explained.answer.masked_columns;
        match &statement.outputs {
            Outputs::Known(outputs) => {
                let doubtful = outputs.iter().filter(|o| !o.sources.is_empty() || o.doubt);
                masked.extend(doubtful.map(|o| o.name.clone()));
            }
            Outputs::Unknown => masked.push("(all: where they come from is not known)".to_owned()),
        }
    }
    Ok(())
}

impl Explained<'_> {
    fn add(&mut self, operation: &Operation) {
        let explanation = self.house.gate.explain(&self.principal, operation, &self.caller.context());
        self.worst = self.worst.max(rank(&explanation.decision));
        let answer = &mut self.answer;
        let refusal = match &explanation.decision {
            Decision::Refuse(refusal) => refusal.message.clone(),
            Decision::Permit(permission) => {
                answer.obligations.extend(obligations(&permission.obligations));
                String::new()
            }
        };
        for ask in explanation.asks {
            let refused = ask.effect == Effect::Refuse;
            answer.reasons.push(admin::Reason {
                action: ask.action,
                resource: ask.resource,
                effect: match ask.effect {
                    Effect::Permit => "permit",
                    Effect::Oblige => "hold",
                    Effect::Refuse => "refuse",
                }
                .to_owned(),
                rules: ask.rules,
                message: if refused { refusal.clone() } else { String::new() },
            });
        }
        if !answer.understood.is_empty() {
            answer.understood.push_str("; ");
        }
        answer.understood.push_str(&operation.understood);
    }
}

fn rank(decision: &Decision) -> usize {
    match decision {
        Decision::Permit(permission)
            if permission.obligations.approvals.is_empty()
                && permission.obligations.moderators.is_empty() =>
        {
            0
        }
        Decision::Permit(_) => 1,
        Decision::Refuse(_) => 2,
    }
}

fn obligations(of: &Obligations) -> Vec<String> {
    let mut list: Vec<String> =
        of.approvals.iter().map(|rule| format!("approval by {} of {}", rule.count, rule.group)).collect();
    if of.reason {
        list.push("a reason".to_owned());
    }
    if of.record_strict {
        list.push("on stable storage before a byte goes on".to_owned());
    }
    let limits = of.limits;
    list.extend(limits.rows.map(|rows| format!("at most {rows} rows")));
    list.extend(limits.bytes.map(|bytes| format!("at most {bytes} bytes")));
    list.extend(limits.seconds.map(|seconds| format!("at most {seconds} s")));
    list.extend(of.mfa_s.map(|seconds| format!("a second factor within {seconds} s")));
    list.extend(of.moderators.iter().map(|group| format!("somebody of {group} who is present")));
    list.extend(of.notify.iter().map(|who| format!("notifies {who}")));
    list
}
