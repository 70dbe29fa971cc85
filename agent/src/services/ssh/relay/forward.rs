//! Forwards, each by itself: through the target, and from the target back.
//!
//! One to something that Sluice protects itself does not go through the target: see [`super::through`].
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure, Error, client};
use sluice_policy::Operation;
use tokio::time::timeout;

use super::begin::{Job, Program};
use super::judge::Verdict;
use super::link::Link;
use super::pump::{Shape, carry};
use super::setup::{ClientEnd, TargetEnd};
use crate::upstream::ssh::{Incoming, IncomingKind};

/// How long the far end may take to be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a forward.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::services::ssh) enum End {
    /// A host and a port.
    Tcp { host: String, port: u32 },
    /// The path of a socket.
    Socket(String),
}

impl Link {
    /// A connection through the target; goes on beside the connection's loop.
    pub(in crate::services::ssh) fn forward(
        self: &Arc<Self>,
        end: End,
        originator: (String, u32),
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let Some(place) = link.place_for_one() else {
                return reply.reject(ChannelOpenFailure::ResourceShortage).await;
            };
            let (operation, id, strict) = match link.permitted(&end).await {
                Ok(permitted) => permitted,
                Err(why) => return reply.reject(why).await,
            };
            if let Some(protected) = link.protected(&end).await {
                let lines =
                    [format!("{} is target `{}`, and is served as that", shown(&end), protected.target.name)];
                link.tape().said(id, "NOTICE", &lines).await;
                return link.serve_through(protected, id, channel, reply, place).await;
            }
            let permitted = (operation, id, strict);
            match link.reach(&end, originator, permitted).await {
                Ok((job, target, strict)) => {
                    let client = ClientEnd::new(channel, &link.client_flows, Some(place));
                    let target = TargetEnd::new(target, &link.target_flows);
                    reply.accept().await;
                    carry(link, job, client, target, 0, Vec::new(), strict).await;
                }
                Err(why) => reply.reject(why).await,
            }
        });
    }

    async fn reach(
        &self,
        end: &End,
        originator: (String, u32),
        (operation, id, strict): (Operation, u64, bool),
    ) -> Result<(Job, Channel<client::Msg>, bool), ChannelOpenFailure> {
        let started = Instant::now();
        let opened = match end {
            End::Tcp { host, port } => {
                let (address, from) = originator;
                timeout(PATIENCE, self.target.channel_open_direct_tcpip(host, *port, address, from)).await
            }
            End::Socket(path) => timeout(PATIENCE, self.target.channel_open_direct_streamlocal(path)).await,
        };
        match opened {
            Ok(Ok(channel)) => Ok((job(id, operation, started), channel, strict)),
            Ok(Err(Error::ChannelOpenFailure(why))) => {
                self.completed(id, why.description().to_owned(), true, started).await;
                Err(why)
            }
            Ok(Err(_)) | Err(_) => {
                self.completed(id, "the target did not answer".to_owned(), true, started).await;
                Err(ChannelOpenFailure::ConnectFailed)
            }
        }
    }

    /// Judges a forward and waits where somebody has to agree; the session's terminals are told.
    async fn permitted(&self, end: &End) -> Result<(Operation, u64, bool), ChannelOpenFailure> {
        let operation = match end {
            End::Tcp { host, port } => self.place().forward(host.as_bytes(), *port),
            End::Socket(path) => self.place().forward_socket(path.as_bytes()),
        };
        let (id, started) = (self.tape().operation(), Instant::now());
        let permit = match self.judge(id, &operation).await {
            Verdict::Go(permit) => permit,
            Verdict::No(words) => {
                self.completed(id, "refused".to_owned(), true, started).await;
                self.flush().await;
                return Err(prohibited(&words));
            }
            Verdict::Wait(mut held) => {
                let lines = [
                    format!("{} waits for the approval of {}", operation.understood, held.wanted()),
                    format!(
                        "rule {}; somebody else runs: sluice approve {}",
                        held.rules().join(", "),
                        held.id()
                    ),
                ];
                self.tape().said(id, "NOTICE", &lines).await;
                self.tell_all(&lines).await;
                let decided = tokio::select! {
                    decided = held.wait() => decided,
                    why = self.ending() => return Err(prohibited(&[why])),
                };
                match decided {
                    Ok(permit) => {
                        for by in held.approved_by() {
                            self.approval(id, held.id(), "approved", Some(by)).await;
                        }
                        permit
                    }
                    Err(refusal) => {
                        self.approval(id, held.id(), "denied", None).await;
                        self.completed(id, "refused".to_owned(), true, started).await;
                        return Err(prohibited(&super::say::refusal(&refusal)));
                    }
                }
            }
        };
        if !self.flush().await {
            return Err(ChannelOpenFailure::AdministrativelyProhibited);
        }
        Ok((operation, id, permit.obligations().record_strict))
    }

    /// The target shall listen and bring connections here. The port that it listens at; `None`: no.
    pub(in crate::services::ssh) async fn listen(&self, end: End) -> Option<u32> {
        let operation = match &end {
            End::Tcp { host, port } => self.place().listen(host.as_bytes(), *port),
            End::Socket(path) => self.place().listen_socket(path.as_bytes()),
        };
        let (id, started) = (self.tape().operation(), Instant::now());
        if let Err(words) = self.judge_now(id, &operation).await {
            self.tape().said(id, "ERROR", &words).await;
            self.completed(id, "refused".to_owned(), true, started).await;
            self.flush().await;
            self.tell_all(&words).await;
            return None;
        }
        if !self.flush().await {
            return None;
        }
        let asked = match &end {
            End::Tcp { host, port } => {
                timeout(PATIENCE, self.target.tcpip_forward(host, *port)).await.ok().and_then(Result::ok)
            }
            End::Socket(path) => {
                let asked = timeout(PATIENCE, self.target.streamlocal_forward(path)).await;
                asked.ok().and_then(Result::ok).map(|()| 0)
            }
        };
        let Some(bound) = asked else {
            self.completed(id, "the target refused it".to_owned(), true, started).await;
            return None;
        };
        let kept = match end {
            End::Tcp { host, port: 0 } => End::Tcp { host, port: bound },
            end => end,
        };
        self.listening.lock().insert(kept);
        self.completed(id, "listens".to_owned(), false, started).await;
        Some(bound)
    }

    /// It shall no longer.
    pub(in crate::services::ssh) async fn stop_listening(&self, end: &End) -> bool {
        if !self.listening.lock().remove(end) {
            return false;
        }
        match end {
            End::Tcp { host, port } => timeout(PATIENCE, self.target.cancel_tcpip_forward(host, *port))
                .await
                .is_ok_and(|r| r.is_ok()),
            End::Socket(path) => {
                timeout(PATIENCE, self.target.cancel_streamlocal_forward(path)).await.is_ok_and(|r| r.is_ok())
            }
        }
    }

    /// A channel that the target opens: only what a permitted request has asked for.
    pub(super) async fn incoming(self: Arc<Self>, incoming: Incoming) {
        let Incoming { kind, channel, reply } = incoming;
        let Some(place) = self.place_for_one().filter(|_| self.expected(&kind)) else {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        let (what, opened) = match &kind {
            IncomingKind::Tcp { address, port, originator } => {
                let (from, from_port) = originator.clone();
                let opened = self.client.channel_open_forwarded_tcpip(address, *port, from, from_port).await;
                (format!("{address}:{port} from {}:{}", originator.0, originator.1), opened)
            }
            IncomingKind::Socket(path) => {
                (path.clone(), self.client.channel_open_forwarded_streamlocal(path).await)
            }
            IncomingKind::Agent => ("agent".to_owned(), self.client.channel_open_agent().await),
            IncomingKind::X11 { originator } => {
                let (from, port) = originator.clone();
                ("screen".to_owned(), self.client.channel_open_x11(from, port).await)
            }
        };
        let Ok(client) = opened else { return reply.reject(ChannelOpenFailure::ConnectFailed).await };
        let id = self.tape().operation();
        let entry = sluice_api::record::Operation {
            id,
            kind: "incoming".to_owned(),
            text: what,
            verdict: "permit".to_owned(),
            ..Default::default()
        };
        self.tape().entry(sluice_api::record::entry::Entry::Operation(entry)).await;
        let client = ClientEnd::new(client, &self.client_flows, Some(place));
        let target = TargetEnd::new(channel, &self.target_flows);
        reply.accept().await;
        let job = job(id, self.place().shell(), Instant::now());
        carry(self, job, client, target, 0, Vec::new(), false).await;
    }

    fn expected(&self, kind: &IncomingKind) -> bool {
        match kind {
            // what a target calls its own address differs from what was asked for
            IncomingKind::Tcp { port, .. } => {
                let same = |end: &End| matches!(end, End::Tcp { port: own, .. } if own == port);
                self.listening.lock().iter().any(same)
            }
            IncomingKind::Socket(path) => self.listening.lock().contains(&End::Socket(path.clone())),
            IncomingKind::Agent => self.agent_lent.load(Ordering::Acquire),
            IncomingKind::X11 { .. } => self.screen_lent.load(Ordering::Acquire),
        }
    }
}

fn job(id: u64, operation: Operation, started: Instant) -> Job {
    Job { id, program: Program::Shell, operation, shape: Shape::Forward, started }
}

fn prohibited(words: &[String]) -> ChannelOpenFailure {
    let reason: String =
        words.join("; ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    ChannelOpenFailure::Other { code: 1, reason }
}

fn shown(end: &End) -> String {
    match end {
        End::Tcp { host, port } => format!("{host}:{port}"),
        End::Socket(path) => path.clone(),
    }
}
