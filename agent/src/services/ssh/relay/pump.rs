//! A channel on its way, in both directions, until the target or the client ends it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelWriteHalf, client};
use sluice_api::record;
use tokio::time::timeout;

use super::begin::Job;
use super::echo::Echo;
use super::gather::Gather;
use super::link::Link;
use super::say;
use super::scp::ScpPipe;
use super::setup::{ClientEnd, Inbox, TargetEnd};
use super::sftp::SftpPipe;
use super::shown::{Shown, due};
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
    /// The same of programs that talk to each other (rsync, git): a mask would break what they say.
    Machine,
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
    /// The target has ended its output, and the client is not told yet.
    pub(super) output_over: bool,
}

impl Ended {
    pub(super) fn by(tag: impl Into<String>, failed: bool) -> Self {
        Self { tag: tag.into(), failed, output_over: false }
    }

    /// A status replaces none, and what is known of the output stays.
    fn known(&mut self, tag: String, failed: bool) {
        self.tag = tag;
        self.failed = failed;
    }

    fn has_status(&self) -> bool {
        !self.tag.is_empty()
    }
}

/// What both directions of a channel share.
pub(super) struct Way<'l> {
    pub(super) link: &'l Link,
    pub(super) id: u64,
    pub(super) strict: bool,
    pub(super) client: super::record::ClientWriter,
    presence: Option<Presence>,
    /// A connection of somebody else's protocol: it ends without a status.
    forward: bool,
    /// The terminal's width.
    columns: AtomicU32,
    /// What was typed in the terminal and has not been shown yet.
    echo: Echo,
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

    /// Sends what has come together in both directions, on record. `false`: nothing goes any more.
    pub(super) async fn both(
        &self,
        to_client: &mut Gather,
        to_target: &mut Gather,
        up: &ChannelWriteHalf<client::Msg>,
    ) -> bool {
        for bytes in to_client.take() {
            if !self.to_client(&bytes, false, |_| {}).await {
                return false;
            }
        }
        for bytes in to_target.take() {
            if !self.to_target(&bytes, |_| {}).await || up.data_bytes(bytes).await.is_err() {
                return false;
            }
        }
        true
    }

    fn unrecorded(&self, why: &str) -> bool {
        self.link.unrecorded(why);
        false
    }
}

