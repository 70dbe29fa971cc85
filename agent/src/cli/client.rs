//! The CLI's end of the admin socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sluice_api::admin::{Request, Response, request, response};
use sluice_api::frame;

use super::Failure;

/// How long an answer may take: longer than a probe of all layers.
const PATIENCE: Duration = Duration::from_secs(40);

/// A conversation with sluiced.
pub(super) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with what to do.
    pub(super) fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| Failure::Unreachable {
            what: format!("sluiced does not answer at {}: {error}", socket.display()),
            hint: match error.kind() {
                ErrorKind::NotFound => {
                    "is Sluice running? `systemctl status sluice-loader`; another socket: --socket or SLUICE_SOCKET"
                }
                ErrorKind::PermissionDenied => "the socket must be writable for everybody; ask the administrator",
                _ => "`systemctl status sluice-loader` and its log tell more",
            }
            .to_owned(),
        })?;
        // a proxy that is starting lets callers wait in its socket's queue; longer than this is a proxy that does not start
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// From now on the next answer may take as long as it likes.
    pub(super) fn wait_long(&self) -> Result<(), Failure> {
        Ok(self.stream.set_read_timeout(None)?)
    }

    /// Asks.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn send(&mut self, request: request::Request) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        frame::encode(&Request { request: Some(request) }, &mut bytes);
        self.stream.write_all(&bytes).map_err(lost)
    }

    /// The next answer; `None` after the last one.
    ///
    /// # Errors
    /// What sluiced says is wrong, or the connection failed.
    pub(super) fn next(&mut self) -> Result<Option<response::Response>, Failure> {
        loop {
            let whole =
                frame::decode::<Response>(&self.buffer).map_err(|e| Failure::Failed(e.to_string()))?;
            if let Some((message, taken)) = whole {
                self.buffer.drain(..taken);
                return match message.response {
                    Some(response::Response::Error(error)) => Err(Failure::Refused(error)),
                    Some(response::Response::Done(done)) if done.message.is_empty() => Ok(None),
                    Some(other) => Ok(Some(other)),
                    None => Err(Failure::Failed("sluiced answered what this `sluice` does not know".into())),
                };
            }
            let mut piece = [0; 16 << 10];
            let n = self.stream.read(&mut piece).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Unreachable {
                    what: format!("sluiced has not answered within {} s", PATIENCE.as_secs()),
                    hint: "it may be starting, or not start at all: see the log of sluice-loader".to_owned(),
                },
                _ => lost(error),
            })?;
            if n == 0 {
                return Err(Failure::Failed("sluiced ended the conversation".into()));
            }
            self.buffer.extend_from_slice(piece.get(..n).unwrap_or_default());
        }
    }

    /// Asks and takes the one answer.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub(super) fn ask(&mut self, request: request::Request) -> Result<response::Response, Failure> {
        self.send(request)?;
        self.next()?.ok_or_else(|| Failure::Failed("sluiced had nothing to say".into()))
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Failed(format!("the connection to sluiced was lost: {error}"))
}

/// Another answer than the one asked for.
pub(super) fn odd() -> Failure {
    Failure::Failed(
        "sluiced answered something else than what was asked; are both of the same release?".into(),
    )
}
