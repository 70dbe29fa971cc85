//! A channel on its way, in both directions, until the target or the client ends it.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelMsg;
use sluice_api::record;
use tokio::time::timeout;

use super::begin::Job;
use super::link::Link;
use super::say;
use super::scp::ScpPipe;
use super::setup::{ClientEnd, Inbox, TargetEnd};
use super::sftp::SftpPipe;
use crate::gate::Presence;
use crate::recorder::{Released, SessionRecording};

/// After the client has closed its end, for the target to close its own.
const AFTER_CLIENT: Duration = Duration::from_secs(5);
/// The one kind of extended data that there is (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// What goes through a channel.
pub(super) enum Shape {
    /// A terminal: its output is kept whole, its keystrokes are counted.
    Screen,
    /// Standard streams, kept up to the limits.
    Command,
    /// SFTP: every request is judged.
    Sftp(Box<SftpPipe>),
    /// scp: every file is judged.
    Scp(Box<ScpPipe>),
    /// A connection of somebody else's protocol.
    Forward,
}

/// How a channel ended at the target.
#[derive(Default)]
pub(super) struct Ended {
    /// The tag of the recording: `exit 0`, `signal TERM`.
    pub(super) tag: String,
    pub(super) failed: bool,
}

/// What both directions of a channel share.
pub(super) struct Way<'l> {
    pub(super) link: &'l Link,
    pub(super) id: u64,
    pub(super) strict: bool,
    pub(super) client: super::record::ClientWriter,
    presence: Option<Presence>,
    /// Something failed on our side: the channel ends with a status of ours.
    pub(super) broken: AtomicBool,
}

impl Way<'_> {
    /// Waits while somebody has to be present and is not.
    pub(super) async fn attended(&self) {
        if let Some(presence) = &self.presence
            && !presence.is_complete()
        {
            presence.clone().complete().await;
        }
    }

    /// Bytes of the target, recorded by `note`, to the client. `false`: the way is closed.
    pub(super) async fn to_client(
        &self,
        bytes: &Bytes,
        stderr: bool,
        note: impl FnOnce(&mut SessionRecording),
    ) -> bool {
        self.attended().await;
        match self.link.tape().pass(note, Released::masked(bytes), self.strict).await {
            Ok(recorded) => self.client.write(bytes, recorded, stderr).await,
            Err(why) => self.unrecorded(&why),
        }
    }

    /// Bytes of the client, recorded by `note`; from then on they may go to the target.
    pub(super) async fn to_target(&self, bytes: &Bytes, note: impl FnOnce(&mut SessionRecording)) -> bool {
        self.attended().await;
        match self.link.tape().pass(note, Released::permitted(bytes), false).await {
            Ok(_recorded) => true,
            Err(why) => self.unrecorded(&why),
        }
    }

    fn unrecorded(&self, why: &str) -> bool {
        self.broken.store(true, Ordering::Release);
        self.link.end(format!("it can't be recorded: {why}"));
        false
    }
}

/// Carries a channel to its end. `words`: what was refused before it ran.
pub(super) async fn carry(
    link: Arc<Link>,
    job: Job,
    client: ClientEnd,
    target: TargetEnd,
    words: Vec<String>,
    strict: bool,
) {
    let terminal = matches!(job.shape, Shape::Screen);
    let ClientEnd { number, inbox: from_client, write } = client;
    let TargetEnd { inbox: from_target, write: target } = target;
    let way = Way {
        link: &link,
        id: job.id,
        strict,
        client: write.clone(),
        presence: link.presence(),
        broken: AtomicBool::new(false),
    };
    if !words.is_empty() {
        link.tape().said(job.id, "ERROR", &words).await;
        say::say(write.half(), say::shown(&words, terminal), terminal).await;
    }
    let ended = match job.shape {
        Shape::Sftp(pipe) => pipe.carry(&way, from_client, from_target, &target).await,
        Shape::Scp(pipe) => pipe.carry(&way, from_client, from_target, &target).await,
        shape => plain(&way, &shape, from_client, from_target, &target).await,
    };
    let _ = target.close().await;
    link.completed(job.id, ended.tag, ended.failed, job.started).await;
    link.flush().await;
    link.hush(number);
    let _ = write.half().close().await;
}

