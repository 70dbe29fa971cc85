//! From a person to a session: the recording, the gate, the target.

use std::sync::Arc;

use sluice_api::record::Opened as RecordOpened;
use sluice_protocol::postgres::sql::Catalogue;
use sluice_protocol::postgres::wire::startup::{ProtocolVersion, StartupMessage};
use sluice_protocol::postgres::wire::write;

use super::greet::Client;
use super::keys::Registered;
use super::login::{Known, unrecorded};
use super::options::Wanted;
use super::say::Fatal;
use crate::app::House;
use crate::audit;
use crate::gate::{GatedSession, SessionFacts};
use crate::recorder::{Released, SessionRecording};
use crate::services::caller::{Caller, Lives};
use crate::services::postgres::catalogue::CatalogueError;
use crate::services::postgres::{Cancel, Established, Postgres, relay};
use crate::services::postgres::{Preview, ReadCatalogue, preview};
use crate::upstream::UpstreamError;
use crate::upstream::postgres::{Opened, Request};

/// A session, and what lives as long as it does.
pub(super) struct Session {
    established: Established<SessionRecording>,
    facts: SessionFacts,
    who: sluice_policy::Principal,
    known: Lives,
    _registered: Registered,
}

/// Opens the session on both legs, or says why not.
pub(super) async fn open(
    service: &Arc<Postgres>,
    mut client: Client,
    message: &StartupMessage,
    wanted: Wanted,
    caller: &Caller,
    known: &Known,
    house: &Arc<House>,
) -> Result<Session, (Client, Fatal)> {
    let mut recording = match house.recorder.open(opened(message, &wanted, caller, known, house)) {
        Ok(recording) => recording,
        Err(error) => {
            let event = audit::recorder_failed("", &error.to_string());
            return Err((client, unrecorded(&error).event(event)));
        }
    };
    let facts = SessionFacts {
        session: recording.id().to_string(),
        target: Arc::clone(&caller.target),
        address: caller.dial(),
        database: wanted.database.clone(),
        context: caller.context(known.login.how, message.application_name()),
    };
    let who = known.login.principal.to_owned_principal();
    let fatal = match establish(service, wanted, caller, known, &facts, house).await {
        Ok(Legs { gated, opened, catalogue, read_catalogue, preview }) => {
            match hello(service, &mut client, message, known.greeted, opened, &mut recording).await {
                Ok((server, cancel, registered)) => {
                    let established = Established {
                        client: client.stream,
                        client_ahead: client.ahead,
                        server: server.stream,
                        server_ahead: server.ahead.to_vec(),
                        gated,
                        recording,
                        catalogue,
                        read_catalogue,
                        preview,
                        verdicts: Arc::clone(&service.verdicts),
                        mask_key: house.mask_key.clone(),
                        search_path: server.search_path,
                        cancel,
                    };
                    let known = Lives { expires_at: known.login.expires_at, bound: known.bound.clone() };
                    return Ok(Session { established, facts, who, known, _registered: registered });
                }
                Err(fatal) => fatal,
            }
        }
        Err(fatal) => fatal,
    };
    recording.close(&format!("refused: {}", fatal.log()));
    Err((client, fatal))
}

struct Legs {
    gated: GatedSession,
    opened: Opened,
    catalogue: Arc<Catalogue>,
    read_catalogue: Arc<ReadCatalogue>,
    preview: Arc<Preview>,
}

async fn establish(
    service: &Arc<Postgres>,
    wanted: Wanted,
    caller: &Caller,
    known: &Known,
    facts: &SessionFacts,
    house: &Arc<House>,
) -> Result<Legs, Fatal> {
    let who = known.login.principal.to_owned_principal();
    let (gated, permit) = house.gate.open(&known.login.principal, facts.clone()).map_err(|refusal| {
        let why = format!("{} (rule {})", refusal.message, refusal.rules.join(", "));
        let event = audit::session_refused(&caller.target.name, Some(&who), &why, &caller.lineage);
        Fatal::new("28000", why, refusal.hint).event(event)
    })?;
    let event = audit::session_opened(facts, &who, &caller.origin(), &caller.lineage);
    house.audit.record_now(&event).map_err(|error| unrecorded(&error))?;
    let request = Request { database: wanted.database.clone(), parameters: wanted.parameters };
    let opened = house.upstreams.open_postgres(permit, &request).await;
    let opened = opened.map_err(|error| upstream_fatal(&error, &caller.target.name))?;

    let (catalogues, owner) = service.catalogues(&caller.target);
    let (aside, database) = (opened.aside.clone(), wanted.database);
    let read_catalogue: Arc<ReadCatalogue> = Arc::new(move |changed| {
        let (catalogues, owner) = (Arc::clone(&catalogues), Arc::clone(&owner));
        let (aside, database) = (aside.clone(), database.clone());
        Box::pin(async move { catalogues.get(&database, &owner, changed, || aside.client()).await })
    });
    let catalogue =
        read_catalogue(None).await.map_err(|error| catalogue_fatal(&error, &caller.target.name))?;
    let aside = opened.aside.clone();
    let preview: Arc<Preview> = Arc::new(move |questions| {
        let aside = aside.clone();
        let connect = async move { aside.client().await.map_err(|error| error.to_string()) };
        Box::pin(preview::preview(connect, questions))
    });
    Ok(Legs { gated, opened, catalogue, read_catalogue, preview })
}

