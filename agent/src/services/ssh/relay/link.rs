//! One session: both legs, the gate, the recording, and what ends it.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use russh::{Disconnect, client, server};
use sluice_protocol::ssh::ask::Place;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::forward::End;
use super::lineage::{Followed, Following};
use super::record::{ClientWriter, Tape};
use super::say;
use crate::app::House;
use crate::audit;
use crate::gate::{GatedSession, Presence};
use crate::recorder::SessionRecording;
use crate::services::caller::{Caller, Lives};
use crate::services::ssh::door::Known;
use crate::ssh::Flows;
use crate::upstream::ssh::{Leg, Opened};

/// Channels of one connection at a time.
const MAX_CHANNELS: usize = 128;
/// After the last words, before the connection is cut: whoever reads has read them by then.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// After the target has gone, for what it has left to be carried.
const AFTER_TARGET: Duration = Duration::from_secs(2);

/// The two connections that a session is made of.
pub(in crate::services::ssh) struct Legs {
    pub(in crate::services::ssh) client: server::Handle,
    pub(in crate::services::ssh) client_flows: Arc<Flows>,
    pub(in crate::services::ssh) target: Opened,
    pub(in crate::services::ssh) following: Following,
}

/// A channel that can be told something.
struct Voice {
    writer: ClientWriter,
    terminal: bool,
}

/// A session that stands.
pub(in crate::services::ssh) struct Link {
    house: Arc<House>,
    person: (Arc<Caller>, Known),
    gated: GatedSession,
    tape: Tape,
    pub(super) client: server::Handle,
    pub(super) client_flows: Arc<Flows>,
    pub(super) target: client::Handle<Leg>,
    pub(super) target_flows: Arc<Flows>,
    incoming: Mutex<Option<tokio::sync::mpsc::Receiver<crate::upstream::ssh::Incoming>>>,
    voices: Mutex<HashMap<u32, Voice>>,
    /// Channels that may still be opened.
    places: Arc<Semaphore>,
    /// What the target listens at for this session.
    pub(super) listening: Mutex<HashSet<End>>,
    pub(super) agent_lent: AtomicBool,
    pub(super) screen_lent: AtomicBool,
    /// Why the session ends, once it does.
    ending: watch::Sender<Option<String>>,
    /// The client's connection has ended.
    finished: AtomicBool,
    /// What the kernel tells of it.
    followed: Mutex<Option<Followed>>,
}

