//! What waits for somebody else: an approval, a moderator. The person sees what is waited for; Ctrl-C, a signal or the
//! end of the channel withdraws.
use std::sync::Arc;

use russh::{ChannelMsg, Sig};

use super::begin::Job;
use super::link::Link;
use super::say;
use super::setup::{Setup, farewell};
use crate::gate::{Held, Permit, Presence};

/// What Ctrl-C is on a terminal.
const INTERRUPT: u8 = 0x03;
/// As shells have it: 128 and the signal's number.
const INTERRUPTED: u32 = 130;
/// As ssh has it when there was no program.
const NOT_RUN: u32 = 255;

/// How the waiting ended.
enum Waited {
    Granted(Permit),
    Refused(Vec<String>),
    Withdrawn,
}

impl Link {
    /// Waits for whoever has to come, then runs the job. The client's request was answered when it began to wait: RFC 4254
    /// wants answers in the order of the requests (section 5.4), and what a client asks meanwhile is answered at once.
    pub(super) async fn wait_and_run(
        self: Arc<Self>,
        mut setup: Setup,
        job: Job,
        outcome: Result<Permit, Held>,
    ) {
        let permit = match outcome {
            Ok(permit) => permit,
            Err(held) => match self.approved(&mut setup, &job, held).await {
                Waited::Granted(permit) => permit,
                Waited::Refused(words) => return self.turn_away(setup, job, words, "refused"),
                Waited::Withdrawn => return self.give_up(setup, job).await,
            },
        };
        if let Some(presence) = self.presence()
            && !self.attended(&mut setup, &job, presence).await
        {
            return self.give_up(setup, job).await;
        }
        if let Err(setup) = self.run(setup, job, &permit).await {
            farewell(setup, &["the target refused to run it".to_owned()], NOT_RUN).await;
        }
    }

    async fn approved(&self, setup: &mut Setup, job: &Job, mut held: Held) -> Waited {
        let lines = vec![
            format!("waiting for the approval of {}: {}", held.wanted(), job.operation.understood),
            format!("rule {}; somebody else runs: sluice approve {}", held.rules().join(", "), held.id()),
            "Ctrl-C gives up".to_owned(),
        ];
        self.announce(setup, job, &lines).await;
        let id = held.id().to_owned();
        let waited = tokio::select! {
            decided = held.wait() => match decided {
                Ok(permit) => Waited::Granted(permit),
                Err(refusal) => Waited::Refused(say::refusal(&refusal)),
            },
            () = withdrawn(setup) => Waited::Withdrawn,
            _ = self.ending() => Waited::Withdrawn,
        };
        match &waited {
            Waited::Granted(_) => {
                for by in held.approved_by() {
                    self.approval(job.id, &id, "approved", Some(by)).await;
                }
                self.approval(job.id, &id, "used", None).await;
                self.announce(setup, job, &["approved".to_owned()]).await;
            }
            Waited::Refused(_) => self.approval(job.id, &id, "denied", None).await,
            Waited::Withdrawn => self.approval(job.id, &id, "withdrawn", None).await,
        }
        waited
    }

    /// Waits for a moderator; `false`: withdrawn.
    async fn attended(&self, setup: &mut Setup, job: &Job, mut presence: Presence) -> bool {
        if presence.is_complete() {
            return true;
        }
        let lines = vec![
            format!("this session {}", presence.now()),
            format!("somebody of them runs: sluice watch {} --moderate", self.gated().id()),
            "Ctrl-C gives up".to_owned(),
        ];
        self.announce(setup, job, &lines).await;
        tokio::select! {
            () = presence.complete() => {
                self.announce(setup, job, &[format!("this session is {}", presence.now())]).await;
                true
            }
            () = withdrawn(setup) => false,
            _ = self.ending() => false,
            () = tokio::time::sleep(crate::gate::moderation::PATIENCE) => false,
        }
    }

    async fn announce(&self, setup: &Setup, job: &Job, lines: &[String]) {
        self.tape().said(job.id, "NOTICE", lines).await;
        if self.flush().await {
            let terminal = setup.has_terminal();
            say::say(setup.client.write.half(), say::shown(lines, terminal), terminal).await;
        }
    }

    async fn give_up(self: Arc<Self>, setup: Setup, job: Job) {
        let lines = ["withdrawn".to_owned()];
        self.announce(&setup, &job, &lines).await;
        self.completed(job.id, "withdrawn".to_owned(), true, job.started).await;
        self.hush(setup.client.number);
        say::end(setup.client.write.half(), INTERRUPTED).await;
        if let Some(target) = setup.target {
            let _ = target.write.close().await;
        }
    }

    /// Tells the person who comes and goes, for as long as the session lasts.
    pub(super) async fn moderated(self: Arc<Self>, mut presence: Presence) {
        let mut before = presence.is_complete();
        loop {
            tokio::select! {
                standing = presence.changed() => {
                    let now = standing.is_complete();
                    if now != before {
                        let line = match now {
                            true => format!("this session is {standing}"),
                            false => format!("this session is paused: it {standing}"),
                        };
                        let lines = [line];
                        self.tape().said(0, "NOTICE", &lines).await;
                        self.tell_all(&lines).await;
                    }
                    before = now;
                }
                _ = self.ending() => return,
            }
        }
    }
}

/// Waits until the client gives up. What else it sends is kept for whatever runs. Cancel safe.
async fn withdrawn(setup: &mut Setup) {
    let terminal = setup.has_terminal();
    let inbox = &mut setup.client.inbox;
    loop {
        let Some(message) = inbox.read.wait().await else { return };
        match &message {
            ChannelMsg::Close => return,
            ChannelMsg::Data { data } if terminal && data.contains(&INTERRUPT) => return,
            ChannelMsg::Signal { signal: Sig::INT | Sig::TERM | Sig::HUP } => return,
            ChannelMsg::WindowAdjusted { .. } => continue,
            _ => {}
        }
        inbox.ahead.push_back(message);
    }
}