/// Everything from AuthenticationOk to ReadyForQuery, on record before it goes.
async fn hello(
    service: &Arc<Postgres>,
    client: &mut Client,
    message: &StartupMessage,
    greeted: bool,
    opened: Opened,
    recording: &mut SessionRecording,
) -> Result<(Opened, Arc<Cancel>, Registered), Fatal> {
    let upstream = opened.cancel.clone();
    let cancel = Cancel::new(move || {
        let upstream = upstream.clone();
        tokio::spawn(async move {
            if let Err(error) = upstream.send().await {
                tracing::warn!(error = error.detail(), "a cancel request did not reach the target");
            }
        });
    });
    let version = spoken(message);
    let registered = service
        .keys
        .register(version, opened.cancel.process(), &cancel)
        .ok_or_else(|| Fatal::new("53000", "the kernel gave no random bytes", "Try again."))?;
    let mut out = Vec::with_capacity(1024);
    if !greeted {
        negotiate(message, &mut out);
        write::authentication_ok(&mut out);
    }
    for (name, setting) in &opened.parameters {
        write::parameter_status(name, setting, &mut out);
    }
    write::backend_key_data(registered.process, &registered.key, &mut out);
    write::ready_for_query(b'I', &mut out);
    let recorded = recording.commit(Released::own(&out)).map_err(|error| unrecorded(&error))?;
    // whoever has gone is noticed by the relay's first read
    let _ = client.send(recorded.bytes()).await;
    Ok((opened, cancel, registered))
}

/// The version that both sides speak from now on.
fn spoken(message: &StartupMessage) -> ProtocolVersion {
    if message.version >= ProtocolVersion::V3_2 { ProtocolVersion::V3_2 } else { ProtocolVersion::V3_0 }
}

/// NegotiateProtocolVersion, where the client asked for more than there is. Before everything else.
pub(super) fn negotiate(message: &StartupMessage, out: &mut Vec<u8>) {
    let unknown: Vec<&str> = message.protocol_options().collect();
    let version = spoken(message);
    if version != message.version || !unknown.is_empty() {
        write::negotiate_protocol_version(version.minor, &unknown, out);
    }
}

/// Carries the session to its end.
pub(super) async fn carry(session: Session, _service: &Arc<Postgres>, house: &Arc<House>) {
    let Session { established, facts, who, known, _registered } = session;
    let watch = tokio::spawn(known.watch(Arc::clone(house), facts.session.clone()));
    let reason = relay::relay(established).await;
    watch.abort();
    tracing::info!(session = facts.session, who = who.name, reason, "session ended");
    if let Err(error) = house.audit.record_now(&audit::session_closed(&facts, &who, &reason)) {
        tracing::error!(%error, "audit");
    }
}

fn opened(
    message: &StartupMessage,
    wanted: &Wanted,
    caller: &Caller,
    known: &Known,
    house: &House,
) -> RecordOpened {
    let attributes = [
        ("user", message.user()),
        ("database", wanted.database.as_str()),
        ("application_name", message.application_name()),
        ("role", caller.target.user()),
    ];
    caller.opened(&known.login, "postgres", &attributes, house)
}

fn upstream_fatal(error: &UpstreamError, target: &str) -> Fatal {
    Fatal::new(error.code(), format!("{error} (target {target})"), error.hint())
        .detail(error.detail())
        .event(audit::upstream_failed(target, &format!("{}: {}", error.kind(), error.detail())))
}

fn catalogue_fatal(error: &CatalogueError, target: &str) -> Fatal {
    let detail = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Fatal::new(
        "08006",
        format!("the definitions of the database could not be read, so no statement could be judged (target {target})"),
        "Try again. If it lasts, ask the administrator of Sluice; its events have the details.",
    )
    .detail(format!("{error}: {detail}"))
    .event(audit::upstream_failed(target, &format!("catalogue: {error}: {detail}")))
}
