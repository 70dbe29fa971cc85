//! The first bytes: TLS, cancel, or the startup message.

use std::sync::Arc;

use rustls::ServerConfig;
use sluice_config::ClientTls;
use sluice_protocol::postgres::wire::Report;
use sluice_protocol::postgres::wire::frame::Head;
use sluice_protocol::postgres::wire::startup::{self, CancelRequest, MAX_STARTUP, Startup, StartupMessage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::tls::{ALPN_POSTGRESQL, Socket, Stream, Wire};

/// First byte of a TLS record with a handshake message (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The client's leg before there is a session.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    /// Bytes behind what was read.
    pub(super) ahead: Vec<u8>,
}

/// What a connection wants.
pub(super) enum Greeted {
    /// A session.
    Session(Client, StartupMessage),
    /// That another session stops what it does.
    Cancel(CancelRequest),
    /// Nothing: it closed.
    Gone,
}

impl Client {
    /// Sends messages of ours.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends the last words and closes.
    pub(super) async fn end(&mut self, bytes: &[u8]) {
        // whoever has gone does not hear it
        if self.send(bytes).await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }

    /// Waits until the client goes, or says something although it is not its turn. Cancel safe.
    pub(super) async fn gone(&mut self) {
        let mut byte = [0; 1];
        // either way there is nobody to wait for
        let _ = self.stream.read(&mut byte).await;
    }

    /// The next whole message of at most `limit` bytes: its type and body. `None`: the client has gone.
    pub(super) async fn message(&mut self, limit: usize) -> Result<Option<(u8, Vec<u8>)>, String> {
        loop {
            if let Some(head) = Head::read(&self.ahead).map_err(|e| e.to_string())? {
                let whole = head.total;
                if whole > limit {
                    return Err("a message that is too long".to_owned());
                }
                if self.ahead.len() >= whole {
                    let rest = self.ahead.split_off(whole);
                    let mut message = std::mem::replace(&mut self.ahead, rest);
                    let body = message.split_off(whole - head.body());
                    return Ok(message.first().map(|kind| (*kind, body)));
                }
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, String> {
        let mut piece = [0; 2048];
        let count = self.stream.read(&mut piece).await.map_err(|e| e.to_string())?;
        self.ahead.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

/// Reads up to the startup message. `tls` gives the certificate for the client's leg.
pub(super) async fn greet(
    mut socket: Socket,
    tls: impl Fn() -> Result<Arc<ServerConfig>, String>,
    required: ClientTls,
) -> Result<Greeted, String> {
    let accept = async |socket: Socket| {
        let config = tls().map_err(|e| format!("no certificate for the client's leg: {e}"))?;
        let stream =
            TlsAcceptor::from(config).accept(Wire::new(socket)).await.map_err(|e| format!("TLS: {e}"))?;
        Ok::<_, String>(stream)
    };
    let mut client = if socket.first_byte().await.map_err(|e| e.to_string())? == Some(TLS_HANDSHAKE) {
        let stream = accept(socket).await?;
        // without it a browser could be made to talk to us (ALPACA); PostgreSQL demands it too
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_POSTGRESQL) {
            return Err("direct TLS without ALPN `postgresql`".to_owned());
        }
        Client { stream: Stream::Tls(Box::new(stream.into())), ahead: Vec::new() }
    } else {
        Client { stream: Stream::Plain(socket), ahead: Vec::new() }
    };
    let mut asked_gss = false;
    loop {
        let (startup, taken) = match startup::read(&client.ahead) {
            Ok(Some(found)) => found,
            Ok(None) => {
                if !client.more().await? {
                    return Ok(Greeted::Gone);
                }
                if client.ahead.len() > MAX_STARTUP + 4096 {
                    return Err("a startup message without end".to_owned());
                }
                continue;
            }
            Err(error) => {
                let mut out = Vec::new();
                let why = format!("this is not understood: {error}");
                Report::new("FATAL", "08P01", why).write_error(&mut out);
                client.end(&out).await;
                return Err(error.to_string());
            }
        };
        client.ahead.drain(..taken);
        match startup {
            Startup::Gssenc if !asked_gss && client.ahead.is_empty() => {
                asked_gss = true;
                client.send(b"N").await.map_err(|e| e.to_string())?;
            }
            Startup::Ssl => {
                // what came in clear behind the request would be taken for encrypted (CVE-2021-23214)
                let Stream::Plain(mut socket) = client.stream else {
                    return Err("SSLRequest inside TLS".to_owned());
                };
                if !client.ahead.is_empty() {
                    return Err("bytes in clear behind SSLRequest".to_owned());
                }
                socket.write_all(b"S").await.map_err(|e| e.to_string())?;
                let stream = accept(socket).await?;
                client = Client { stream: Stream::Tls(Box::new(stream.into())), ahead: Vec::new() };
            }
            Startup::Gssenc => return Err("GSSENCRequest where it has no place".to_owned()),
            Startup::Cancel(request) => return Ok(Greeted::Cancel(request)),
            Startup::Start(_) if required == ClientTls::Require && !client.stream.is_tls() => {
                let mut out = Vec::new();
                Report::new("FATAL", "28000", "this target is reached by TLS alone")
                    .hint("Use sslmode=require or better (environment: PGSSLMODE).")
                    .write_error(&mut out);
                client.end(&out).await;
                return Err("a session without TLS".to_owned());
            }
            Startup::Start(message) => return Ok(Greeted::Session(client, message)),
        }
    }
}
