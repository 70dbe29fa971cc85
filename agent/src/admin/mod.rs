//! What `sluice` may ask: the admin socket, one conversation a connection.
//!
//! Enters: frames of the admin socket, from anybody on the host. Leaves: answers. Must hold: who asks is the kernel's
//! word (SO_PEERCRED) and the login bound to that process's session, never something in a message; what needs a
//! login is refused without one; one user's connections can't keep others out.

mod answers;
mod classify;
mod decisions;
mod explain;
mod live;
mod login;
mod mode;
mod prove;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_api::admin::{self, Request, Response, request, response};
use sluice_api::common::Process;
use sluice_api::frame;
use sluice_policy::Context;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::app::House;
use crate::identity::BoundLogin;

pub(crate) use prove::KIND as COVERAGE;

/// Conversations of one user at a time.
const MAX_OF_ONE: usize = 64;
/// How long a conversation may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Who asks.
pub(crate) struct Caller {
    /// The login of his session, if there is one.
    pub(crate) login: Option<Arc<BoundLogin>>,
    /// Effective uid of the process.
    pub(crate) uid: u32,
    /// The process and its ancestors.
    pub(crate) lineage: Vec<Process>,
}

impl Caller {
    /// His login, or the answer that he needs one.
    pub(crate) fn logged_in(&self) -> Result<&Arc<BoundLogin>, admin::Error> {
        self.login
            .as_ref()
            .ok_or_else(|| error("not_logged_in", "nobody is logged in here", "run `sluice login`"))
    }

    /// What policies may look at.
    pub(crate) fn context(&self) -> Context {
        let process = self.lineage.first();
        Context {
            source: String::new(),
            uid: self.uid,
            tty: process.map(|p| p.tty.clone()).unwrap_or_default(),
            exe: process.map(|p| p.exe.clone()).unwrap_or_default(),
            authenticated_by: self.login.as_ref().map(|l| l.login.how.to_owned()).unwrap_or_default(),
            now_s: crate::gate::now_us() / 1_000_000,
            application: "sluice".into(),
        }
    }
}

/// An answer that is a refusal.
pub(crate) fn error(code: &str, message: impl Into<String>, hint: impl Into<String>) -> admin::Error {
    admin::Error { code: code.into(), message: message.into(), hint: hint.into() }
}

/// Serves the admin socket until the task is dropped.
pub async fn serve(listener: UnixListener, house: Arc<House>) {
    let counts = Arc::new(Counts::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (house, counts) = (Arc::clone(&house), Arc::clone(&counts));
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &house, &counts).await {
                        tracing::debug!(%error, "a conversation on the admin socket ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the admin socket failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[derive(Default)]
struct Counts(Mutex<HashMap<u32, usize>>);

struct Counted<'a>(&'a Counts, u32);

impl Counts {
    fn enter(&self, uid: u32) -> Option<Counted<'_>> {
        let mut counts = self.0.lock();
        let count = counts.entry(uid).or_default();
        if *count >= MAX_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Counted(self, uid))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

async fn converse(stream: UnixStream, house: &Arc<House>, counts: &Counts) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let mut wire = Wire { stream, buffer: Vec::new() };
    let Some(_counted) = counts.enter(peer.uid()) else {
        return wire
            .refuse(error("unavailable", "too many conversations of this user", "end one first"))
            .await;
    };
    let Some(pid) = peer.pid().and_then(|pid| u32::try_from(pid).ok()) else {
        return wire.refuse(error("refused", "the kernel does not tell which process asks", "")).await;
    };
    let lineage = match house.link.describe(pid, 0).await {
        Ok(lineage) if !lineage.is_empty() => lineage,
        Ok(_) => return wire.refuse(error("refused", "the process that asked has ended", "")).await,
        Err(e) => {
            return wire.refuse(error("unavailable", e.to_string(), "see the log of sluice-loader")).await;
        }
    };
    while let Some(request) = wire.next().await? {
        // looked up for each request: a login may have come or gone meanwhile
        let caller =
            Caller { login: house.bindings.find(&lineage), uid: peer.uid(), lineage: lineage.clone() };
        let outcome = match request {
            request::Request::Login(login) => login::login(house, &caller, login, &mut wire).await?,
            request::Request::LoginCode(_) => Err(error(
                "invalid",
                "a code without a login that waits for it",
                "run `sluice login --browser`",
            )),
            request::Request::Logout(logout) => login::logout(house, &caller, &logout),
            request::Request::Whoami(_) => login::whoami(&caller),
            request::Request::Replay(replay) => answers::replay(house, &caller, &replay, &mut wire).await?,
            request::Request::Events(events) => answers::events(house, &caller, &events, &mut wire).await?,
            request::Request::Watch(watch) => live::watch(house, &caller, &watch, &mut wire).await?,
            request::Request::Classify(asked) => {
                classify::classify(house, &caller, &asked, &mut wire).await?
            }
            request::Request::Kill(kill) => live::kill(house, &caller, &kill),
            request::Request::SetMode(asked) => mode::set(house, &caller, &asked, &mut wire).await?,
            other => answers::answer(house, &caller, other).await,
        };
        match outcome {
            Ok(answer) => wire.send(answer).await?,
            Err(error) => wire.send(response::Response::Error(error)).await?,
        }
    }
    Ok(())
}

/// Frames on a stream.
pub(crate) struct Wire {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// The next request; `None` when the caller has gone or is silent for too long.
    pub(crate) async fn next(&mut self) -> io::Result<Option<request::Request>> {
        loop {
            let whole = frame::decode::<Request>(&self.buffer)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if let Some((message, taken)) = whole {
                self.buffer.drain(..taken);
                let request = message.request;
                return request.map(Some).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "a request that this version lacks")
                });
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(0)) | Err(_) => return Ok(None),
                Ok(outcome) => outcome?,
            };
        }
    }

    /// One answer.
    pub(crate) async fn send(&mut self, answer: response::Response) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(&Response { response: Some(answer) }, &mut bytes);
        // somebody who does not read must not keep this task for ever
        let written = tokio::time::timeout(SILENCE, self.stream.write_all(&bytes)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn refuse(&mut self, error: admin::Error) -> io::Result<()> {
        self.send(response::Response::Error(error)).await
    }

    /// Waits until the caller closes his end. Cancel safe.
    pub(crate) async fn gone(&mut self) {
        let mut byte = [0; 1];
        // bytes that come while an answer is awaited are against the rules, and end the wait as well
        let _ = self.stream.read(&mut byte).await;
    }
}
