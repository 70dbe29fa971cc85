//! The proxy's side of the hand-over: what the loader gives, and the questions that only root can answer.
//!
//! Enters: packets of the loader. Leaves: listeners, secrets, kernel events (once, acknowledged after they are on
//! record), answers. Must hold: the loader gone means that this process ends, since nobody would tell it of a
//! changed configuration any more.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use sluice_api::common::Process;
use sluice_api::handover::{
    self, Decided, Describe, EventsSeen, ExecutionsSeen, Follow, Followed, FromLoader, FromProxy, Hello,
    Layers, ModeSet, ProbeLayers, Ready, Reloaded, SetMode, Settle, Settled, from_loader, from_proxy,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::socket::Socket;
use crate::upstream::ssh::Ends;

/// Version of the conversation; both sides must name the same.
pub const VERSION: u32 = 1;
/// The loader answers from /proc, after the canaries that it may just be sending, which takes seconds on a busy machine; if it
/// takes longer something is wrong, and the answer is "unknown".
const PATIENCE: Duration = Duration::from_secs(15);
/// Canaries try each road, some by waiting for a time-out.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);

/// Of what is wrong with a policy the loader is told so many characters.
const WORDS: usize = 2048;
/// A loader that is not there yet is looked for again after this.
const AGAIN: Duration = Duration::from_millis(50);

/// Why the loader can't be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("the connection to sluice-loader failed")]
    Socket(#[from] io::Error),
    /// Something else than this version's messages came.
    #[error("sluice-loader sent what this version does not understand: {0}")]
    Protocol(String),
    /// The loader is gone.
    #[error("sluice-loader has gone")]
    Gone,
    /// No answer in time.
    #[error("sluice-loader did not answer in time")]
    Late,
}

/// What came with the first message.
pub struct Endowment {
    /// Listening TCP sockets (IPv4, IPv6 loopback).
    pub listeners: Vec<OwnedFd>,
    /// Listening unix socket for `sluice`.
    pub admin: OwnedFd,
    /// The listener of `metrics.listen`, where there is one.
    pub metrics: Option<OwnedFd>,
    /// Clock ticks per second, to compare start times of the kernel with those of /proc.
    pub ticks_per_second: u64,
}

/// What the loader says by itself.
pub enum News {
    /// Tries that the kernel programs saw; to be acknowledged by [`LoaderLink::events_seen`].
    Events(handover::Events),
    /// What sessions execute; to be acknowledged by [`LoaderLink::executions_seen`].
    Executions(handover::Executions),
    /// A program waits for a decision, to be given by [`LoaderLink::decided`].
    Run(handover::Run),
    /// An answer that stands behind the executions it is about; to be given back by [`LoaderLink::settled`].
    Settled(Settled),
    /// Secrets by name; each descriptor to be read once.
    Credentials {
        /// Name and descriptor.
        secrets: Vec<(String, OwnedFd)>,
        /// Another batch follows.
        more: bool,
    },
    /// Listeners at the Unix sockets of services: all of them, each with the name of its target and its path.
    Sockets(Vec<(handover::Socket, OwnedFd)>),
    /// Re-read the configuration and tell by [`LoaderLink::reloaded`].
    Reload,
    /// Finish and exit.
    Stop,
}

enum Waiting {
    Lineage(oneshot::Sender<Vec<Process>>),
    Layers(oneshot::Sender<Layers>),
    Followed(oneshot::Sender<Followed>),
    Settled(oneshot::Sender<Settled>),
    ModeSet(oneshot::Sender<ModeSet>),
}

/// Questions to the loader; shared by all rooms.
pub struct LoaderLink {
    outgoing: mpsc::Sender<FromProxy>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    destinations: watch::Receiver<Arc<Vec<handover::Destination>>>,
}

/// Connects to a loader that waits at `path`; where none does yet, this waits for it. To be called before there is a
/// runtime.
///
/// # Errors
/// Anything else than that nobody is there.
pub fn reach(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::INTR) => std::thread::sleep(AGAIN),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The configuration that the loader's first message names, which stays to be received.
///
/// # Errors
/// [`LinkError`]: the loader has gone, or says something else first.
pub fn served(loader: &OwnedFd) -> Result<PathBuf, LinkError> {
    let mut packet = vec![0; super::socket::MAX_PACKET];
    let (_, length) = recv(loader, packet.as_mut_slice(), RecvFlags::PEEK).map_err(io::Error::from)?;
    if length == 0 {
        return Err(LinkError::Gone);
    }
    match decode(packet.get(..length).unwrap_or_default())? {
        Some(from_loader::Message::Hello(hello)) if !hello.config.is_empty() => Ok(hello.config.into()),
        _ => Err(LinkError::Protocol("the first message names no configuration".into())),
    }
}

impl LoaderLink {
    /// Receives the first message, answers it (why the last good copy of the policy serves, or nothing) and starts the
    /// conversation.
    ///
    /// # Errors
    /// [`LinkError`] for another version, missing descriptors, a broken socket.
    pub async fn begin(
        descriptor: OwnedFd,
        policy_fault: &str,
    ) -> Result<(Arc<Self>, Endowment, mpsc::Receiver<News>), LinkError> {
        let socket = Socket::new(descriptor)?;
        let (packet, descriptors) = socket.receive().await?.ok_or(LinkError::Gone)?;
        let endowment = endowment(&packet, descriptors)?;
        // what a packet has no room for, the proxy's own log has
        let policy_fault = policy_fault.chars().take(WORDS).collect();
        let ready = Ready { version: VERSION, policy_fault };
        let ready = FromProxy { message: Some(from_proxy::Message::Ready(ready)) };
        socket.send(&ready.encode_to_vec()).await?;

        let (outgoing, queue) = mpsc::channel(1024);
        // events wait here while audit is slow; the loader keeps what is not acknowledged
        let (news, inbox) = mpsc::channel(64);
        let (places, destinations) = watch::channel(Arc::default());
        let link =
            Arc::new(Self { outgoing, waiting: Mutex::default(), next: AtomicU64::new(1), destinations });
        let socket = Arc::new(socket);
        tokio::spawn(write(Arc::clone(&socket), queue));
        tokio::spawn(read(socket, Arc::clone(&link), news, places));
        Ok((link, endowment, inbox))
    }

    /// The process behind `pid` and its ancestors up to pid 1; empty when it is gone or is another one by now.
    /// `start_ns` from the origin record, or 0 where only the pid is known.
    ///
    /// # Errors
    /// [`LinkError`]: then nothing is known, and nothing may be decided in the caller's favour.
    pub async fn describe(&self, pid: u32, start_ns: u64) -> Result<Vec<Process>, LinkError> {
        let (answer, wait) = oneshot::channel();
        let request = self.expect(Waiting::Lineage(answer));
        self.ask(request, from_proxy::Message::Describe(Describe { request, pid, start_ns }), wait, PATIENCE)
            .await
    }

    /// Lets the loader send its canaries down every road and tell what became of them.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn layers(&self) -> Result<Layers, LinkError> {
        let (answer, wait) = oneshot::channel();
        let request = self.expect(Waiting::Layers(answer));
        self.ask(request, from_proxy::Message::ProbeLayers(ProbeLayers { request }), wait, PROBE_PATIENCE)
            .await
    }

    /// Lets the kernel follow whoever serves a connection.
    ///
    /// # Errors
    /// [`LinkError`]: then nobody is followed.
    pub async fn follow(&self, session: &str, ends: Ends, judged: bool) -> Result<Followed, LinkError> {
        let (answer, wait) = oneshot::channel();
        let request = self.expect(Waiting::Followed(answer));
        let (session, proxy, target) = (session.to_owned(), ends.proxy.to_string(), ends.target.to_string());
        let message = from_proxy::Message::Follow(Follow { request, session, proxy, target, judged });
        self.ask(request, message, wait, PATIENCE).await
    }

    /// Everything that the kernel has seen of a session so far has been delivered when this returns; gives what is left
    /// of it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn settle(&self, session: &str) -> Result<Settled, LinkError> {
        let (answer, wait) = oneshot::channel();
        let request = self.expect(Waiting::Settled(answer));
        let message = from_proxy::Message::Settle(Settle { request, session: session.to_owned() });
        self.ask(request, message, wait, PATIENCE).await
    }

    /// Lets the guard enforce, or not. Whoever calls has it on record already.
    ///
    /// # Errors
    /// [`LinkError`]: nothing is known of it then. Inside: why the loader did not do it.
    pub async fn set_mode(&self, mode: handover::Mode) -> Result<Result<(), String>, LinkError> {
        let (answer, wait) = oneshot::channel();
        let request = self.expect(Waiting::ModeSet(answer));
        let message = from_proxy::Message::SetMode(SetMode { request, mode: Some(mode) });
        let set = self.ask(request, message, wait, PATIENCE).await?;
        Ok(if set.error.is_empty() { Ok(()) } else { Err(set.error) })
    }

    /// What came before it has been delivered.
    pub fn settled(&self, settled: Settled) {
        if let Some(Waiting::Settled(answer)) = self.answer(settled.request) {
            let _ = answer.send(settled);
        }
    }

    /// Whether the program that waits may run.
    pub async fn decided(&self, request: u64, allowed: bool) {
        self.tell(from_proxy::Message::Decided(Decided { request, allowed })).await;
    }

    /// Executions up to this sequence number are in their recordings.
    pub async fn executions_seen(&self, up_to: u64) {
        self.tell(from_proxy::Message::ExecutionsSeen(ExecutionsSeen { up_to })).await;
    }

    /// Events up to this sequence number are on record.
    pub async fn events_seen(&self, up_to: u64) {
        self.tell(from_proxy::Message::EventsSeen(EventsSeen { up_to })).await;
    }

    /// The answer to [`News::Reload`]: accepted, or why not.
    pub async fn reloaded(&self, outcome: Result<(), String>) {
        let (accepted, error) = match outcome {
            Ok(()) => (true, String::new()),
            Err(error) => (false, error),
        };
        self.tell(from_proxy::Message::Reloaded(Reloaded { accepted, error })).await;
    }

    /// What stands in the kernel's table of protected destinations.
    pub fn destinations(&self) -> Arc<Vec<handover::Destination>> {
        Arc::clone(&self.destinations.borrow())
    }

    fn expect(&self, waiting: Waiting) -> u64 {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(request, waiting);
        request
    }

    async fn ask<T>(
        &self,
        request: u64,
        message: from_proxy::Message,
        wait: oneshot::Receiver<T>,
        patience: Duration,
    ) -> Result<T, LinkError> {
        self.tell(message).await;
        let answer = tokio::time::timeout(patience, wait).await;
        if answer.is_err() {
            self.waiting.lock().remove(&request);
        }
        answer.map_err(|_| LinkError::Late)?.map_err(|_| LinkError::Gone)
    }

    async fn tell(&self, message: from_proxy::Message) {
        // the writer is gone only together with the loader, and then this process ends
        let _ = self.outgoing.send(FromProxy { message: Some(message) }).await;
    }

    fn answer(&self, request: u64) -> Option<Waiting> {
        self.waiting.lock().remove(&request)
    }
}