/// Bytes that are nobody's to look into.
pub(super) async fn plain(
    way: &Way<'_>,
    shape: &Shape,
    from_client: Inbox,
    from_target: Inbox,
    target: &russh::ChannelWriteHalf<russh::client::Msg>,
) -> Ended {
    let up = up(way, shape, from_client, target);
    let down = down(way, shape, from_target);
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut down => ended,
        () = &mut up => {
            let _ = target.close().await;
            timeout(AFTER_CLIENT, down).await.unwrap_or_else(|_| gone())
        }
    }
}

/// The client has closed its end, and the target has not said how it ended.
pub(super) fn gone() -> Ended {
    Ended { tag: "the client closed the channel".to_owned(), failed: true }
}

/// From the client to the target, until the client closes its end.
async fn up(
    way: &Way<'_>,
    shape: &Shape,
    mut inbox: Inbox,
    target: &russh::ChannelWriteHalf<russh::client::Msg>,
) {
    let (id, terminal) = (way.id, matches!(shape, Shape::Screen));
    while let Some(message) = inbox.next().await {
        let sent = match message {
            ChannelMsg::Data { data } => {
                let length = data.len();
                let note = |recording: &mut SessionRecording| match terminal {
                    true => recording.typed(id, length),
                    false => recording.stream(id, &data, true),
                };
                let passed = way.to_target(&data, note).await;
                let sent = passed && target.data_bytes(data).await.is_ok();
                inbox.flow.took(length);
                sent
            }
            ChannelMsg::Eof => target.eof().await.is_ok(),
            ChannelMsg::Close => return,
            other => control(way, other, target).await,
        };
        if !sent {
            return;
        }
    }
}

/// What goes to a running program beside its input. `false`: the target has gone.
pub(super) async fn control(
    way: &Way<'_>,
    message: ChannelMsg,
    target: &russh::ChannelWriteHalf<russh::client::Msg>,
) -> bool {
    match message {
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            let terminal = record::Terminal {
                operation: way.id,
                columns: col_width,
                rows: row_height,
                term: String::new(),
            };
            way.link.tape().note(|recording| recording.terminal(terminal)).await;
            target.window_change(col_width, row_height, pix_width, pix_height).await.is_ok()
        }
        ChannelMsg::Signal { signal } => target.signal(signal).await.is_ok(),
        // requests were answered when they came; a client has no other extended data to send
        _ => true,
    }
}

/// From the target to the client, until the target closes its end.
async fn down(way: &Way<'_>, shape: &Shape, mut inbox: Inbox) -> Ended {
    let (id, terminal) = (way.id, matches!(shape, Shape::Screen));
    let mut ended = Ended::default();
    while let Some(message) = inbox.next().await {
        let (data, stderr) = match message {
            ChannelMsg::Data { data } => (data, false),
            ChannelMsg::ExtendedData { data, ext: STDERR } => (data, true),
            ChannelMsg::ExtendedData { data, .. } => {
                inbox.flow.took(data.len());
                continue;
            }
            ChannelMsg::Close => break,
            other => {
                status(way, other, &mut ended).await;
                continue;
            }
        };
        let note = |recording: &mut SessionRecording| match (terminal, stderr) {
            (true, _) => recording.screen(id, &data),
            (false, true) => recording.stderr(id, &data),
            (false, false) => recording.stream(id, &data, false),
        };
        let passed = way.to_client(&data, stderr, note).await;
        inbox.flow.took(data.len());
        if !passed {
            return Ended { tag: "the client has gone".to_owned(), failed: true };
        }
    }
    if ended.tag.is_empty() {
        // as it was: clients have their own words for it
        ended = Ended { tag: "closed without a status".to_owned(), failed: !matches!(shape, Shape::Forward) };
    }
    ended
}

/// How a program ended, and what else a target says beside its output.
pub(super) async fn status(way: &Way<'_>, message: ChannelMsg, ended: &mut Ended) {
    let half = way.client.half();
    match message {
        ChannelMsg::Eof => {
            let _ = half.eof().await;
        }
        ChannelMsg::ExitStatus { exit_status } => {
            *ended = Ended { tag: format!("exit {exit_status}"), failed: exit_status != 0 };
            let _ = half.exit_status(exit_status).await;
        }
        ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
            *ended = Ended { tag: format!("signal {signal_name:?}"), failed: true };
            let client = &way.link.client;
            let _ = client
                .exit_signal_request(half.id(), signal_name, core_dumped, error_message, lang_tag)
                .await;
        }
        ChannelMsg::XonXoff { client_can_do } => {
            let _ = way.link.client.xon_xoff_request(half.id(), client_can_do).await;
        }
        _ => {}
    }
}
