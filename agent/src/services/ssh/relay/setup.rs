//! A session channel before anything runs in it: terminal, environment, agent and screen.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use russh::server;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Error, Pty, client};
use sluice_api::record;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::link::Link;
use super::record::ClientWriter;
use super::say;
use crate::ssh::{Flow, Flows};

/// Says why all that follows on the connection is done: for Sluice, and not for the target.
pub(super) const REASON: &str = "SLUICE_REASON";

/// How long a target may take to answer a request.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Variables that are asked for at all; the policy is asked for each of them.
const VARIABLES: [&str; 3] = ["LANG", "TERM", "COLORTERM"];
const VARIABLE_PREFIX: &str = "LC_";

/// What has come on a channel's leg.
pub(super) struct Inbox {
    /// Read already, and not looked at.
    pub(super) ahead: VecDeque<ChannelMsg>,
    pub(super) read: ChannelReadHalf,
    pub(super) flow: Arc<Flow>,
    flows: Arc<Flows>,
    number: u32,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.flows.close(self.number);
    }
}

impl Inbox {
    fn new(read: ChannelReadHalf, number: u32, flows: &Arc<Flows>) -> Self {
        Self { ahead: VecDeque::new(), read, flow: flows.open(number), flows: Arc::clone(flows), number }
    }

    /// The next message; `None`: the leg is closed. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<ChannelMsg> {
        match self.ahead.pop_front() {
            Some(message) => Some(message),
            None => self.read.wait().await,
        }
    }

    /// The next message, where it is data and has arrived already.
    pub(super) fn data_there(&mut self) -> Option<ChannelMsg> {
        if self.ahead.is_empty() {
            // nothing, or the end, which is seen again
            let message = self.read.wait().now_or_never().flatten()?;
            self.ahead.push_back(message);
        }
        self.ahead.pop_front_if(|message| matches!(message, ChannelMsg::Data { .. }))
    }
}

/// The target's end of a channel.
pub(super) struct TargetEnd {
    pub(super) inbox: Inbox,
    pub(super) write: ChannelWriteHalf<client::Msg>,
}

/// The client's end.
pub(super) struct ClientEnd {
    pub(super) number: u32,
    pub(super) inbox: Inbox,
    pub(super) write: ClientWriter,
    /// Among the channels of the connection, where it counts.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// The terminal of a channel.
pub(super) struct Screen {
    pub(super) term: String,
    pub(super) columns: u32,
    pub(super) rows: u32,
}

/// A channel that is open on both legs.
pub(in crate::services::ssh) struct Setup {
    pub(super) client: ClientEnd,
    /// `None` where there is no session to open one in.
    pub(super) target: Option<TargetEnd>,
    pub(super) screen: Option<Screen>,
    /// What was refused until now, to be said when something runs.
    pub(super) words: Vec<String>,
}

impl ClientEnd {
    pub(super) fn new(
        channel: Channel<server::Msg>,
        flows: &Arc<Flows>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let number = channel.id().number();
        let (read, write) = channel.split();
        let inbox = Inbox::new(read, number, flows);
        Self { number, inbox, write: ClientWriter::new(write), place }
    }
}

impl TargetEnd {
    pub(super) fn new(channel: Channel<client::Msg>, flows: &Arc<Flows>) -> Self {
        let number = channel.id().number();
        let (read, write) = channel.split();
        Self { inbox: Inbox::new(read, number, flows), write }
    }

    /// Whether the target said yes to what was asked last. What else comes meanwhile is kept.
    pub(super) async fn answered(&mut self, sent: Result<(), Error>) -> bool {
        if sent.is_err() {
            return false;
        }
        let Inbox { ahead, read, .. } = &mut self.inbox;
        let answer = async {
            loop {
                match read.wait().await {
                    Some(ChannelMsg::Success) => return true,
                    Some(ChannelMsg::Failure) | None => return false,
                    Some(ChannelMsg::WindowAdjusted { .. }) => {}
                    Some(other) => {
                        let closed = matches!(other, ChannelMsg::Close);
                        ahead.push_back(other);
                        if closed {
                            return false;
                        }
                    }
                }
            }
        };
        timeout(ANSWER_PATIENCE, answer).await.unwrap_or(false)
    }
}

impl Setup {
    /// For a person who is only to be told why there is nothing.
    pub(in crate::services::ssh) fn without_target(
        channel: Channel<server::Msg>,
        flows: &Arc<Flows>,
    ) -> Self {
        Self { client: ClientEnd::new(channel, flows, None), target: None, screen: None, words: Vec::new() }
    }