fn endowment(packet: &[u8], descriptors: Vec<OwnedFd>) -> Result<Endowment, LinkError> {
    let Some(from_loader::Message::Hello(hello)) = decode(packet)? else {
        return Err(LinkError::Protocol("the first message is no Hello".into()));
    };
    let Hello { version, abi_version, listeners, ticks_per_second, metrics, .. } = hello;
    if version != VERSION || abi_version != sluice_abi::ABI_VERSION {
        return Err(LinkError::Protocol(format!(
            "hand-over version {version} and kernel ABI {abi_version}, but this sluiced speaks {VERSION} and {}: \
             install loader and proxy of the same release",
            sluice_abi::ABI_VERSION
        )));
    }
    let mut descriptors = descriptors.into_iter();
    let taken: Vec<OwnedFd> = descriptors.by_ref().take(listeners.len()).collect();
    let admin = descriptors.next();
    let metrics = if metrics { Some(descriptors.next()) } else { None };
    let (true, Some(admin), false, None) =
        (taken.len() == listeners.len(), admin, matches!(metrics, Some(None)), descriptors.next())
    else {
        return Err(LinkError::Protocol(
            "Hello came with another number of descriptors than it names".into(),
        ));
    };
    let metrics = metrics.flatten();
    Ok(Endowment { listeners: taken, admin, metrics, ticks_per_second: u64::from(ticks_per_second.max(1)) })
}

