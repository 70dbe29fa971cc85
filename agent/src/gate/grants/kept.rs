//! Grants on disk: they outlive a restart of the agent, with everything that they are bound to.
//!
//! Must hold: what is in the file is what was in force, or less: a file that can't be read, or in which anything is not
//! as it was written, holds no grant at all. Texts and parameters of requests are not kept: they may hold values.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluice_policy::{ACTIONS, ApprovalRule, Ask, Principal, Resource, ResourceKind};

use super::super::approvals::Request;
use super::Grant;

#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    until_us: i64,
    requester: Person,
    by: Vec<Person>,
    session: String,
    target: String,
    database: String,
    place: Thing,
    action: String,
    rules: Vec<String>,
    asks: Vec<(String, Thing)>,
    approvals: Vec<(String, u32)>,
    digest: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct Person {
    issuer: String,
    subject: String,
    name: String,
    email: String,
    groups: Vec<String>,
    service: bool,
}

#[derive(Serialize, Deserialize)]
struct Thing {
    kind: String,
    path: Vec<String>,
    class: Option<String>,
}

/// Writes them all, in the place of those that were there; returns when they are on the disk.
pub(super) fn write(path: &Path, grants: &[Arc<Grant>]) -> io::Result<()> {
    let kept: Vec<Kept> = grants.iter().map(|grant| keep(grant)).collect();
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Those of the file; none where there is no file.
pub(super) fn read(path: &Path) -> io::Result<Vec<Arc<Grant>>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let kept: Vec<Kept> = serde_json::from_slice(&text)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "it names what this version does not know");
    kept.into_iter().map(|kept| restore(kept).map(Arc::new).ok_or_else(odd)).collect()
}

fn keep(grant: &Grant) -> Kept {
    let request = &grant.request;
    Kept {
        id: grant.id.clone(),
        until_us: grant.until_us,
        requester: person(&request.requester),
        by: grant.by.iter().map(person).collect(),
        session: request.session.clone(),
        target: request.target.clone(),
        database: request.database.clone(),
        place: thing(&request.place),
        action: request.action.clone(),
        rules: request.rules.clone(),
        asks: request.asks.iter().map(|ask| (ask.action.to_owned(), thing(&ask.resource))).collect(),
        approvals: request.approvals.iter().map(|rule| (rule.group.clone(), rule.count)).collect(),
        digest: request.digest.clone(),
        reason: request.reason.clone(),
    }
}

fn restore(kept: Kept) -> Option<Grant> {
    let ask = |(action, of): (String, Thing)| {
        let action = ACTIONS.into_iter().find(|known| *known == action)?;
        Some(Ask { action, resource: resource(of)? })
    };
    let request = Request {
        requester: principal(kept.requester),
        session: kept.session,
        target: kept.target,
        database: kept.database,
        place: resource(kept.place)?,
        action: kept.action,
        text: String::new(),
        parameters: Vec::new(),
        rules: kept.rules,
        asks: kept.asks.into_iter().map(ask).collect::<Option<_>>()?,
        approvals: kept.approvals.into_iter().map(|(group, count)| ApprovalRule { group, count }).collect(),
        digest: kept.digest,
        reason: kept.reason,
    };
    let by = kept.by.into_iter().map(principal).collect();
    Some(Grant { id: kept.id, request, by, until_us: kept.until_us })
}

fn person(of: &Principal) -> Person {
    Person {
        issuer: of.issuer.clone(),
        subject: of.subject.clone(),
        name: of.name.clone(),
        email: of.email.clone(),
        groups: of.groups.clone(),
        service: of.service,
    }
}

fn principal(of: Person) -> Principal {
    let Person { issuer, subject, name, email, groups, service } = of;
    Principal { issuer, subject, name, email, groups, service }
}

fn thing(of: &Resource) -> Thing {
    Thing { kind: format!("{:?}", of.kind), path: of.path.clone(), class: of.class.clone() }
}

fn resource(of: Thing) -> Option<Resource> {
    let kind = ResourceKind::ALL.into_iter().find(|kind| format!("{kind:?}") == of.kind)?;
    Some(Resource { kind, path: of.path, class: of.class })
}