    /// A terminal that nothing but words of ours will be shown on.
    pub(in crate::services::ssh) fn screen_for_words(&mut self, term: &str, columns: u32, rows: u32) {
        self.screen = Some(Screen { term: term.to_owned(), columns, rows });
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.screen.is_some()
    }
}

/// Says why nothing runs in a channel, and ends it.
pub(in crate::services::ssh) async fn farewell(setup: Setup, lines: &[String], status: u32) {
    let lines: Vec<String> = setup.words.iter().chain(lines).cloned().collect();
    let terminal = setup.has_terminal();
    let half = setup.client.write.half();
    say::say(half, say::shown(&lines, terminal), terminal).await;
    say::end(half, status).await;
    if let Some(target) = setup.target {
        let _ = target.write.close().await;
    }
}

impl Link {
    /// Opens a session channel at the target.
    ///
    /// # Errors
    /// What the client is told.
    pub(in crate::services::ssh) async fn open_session(
        &self,
        channel: Channel<server::Msg>,
    ) -> Result<Setup, ChannelOpenFailure> {
        let place = self.place_for_one().ok_or(ChannelOpenFailure::ResourceShortage)?;
        let target = match timeout(ANSWER_PATIENCE, self.target.channel_open_session()).await {
            Ok(Ok(target)) => target,
            Ok(Err(Error::ChannelOpenFailure(why))) => return Err(why),
            Ok(Err(_)) | Err(_) => return Err(ChannelOpenFailure::ConnectFailed),
        };
        let client = ClientEnd::new(channel, &self.client_flows, Some(place));
        self.listen_to_all(client.number, &client.write, false);
        Ok(Setup {
            client,
            target: Some(TargetEnd::new(target, &self.target_flows)),
            screen: None,
            words: Vec::new(),
        })
    }

    /// A terminal for what comes next.
    pub(in crate::services::ssh) async fn pty(
        &self,
        setup: &mut Setup,
        term: &str,
        [columns, rows, width, height]: [u32; 4],
        modes: &[(Pty, u32)],
    ) -> bool {
        let operation = self.place().pty(term.as_bytes());
        let Some(target) = self.prepared(setup, &operation).await else { return false };
        let sent = target.write.request_pty(true, term, columns, rows, width, height, modes).await;
        if !target.answered(sent).await {
            return false;
        }
        setup.screen = Some(Screen { term: term.to_owned(), columns, rows });
        self.listen_to_all(setup.client.number, &setup.client.write, true);
        true
    }

    /// A variable, of those that are harmless everywhere.
    pub(in crate::services::ssh) async fn env(&self, setup: &mut Setup, name: &str, value: &str) -> bool {
        if name == REASON {
            self.gated().say_why(Some(value));
            return true;
        }
        if !VARIABLES.contains(&name) && !name.starts_with(VARIABLE_PREFIX) {
            return false;
        }
        let operation = self.place().env(name.as_bytes(), value.as_bytes());
        // clients send theirs unasked: a refusal is no news
        let id = self.tape().operation();
        let (Ok(_permit), Some(target)) = (self.judge_now(id, &operation).await, setup.target.as_mut())
        else {
            return false;
        };
        let sent = target.write.set_env(true, name, value).await;
        target.answered(sent).await
    }

    /// The person's agent is lent to the target.
    pub(in crate::services::ssh) async fn agent(&self, setup: &mut Setup) -> bool {
        let operation = self.place().agent_forward();
        let Some(target) = self.prepared(setup, &operation).await else { return false };
        let sent = target.write.agent_forward(true).await;
        let lent = target.answered(sent).await;
        if lent {
            self.agent_lent.store(true, Ordering::Release);
        }
        lent
    }

    /// The person's screen is lent to the target.
    pub(in crate::services::ssh) async fn x11(
        &self,
        setup: &mut Setup,
        single: bool,
        (protocol, cookie): (&str, &str),
        screen: u32,
    ) -> bool {
        let operation = self.place().x11_forward();
        let Some(target) = self.prepared(setup, &operation).await else { return false };
        let sent = target.write.request_x11(true, single, protocol, cookie, screen).await;
        let lent = target.answered(sent).await;
        if lent {
            self.screen_lent.store(true, Ordering::Release);
        }
        lent
    }

    /// The terminal has another size before anything runs in it.
    pub(in crate::services::ssh) async fn resize(
        &self,
        setup: &mut Setup,
        [columns, rows, width, height]: [u32; 4],
    ) {
        let (Some(screen), Some(target)) = (&mut setup.screen, &setup.target) else { return };
        (screen.columns, screen.rows) = (columns, rows);
        let _ = target.write.window_change(columns, rows, width, height).await;
    }

    /// Judges a request before something runs; the refusal is said later.
    async fn prepared<'s>(
        &self,
        setup: &'s mut Setup,
        operation: &sluice_policy::Operation,
    ) -> Option<&'s mut TargetEnd> {
        let (id, started) = (self.tape().operation(), Instant::now());
        match self.judge_now(id, operation).await {
            Ok(_permit) => setup.target.as_mut(),
            Err(words) => {
                self.completed(id, "refused".to_owned(), true, started).await;
                setup.words.extend(words);
                None
            }
        }
    }

    /// The terminal as the recording has it.
    pub(super) async fn note_screen(&self, operation: u64, screen: &Screen) {
        let terminal = record::Terminal {
            operation,
            columns: screen.columns,
            rows: screen.rows,
            term: screen.term.clone(),
        };
        self.tape().note(|recording| recording.terminal(terminal)).await;
    }
}