fn decode(packet: &[u8]) -> Result<Option<from_loader::Message>, LinkError> {
    FromLoader::decode(packet).map(|m| m.message).map_err(|e| LinkError::Protocol(e.to_string()))
}

async fn write(socket: Arc<Socket>, mut queue: mpsc::Receiver<FromProxy>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = socket.send(&message.encode_to_vec()).await {
            tracing::error!(%error, "writing to sluice-loader failed");
            return;
        }
    }
}

/// Ends when the loader does; dropping `news` then tells [`crate::app`].
async fn read(
    socket: Arc<Socket>,
    link: Arc<LoaderLink>,
    news: mpsc::Sender<News>,
    places: watch::Sender<Arc<Vec<handover::Destination>>>,
) {
    let mut batches = Vec::new();
    loop {
        let (packet, descriptors) = match socket.receive().await {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "reading from sluice-loader failed");
                break;
            }
        };
        let message = match decode(&packet) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, "sluice-loader");
                break;
            }
        };
        let said = match message {
            Some(from_loader::Message::Described(described)) => {
                if let Some(Waiting::Lineage(answer)) = link.answer(described.request) {
                    let _ = answer.send(described.lineage);
                }
                continue;
            }
            Some(from_loader::Message::Layers(layers)) => {
                if let Some(Waiting::Layers(answer)) = link.answer(layers.request) {
                    let _ = answer.send(layers);
                }
                continue;
            }
            Some(from_loader::Message::Followed(followed)) => {
                if let Some(Waiting::Followed(answer)) = link.answer(followed.request) {
                    let _ = answer.send(followed);
                }
                continue;
            }
            Some(from_loader::Message::ModeSet(set)) => {
                if let Some(Waiting::ModeSet(answer)) = link.answer(set.request) {
                    let _ = answer.send(set);
                }
                continue;
            }
            Some(from_loader::Message::Destinations(list)) => {
                batches.extend(list.destinations);
                if !list.more {
                    places.send_replace(Arc::new(std::mem::take(&mut batches)));
                }
                continue;
            }
            Some(from_loader::Message::Credentials(credentials)) => {
                if credentials.names.len() != descriptors.len() {
                    tracing::error!("credentials came with another number of descriptors than names");
                    break;
                }
                News::Credentials {
                    secrets: credentials.names.into_iter().zip(descriptors).collect(),
                    more: credentials.more,
                }
            }
            Some(from_loader::Message::Sockets(sockets)) => {
                if sockets.sockets.len() != descriptors.len() {
                    tracing::error!("sockets came with another number of descriptors than names");
                    break;
                }
                News::Sockets(sockets.sockets.into_iter().zip(descriptors).collect())
            }
            Some(from_loader::Message::Events(events)) => News::Events(events),
            Some(from_loader::Message::Executions(executions)) => News::Executions(executions),
            Some(from_loader::Message::Settled(settled)) => News::Settled(settled),
            Some(from_loader::Message::Run(run)) => News::Run(run),
            Some(from_loader::Message::Reload(_)) => News::Reload,
            Some(from_loader::Message::Stop(_)) => News::Stop,
            Some(from_loader::Message::Hello(_)) | None => {
                tracing::error!("sluice-loader sent a message that has no place here");
                break;
            }
        };
        if news.send(said).await.is_err() {
            break;
        }
    }
    link.waiting.lock().clear();
}