impl Link {
    pub(in crate::services::ssh) fn new(
        house: Arc<House>,
        person: (Arc<Caller>, Known),
        gated: GatedSession,
        recording: SessionRecording,
        legs: Legs,
    ) -> Arc<Self> {
        let Opened { handle, incoming, flows, .. } = legs.target;
        let link = Arc::new(Self {
            house,
            person,
            gated,
            tape: Tape::new(recording),
            client: legs.client,
            client_flows: legs.client_flows,
            target: handle,
            target_flows: flows,
            incoming: Mutex::new(Some(incoming)),
            voices: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_CHANNELS)),
            listening: Mutex::default(),
            agent_lent: AtomicBool::new(false),
            screen_lent: AtomicBool::new(false),
            ending: watch::channel(None).0,
            finished: AtomicBool::new(false),
            followed: Mutex::new(None),
        });
        let followed = link.follow(legs.following);
        *link.followed.lock() = followed;
        link
    }

    pub(super) fn house(&self) -> &House {
        &self.house
    }

    pub(super) fn shared_house(&self) -> Arc<House> {
        Arc::clone(&self.house)
    }

    /// Who connected.
    pub(super) fn caller(&self) -> &Caller {
        &self.person.0
    }

    /// As whom.
    pub(super) fn login(&self) -> &Known {
        &self.person.1
    }

    pub(super) fn gated(&self) -> &GatedSession {
        &self.gated
    }

    pub(super) fn tape(&self) -> &Tape {
        &self.tape
    }

    /// At which target, and as whom.
    pub(super) fn place(&self) -> Place<'_> {
        let facts = self.gated.facts();
        Place { target: &facts.target.name, account: &facts.database }
    }

    /// From now on the channel hears what is told to the whole session.
    pub(super) fn listen_to_all(&self, channel: u32, writer: &ClientWriter, terminal: bool) {
        self.voices.lock().insert(channel, Voice { writer: writer.clone(), terminal });
    }

    pub(super) fn hush(&self, channel: u32) {
        self.voices.lock().remove(&channel);
    }

    /// Tells every channel.
    pub(super) async fn tell_all(&self, lines: &[String]) {
        let voices: Vec<_> = self.voices.lock().values().map(|v| (v.writer.clone(), v.terminal)).collect();
        let told = voices.iter().map(|(writer, terminal)| {
            let text = say::shown(lines, *terminal);
            timeout(LAST_WORDS, say::say(writer.half(), text, *terminal))
        });
        futures_util::future::join_all(told).await;
    }

    /// Ends the session, by the first reason that is given.
    pub(super) fn end(&self, why: impl Into<String>) {
        let why = why.into();
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(why);
            }
            first
        });
    }

    /// Nobody goes on unrecorded. `why` is the administrator's to know; the person hears whom to ask.
    pub(super) fn unrecorded(&self, why: &str) {
        tracing::error!(session = self.gated().id(), why, "a session can't be recorded, and ends");
        self.end(
            "Sluice can't put on record what happens here, so nothing happens. Ask the administrator of this host \
             whether its disk is full",
        );
    }

    /// Whether somebody has said that it is to end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Waits until it is to end. Cancel safe.
    pub(super) async fn ending(&self) -> String {
        let mut ending = self.ending.subscribe();
        match ending.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // the sender is ours
            Err(_) => String::new(),
        }
    }

    /// Whoever has to be present.
    pub(super) fn presence(&self) -> Option<Presence> {
        self.gated.presence()
    }

    /// Starts what goes on beside the channels: the end of the login, of the policy's permit, of the target, and what
    /// the target opens by itself. `cut` closes the client's connection.
    pub(in crate::services::ssh) fn watch(self: &Arc<Self>, lives: Lives, cut: Arc<Notify>) {
        let login = tokio::spawn(lives.watch(Arc::clone(&self.house), self.gated.id().to_owned()));
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let why = tokio::select! {
                reason = link.gated.ended() => reason.to_string(),
                why = link.ending() => why,
                () = link.target_side() => {
                    tokio::time::sleep(AFTER_TARGET).await;
                    "the target closed the connection".to_owned()
                }
            };
            login.abort();
            if !link.finished.load(Ordering::Acquire) {
                link.part(&why).await;
            }
            cut.notify_one();
        });
        if let Some(presence) = self.presence() {
            tokio::spawn(Arc::clone(self).moderated(presence));
        }
    }

    /// Takes what the target opens until its connection ends.
    async fn target_side(self: &Arc<Self>) {
        let Some(mut incoming) = self.incoming.lock().take() else { return std::future::pending().await };
        while let Some(channel) = incoming.recv().await {
            tokio::spawn(Arc::clone(self).incoming(channel));
        }
    }

    /// The last words, and the end of both connections.
    async fn part(&self, why: &str) {
        self.end(why);
        let lines = vec![format!("session ended: {why}")];
        self.tape.said(0, "FATAL", &lines).await;
        self.tell_all(&lines).await;
        let words = format!("session ended: {why}");
        let said = self.client.disconnect(Disconnect::ByApplication, words, String::new());
        let _ = timeout(LAST_WORDS, said).await;
        self.leave_target().await;
        tokio::time::sleep(LAST_WORDS).await;
    }

    /// The client's connection has ended: nothing of the session is left afterwards but its recording.
    pub(in crate::services::ssh) async fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        let told = self.ending.borrow().clone();
        let reason = told.unwrap_or_else(|| "the client closed the connection".to_owned());
        self.end(reason.clone());
        self.leave_target().await;
        let followed = self.followed.lock().take();
        if let Some(followed) = followed {
            self.settle(followed).await;
        }
        self.tape.close(&reason).await;
        let (facts, who) = (self.gated.facts(), self.gated.principal());
        tracing::info!(session = facts.session, who = who.name, reason, "session ended");
        if let Err(error) = self.house.audit.record_now(&audit::session_closed(facts, who, &reason)) {
            tracing::error!(%error, "audit");
        }
    }

    async fn leave_target(&self) {
        let said = self.target.disconnect(Disconnect::ByApplication, "the session has ended", "");
        // it may have gone before
        let _ = timeout(LAST_WORDS, said).await;
    }

    /// A place for one more channel; it is given back when it is dropped.
    pub(super) fn place_for_one(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}
