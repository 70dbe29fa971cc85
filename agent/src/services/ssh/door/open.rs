//! From a person to a session: the recording, the gate, the target.
use std::sync::Arc;

use super::fatal::Fatal;
use super::login::Known;
use crate::app::House;
use crate::audit;
use crate::gate::{GatedSession, SessionFacts};
use crate::recorder::SessionRecording;
use crate::services::caller::Caller;
use crate::services::ssh::relay::{Following, Legs, Link};
use crate::upstream::ssh::{Follow, Identity, Opened, SshError};

/// Opens the session with the target, or says why not.
pub(super) async fn open(
    asked: &str,
    caller: &Arc<Caller>,
    known: &Known,
    client: russh::server::Handle,
    flows: Arc<crate::ssh::Flows>,
    house: &Arc<House>,
) -> Result<Arc<Link>, Fatal> {
    let account = caller.target.ssh().map(|ssh| ssh.account(asked)).unwrap_or_default().to_owned();
    let opened = caller.opened(&known.login, "ssh", &[("user", asked), ("account", account.as_str())], house);
    let recording = house
        .recorder
        .open(opened)
        .map_err(|error| Fatal::unrecorded(&error).event(audit::recorder_failed("", &error.to_string())))?;
    let facts = SessionFacts {
        session: recording.id().to_string(),
        target: Arc::clone(&caller.target),
        address: caller.dial(),
        database: account,
        context: caller.context(known.login.how, ""),
    };
    // before anybody is followed: what comes early waits here
    let (registration, inbox) = house.lineages.expect(&facts.session);
    match establish(caller, known, facts, house).await {
        Ok((gated, mut opened)) => {
            let following = Following { begun: opened.lineage.take(), registration, inbox };
            let legs = Legs { client, client_flows: flows, target: opened, following };
            let person = (Arc::clone(caller), known.clone());
            Ok(Link::new(Arc::clone(house), person, gated, recording, legs))
        }
        Err(fatal) => {
            close(recording, &fatal);
            Err(fatal)
        }
    }
}

fn close(recording: SessionRecording, fatal: &Fatal) {
    recording.close(&format!("refused: {}", fatal.log()));
}

async fn establish(
    caller: &Caller,
    known: &Known,
    facts: SessionFacts,
    house: &Arc<House>,
) -> Result<(GatedSession, Opened), Fatal> {
    let who = known.login.principal.to_owned_principal();
    let opened = house.gate.open_moderated(&known.login.principal, facts.clone());
    let (gated, permit) = opened.map_err(|refusal| {
        let why = format!("{} (rule {})", refusal.message, refusal.rules.join(", "));
        let event = audit::session_refused(&caller.target.name, Some(&who), &why, &caller.lineage);
        Fatal::new(why, refusal.hint).event(event)
    })?;
    let event = audit::session_opened(&facts, &who, &caller.origin(), &caller.lineage);
    house.audit.record_now(&event).map_err(|error| Fatal::unrecorded(&error))?;
    let truth = facts.target.ssh().map_or(sluice_config::Truth::Off, |ssh| ssh.truth);
    let follow = Follow { link: &house.link, session: &facts.session, truth };
    let identity = Identity { subject: &who.subject, session: &facts.session, follow };
    let opened = house.upstreams.open_ssh(permit, identity, &house.ssh_authority, &house.known_hosts).await;
    let opened = opened.map_err(|error| upstream_fatal(&error, &caller.target.name))?;
    Ok((gated, opened))
}

fn upstream_fatal(error: &SshError, target: &str) -> Fatal {
    let why = format!("{}: {}", error.kind(), error.detail());
    let event = if error.is_alarm() {
        audit::host_key_alarm(target, &why)
    } else {
        audit::upstream_failed(target, &why)
    };
    Fatal::new(format!("{error} (target {target})"), error.hint()).detail(error.detail()).event(event)
}