/// Carries a channel to its end. `columns`: of its terminal, else 0. `words`: what was refused before it ran.
pub(super) async fn carry(
    link: Arc<Link>,
    job: Job,
    client: ClientEnd,
    target: TargetEnd,
    columns: u32,
    words: Vec<String>,
    strict: bool,
) {
    let terminal = matches!(job.shape, Shape::Screen);
    let ClientEnd { number, inbox: from_client, write, place: _place } = client;
    let TargetEnd { inbox: from_target, write: target } = target;
    let way = Way {
        link: &link,
        id: job.id,
        strict,
        client: write.clone(),
        presence: link.presence(),
        forward: matches!(job.shape, Shape::Forward),
        columns: AtomicU32::new(columns),
        echo: Echo::default(),
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
    if ended.output_over {
        // it ended without a status
        let _ = write.half().eof().await;
    }
    link.completed(job.id, ended.tag, ended.failed, job.started).await;
    link.flush().await;
    if link.is_ending() {
        // the session's last words go through this channel, and its connection is closed behind them
        return;
    }
    link.hush(number);
    let _ = write.half().close().await;
}

/// Bytes that are nobody's to look into.
pub(super) async fn plain(
    way: &Way<'_>,
    shape: &Shape,
    from_client: Inbox,
    from_target: Inbox,
    target: &ChannelWriteHalf<client::Msg>,
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
    Ended::by("the client closed the channel", true)
}

/// From the client to the target, until the client closes its end.
async fn up(way: &Way<'_>, shape: &Shape, mut inbox: Inbox, target: &ChannelWriteHalf<client::Msg>) {
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
                if terminal {
                    way.echo.typed(&data);
                }
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
    target: &ChannelWriteHalf<client::Msg>,
) -> bool {
    match message {
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            let terminal = record::Terminal {
                operation: way.id,
                columns: col_width,
                rows: row_height,
                term: String::new(),
            };
            way.columns.store(col_width, Ordering::Release);
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
    let mut ended = Ended::default();
    let mut streams = [false, true].map(|stderr| Shown::new(shape, &way.columns, &way.echo, stderr));
    loop {
        let held_until = streams.iter().filter_map(Shown::deadline).min();
        let message = tokio::select! {
            biased;
            message = inbox.next() => message,
            () = due(held_until) => {
                if !flush(way, shape, &mut streams).await {
                    return client_gone();
                }
                continue;
            }
        };
        let (data, stream) = match message {
            Some(ChannelMsg::Data { data }) => (data, streams.first_mut()),
            Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => (data, streams.last_mut()),
            Some(ChannelMsg::ExtendedData { data, .. }) => (data, None),
            Some(ChannelMsg::WindowAdjusted { .. }) => continue,
            other => {
                // nothing that was held back comes behind the end
                if !flush(way, shape, &mut streams).await {
                    return client_gone();
                }
                match other {
                    None | Some(ChannelMsg::Close) => break,
                    Some(other) => status(way, other, &mut ended).await,
                }
                continue;
            }
        };
        let length = data.len();
        let passed = match stream {
            Some(stream) => {
                let shown = stream.push(data);
                if stream.found_binary() {
                    let lines = ["the output is no text: it passes unmasked".to_owned()];
                    way.link.tape().said(way.id, "NOTICE", &lines).await;
                }
                show(way, shape, &shown, stream.stderr).await
            }
            // a client would not know what to do with it
            None => true,
        };
        inbox.flow.took(length);
        if !passed {
            return client_gone();
        }
    }
    if !ended.has_status() {
        // as it was: clients have their own words for it
        ended.known("closed without a status".to_owned(), !way.forward);
    }
    ended
}

fn client_gone() -> Ended {
    Ended::by("the client has gone", true)
}

/// Shows what the masks hold back. `false`: nobody is there to see it.
async fn flush(way: &Way<'_>, shape: &Shape, streams: &mut [Shown<'_>]) -> bool {
    for stream in streams {
        let shown = stream.flush();
        if !show(way, shape, &shown, stream.stderr).await {
            return false;
        }
    }
    true
}

/// What may be seen goes into the recording, and then to the client.
async fn show(way: &Way<'_>, shape: &Shape, shown: &Bytes, stderr: bool) -> bool {
    if shown.is_empty() {
        return true;
    }
    let (id, terminal) = (way.id, matches!(shape, Shape::Screen));
    let note = |recording: &mut SessionRecording| match (terminal, stderr) {
        (true, _) => recording.screen(id, shown),
        (false, true) => recording.stderr(id, shown),
        (false, false) => recording.stream(id, shown, false),
    };
    way.to_client(shown, stderr, note).await
}

/// How a program ended, and what else a target says beside its output.
///
/// The end of a program's output waits for its status. A client that has nothing more to send and sees that end closes
/// the channel (OpenSSH's and PuTTY's do), russh answers a close at once with its own, and the status that a server sends
/// behind the end of the output would have no channel left: PuTTY then reports 0.
pub(super) async fn status(way: &Way<'_>, message: ChannelMsg, ended: &mut Ended) {
    let half = way.client.half();
    match message {
        ChannelMsg::Eof => ended.output_over = true,
        ChannelMsg::ExitStatus { exit_status } => {
            ended.known(format!("exit {exit_status}"), exit_status != 0);
            let _ = half.exit_status(exit_status).await;
        }
        ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
            ended.known(format!("signal {signal_name:?}"), true);
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
    if ended.output_over && (way.forward || ended.has_status()) {
        ended.output_over = false;
        let _ = half.eof().await;
    }
}
