//! `sluice classify`: what a database's values look like, so that a person can class its columns.
//!
//! Must hold: who asks may connect there and has the right `classify`; it is a session like any other, recorded with
//! every statement before that runs, ended when its login or its right ends; counts leave, and no value.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sluice_api::admin::{self, response::Response};
use sluice_api::common::Origin;
use sluice_api::record::{self, entry::Entry};
use sluice_config::{Mode, Target};
use sluice_policy::Decision;

use super::answers::{Answer, failed};
use super::{Caller, Wire, error};
use crate::app::House;
use crate::audit;
use crate::gate::{Gate, GatedSession, SessionFacts};
use crate::identity::{self, BoundLogin};
use crate::recorder::{Released, SessionRecording};
use crate::services::postgres::classify::{Table, tables};
use crate::upstream::UpstreamError;
use crate::upstream::postgres::Request;

/// Rows of a table that are looked at, unless asked otherwise.
const ROWS: u32 = 1000;
/// And at most.
const MOST_ROWS: u32 = 100_000;

/// Samples a database; one answer a table.
pub(super) async fn classify(
    house: &Arc<House>,
    caller: &Caller,
    asked: &admin::Classify,
    wire: &mut Wire,
) -> io::Result<Answer> {
    let (mut session, login) = match begin(house, caller, asked) {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
    let outcome = session.run(house, asked, &login, wire).await;
    let why = match &outcome {
        Ok(Ok(_)) => "done".to_owned(),
        Ok(Err(error)) => format!("failed: {}", error.message),
        Err(_) => "the caller has gone".to_owned(),
    };
    session.end(house, &login, &why);
    outcome
}

/// A session of one's own at the target, without a client behind it.
struct Sampling {
    facts: SessionFacts,
    recording: SessionRecording,
    gated: GatedSession,
    permit: Option<crate::gate::ConnectPermit>,
    rules: Vec<String>,
}

/// Rights first, then the recording, then the gate: as for every session.
fn begin(
    house: &House,
    caller: &Caller,
    asked: &admin::Classify,
) -> Result<(Sampling, Arc<BoundLogin>), admin::Error> {
    let login = Arc::clone(caller.logged_in()?);
    let settings = house.settings.load_full();
    let target =
        settings.target(&asked.target).filter(|target| target.postgres().is_some()).ok_or_else(|| {
            let known = settings.targets.iter().filter(|t| t.postgres().is_some());
            let known: Vec<&str> = known.map(|t| t.name.as_str()).collect();
            error(
                "not_found",
                format!("there is no PostgreSQL target `{}`", asked.target),
                format!("there are: {}", known.join(", ")),
            )
        })?;
    let database = database(target, &asked.database)?;
    let rules = may(house, caller, &login, target, &database)?;
    let address = address(house, target)?;
    let recording = house
        .recorder
        .open(opened(house, caller, &login, target, address, &database))
        .map_err(|why| failed(&why))?;
    let facts = SessionFacts {
        session: recording.id().to_string(),
        target: Arc::clone(target),
        address,
        database,
        context: caller.context(),
    };
    match house.gate.open(login.principal(), facts.clone()) {
        Ok((gated, permit)) => Ok((Sampling { facts, recording, gated, permit: Some(permit), rules }, login)),
        Err(refusal) => {
            recording.close(&format!("refused: {}", refusal.message));
            Err(refused(&refusal))
        }
    }
}

fn database(target: &Target, asked: &str) -> Result<String, admin::Error> {
    let all = target.postgres().and_then(|postgres| postgres.databases.as_ref());
    match (asked, all.and_then(|all| all.first())) {
        ("", Some(first)) => Ok(first.clone()),
        ("", None) => Err(error("invalid", "which database?", "say it by --database")),
        (asked, _) if all.is_none_or(|all| all.iter().any(|one| one == asked)) => Ok(asked.to_owned()),
        (asked, _) => {
            let known = all.map(|all| all.join(", ")).unwrap_or_default();
            Err(error(
                "not_found",
                format!("this target has no database `{asked}`"),
                format!("there are: {known}"),
            ))
        }
    }
}

/// The right `classify`, with the rules that give it.
fn may(
    house: &House,
    caller: &Caller,
    login: &BoundLogin,
    target: &Target,
    database: &str,
) -> Result<Vec<String>, admin::Error> {
    match house.gate.may_classify(login.principal(), &target.name, database, &caller.context()) {
        Decision::Permit(permission) => match Gate::unmet_on_host(&permission.obligations, "") {
            None => Ok(permission.rules.to_vec()),
            Some(what) => {
                let text = format!("the permit demands {what} (rule {})", permission.rules.join(", "));
                Err(error("refused", text, "tell whoever keeps the policy of this host"))
            }
        },
        Decision::Refuse(refusal) => Err(refused(&refusal)),
    }
}

fn refused(refusal: &sluice_policy::Refusal) -> admin::Error {
    error("refused", format!("{} (rule {})", refusal.message, refusal.rules.join(", ")), refusal.hint.clone())
}

/// Where the target is: its first address, as the kernel protects it.
fn address(house: &House, target: &Target) -> Result<SocketAddr, admin::Error> {
    if let (Mode::Ingress { address }, Some(port)) = (&target.mode, target.ports.first()) {
        return Ok(SocketAddr::new(*address, *port));
    }
    let single = |network: &str| {
        let (address, bits) = network.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        (bits == if address.is_ipv4() { "32" } else { "128" }).then_some(address)
    };
    let places = house.link.destinations();
    let mut own = places.iter().filter(|place| place.target == target.name);
    own.find_map(|place| Some(SocketAddr::new(single(&place.network)?, u16::try_from(place.port).ok()?)))
        .ok_or_else(|| {
            error(
                "unavailable",
                format!("no single address of target `{}` is known", target.name),
                "`sluice targets` shows its addresses; a network can't be sampled: name the host in the configuration",
            )
        })
}

fn opened(
    house: &House,
    caller: &Caller,
    login: &BoundLogin,
    target: &Target,
    address: SocketAddr,
    database: &str,
) -> record::Opened {
    let attributes =
        [("database", database), ("application_name", "sluice classify"), ("role", target.user())];
    record::Opened {
        session: String::new(),
        principal: Some(identity::message(&login.login.principal)),
        origin: Some(origin(caller, address)),
        lineage: caller.lineage.clone(),
        target: target.name.clone(),
        protocol: "postgres".to_owned(),
        address: address.ip().to_string(),
        port: u32::from(address.port()),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        authenticated_by: login.login.how.to_owned(),
        policy_digest: house.gate.policy_digest(),
    }
}

fn origin(caller: &Caller, address: SocketAddr) -> Origin {
    Origin {
        address: address.ip().to_string(),
        port: u32::from(address.port()),
        uid: caller.uid,
        pid: caller.lineage.first().map(|process| process.pid).unwrap_or_default(),
        ..Origin::default()
    }
}

impl Sampling {
    async fn run(
        &mut self,
        house: &Arc<House>,
        asked: &admin::Classify,
        login: &BoundLogin,
        wire: &mut Wire,
    ) -> io::Result<Answer> {
        let who = login.principal().to_owned_principal();
        let event = audit::session_opened(&self.facts, &who, &Origin::default(), &[]);
        if let Err(why) = house.audit.record_now(&event) {
            return Ok(Err(error("unavailable", why.to_string(), "")));
        }
        let rows = if asked.rows == 0 { ROWS } else { asked.rows.min(MOST_ROWS) };
        let (client, catalogue, tables) = match self.connect(house, &asked.schema).await {
            Ok(connected) => connected,
            Err(error) => return Ok(Err(error)),
        };
        let of = u32::try_from(tables.len()).unwrap_or(u32::MAX);
        for (place, table) in (1..).zip(&tables) {
            if let Err(why) = self.note(u64::from(place), table, rows) {
                return Ok(Err(failed(&why)));
            }
            let found = tokio::select! {
                found = table.look(&client, &catalogue, rows) => found,
                reason = self.gated.ended() => {
                    return Ok(Err(error("refused", format!("the session was ended: {reason}"), "")));
                }
                why = login.ended() => {
                    let text = format!("your login has ended ({why})");
                    return Ok(Err(error("not_logged_in", text, "run `sluice login`")));
                }
                () = wire.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            let found =
                admin::ClassifiedTable { database: self.facts.database.clone(), place, tables: of, ..found };
            wire.send(Response::Classified(found)).await?;
        }
        Ok(Ok(Response::Done(admin::Done::default())))
    }

    async fn connect(
        &mut self,
        house: &House,
        schema: &str,
    ) -> Result<
        (tokio_postgres::Client, Arc<sluice_protocol::postgres::sql::Catalogue>, Vec<Table>),
        admin::Error,
    > {
        let unreachable = |why: &UpstreamError| {
            error("unavailable", format!("{why} (target {})", self.facts.target.name), why.hint())
        };
        let permit =
            self.permit.take().ok_or_else(|| error("internal", "the permit was used already", ""))?;
        let request = Request { database: self.facts.database.clone(), parameters: Vec::new() };
        let opened =
            house.upstreams.open_postgres(permit, &request).await.map_err(|why| unreachable(&why))?;
        let catalogue = house
            .postgres
            .catalogue(&self.facts.target, &self.facts.database, &opened.aside)
            .await
            .map_err(|why| error("unavailable", why.to_string(), "see the events of this host"))?;
        let client = opened.aside.client().await.map_err(|why| unreachable(&why))?;
        let tables = tables(&client, schema).await.map_err(|why| error("unavailable", why, ""))?;
        Ok((client, catalogue, tables))
    }

    /// On record before it runs.
    fn note(&mut self, id: u64, table: &Table, rows: u32) -> Result<(), crate::recorder::RecorderError> {
        self.recording.entry(Entry::Operation(record::Operation {
            id,
            kind: "statement".to_owned(),
            text: table.statement(rows),
            verdict: "permit".to_owned(),
            rules: self.rules.clone(),
            effects: vec!["read".to_owned()],
            relations: vec![table.relation()],
            ..record::Operation::default()
        }));
        self.recording.commit(Released::own(&[])).map(drop)
    }

    fn end(self, house: &House, login: &BoundLogin, why: &str) {
        self.recording.close(why);
        let who = login.principal().to_owned_principal();
        if let Err(error) = house.audit.record_now(&audit::session_closed(&self.facts, &who, why)) {
            tracing::error!(%error, "audit");
        }
    }
}
