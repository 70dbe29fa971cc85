//! Opens a session with a PostgreSQL server: TLS, SCRAM, parameters, up to the first ReadyForQuery.
mod aside;
mod cancel;
mod connect;
mod conversation;
mod scram;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::ScramSha256;
use sluice_protocol::postgres::wire::{
    InvalidMessage, Report,
    back::{self, Authentication, TransactionStatus, kind},
    startup::ProtocolVersion,
    write,
};
use tokio::time::timeout;

use super::{SESSION_PATIENCE, Secret, UpstreamError, Upstreams};
use crate::{gate::ConnectPermit, tls::Stream};

pub use aside::Aside;
pub use cancel::UpstreamCancel;

use connect::Route;
use conversation::Conversation;

/// A server sends some fourteen parameters and a few notices before it is ready.
const MAX_MESSAGES: usize = 512;

/// What the client asked for and may have.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The database, as judged by the gate.
    pub database: String,
    /// Startup parameters that are passed on, without user, database and encoding.
    pub parameters: Vec<(String, String)>,
}

/// A session with a server that is ready for queries.
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// Bytes that came behind ReadyForQuery (notifications, parameter changes).
    pub ahead: BytesMut,
    /// What the server reported, in its order.
    pub parameters: Vec<(String, String)>,
    /// Its effective `search_path` (`SHOW search_path`).
    pub search_path: String,
    /// How to interrupt what it is doing.
    pub cancel: UpstreamCancel,
    /// Connections of Sluice's own to the same place.
    pub aside: Aside,
}

impl Upstreams {
    /// Dials the permit's target at the permit's address and logs in with the target's credential.
    ///
    /// # Errors
    /// [`UpstreamError`]: each of its own, safe to show. Not cancel safe: dropping the future closes the connection.
    pub async fn open_postgres(
        &self,
        permit: ConnectPermit,
        request: &Request,
    ) -> Result<Opened, UpstreamError> {
        let tls = self.tls(&permit.target().name)?;
        let postgres = permit.target().postgres().ok_or(UpstreamError::Unconfigured)?;
        let secret = self.secrets.target_password(&permit.target().name);
        let upstream = postgres.upstream.clone();
        let route = Arc::new(Route { upstream, address: permit.address(), tls });
        open(route, secret, request).await
    }
}

async fn open(
    route: Arc<Route>,
    secret: Option<Arc<Secret>>,
    request: &Request,
) -> Result<Opened, UpstreamError> {
    if secret.is_none() && route.upstream.password_file.is_some() {
        return Err(UpstreamError::NoSecret);
    }
    let socket = route.dial().await?;
    timeout(SESSION_PATIENCE, establish(socket, route, secret, request))
        .await
        .map_err(|_| UpstreamError::Late)?
}

async fn establish(
    socket: tokio::net::TcpStream,
    route: Arc<Route>,
    secret: Option<Arc<Secret>>,
    request: &Request,
) -> Result<Opened, UpstreamError> {
    let aside = Aside::new(Arc::clone(&route), secret.clone(), request.database.clone());
    let mut server = Conversation::new(route.secure(socket).await?);
    let mut out = Vec::with_capacity(256);
    // 3.0: no server between here and the next needs more, and poolers refuse what is newer.
    write::startup(ProtocolVersion::V3_0, parameters(&route.upstream.user, request), &mut out);
    server.send(&out).await?;
    authenticate(&mut server, secret.as_deref()).await?;
    let (parameters, (process, key)) = settle(&mut server).await?;
    let search_path = search_path(&mut server).await?;
    let Conversation { stream, ahead } = server;
    let cancel = UpstreamCancel::new(route, process, key);
    Ok(Opened { stream, ahead, parameters, search_path, cancel, aside })
}

/// The pins come last: nothing that a client asks for stands behind them.
fn parameters<'a>(user: &'a str, request: &'a Request) -> impl Iterator<Item = (&'a str, &'a str)> {
    let passed = request.parameters.iter().map(|(name, setting)| (name.as_str(), setting.as_str()));
    [("user", user), ("database", request.database.as_str())]
        .into_iter()
        .chain(passed)
        .chain([("client_encoding", "UTF8"), ("standard_conforming_strings", "on")])
}

/// SCRAM or nothing: a server that asks for the password in clear or by MD5 does not get it, and one that asks
/// for none although one is configured is not taken for the target.
async fn authenticate(server: &mut Conversation, secret: Option<&Secret>) -> Result<(), UpstreamError> {
    let body = next_authentication(server).await?;
    let mechanisms = match Authentication::read(&body).map_err(invalid)? {
        Authentication::Ok if secret.is_none() => return Ok(()),
        Authentication::Ok => return Err(UpstreamError::Unproven),
        Authentication::Sasl(mechanisms) => mechanisms,
        Authentication::Cleartext => return Err(UpstreamError::Method("password in clear".to_owned())),
        Authentication::Md5(_) => return Err(UpstreamError::Method("MD5".to_owned())),
        Authentication::Other(number) => return Err(UpstreamError::Method(format!("number {number}"))),
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            return Err(UpstreamError::Protocol("SASL without a beginning".to_owned()));
        }
    };
    let Some(secret) = secret else { return Err(UpstreamError::NoSecret) };
    let (mechanism, binding) = scram::choose(&mechanisms, &server.stream)?;
    let mut scram = ScramSha256::new(secret.expose(), binding);
    let mut out = Vec::with_capacity(256);
    write::sasl_initial_response(mechanism, scram.message(), &mut out);
    server.send(&out).await?;

    let body = next_authentication(server).await?;
    let Authentication::SaslContinue(challenge) = Authentication::read(&body).map_err(invalid)? else {
        return Err(UpstreamError::Unproven);
    };
    scram.update(challenge).map_err(UpstreamError::Impostor)?;
    out.clear();
    write::sasl_response(scram.message(), &mut out);
    server.send(&out).await?;

    let body = next_authentication(server).await?;
    let Authentication::SaslFinal(proof) = Authentication::read(&body).map_err(invalid)? else {
        return Err(UpstreamError::Unproven);
    };
    scram.finish(proof).map_err(UpstreamError::Impostor)?;
    let body = next_authentication(server).await?;
    match Authentication::read(&body).map_err(invalid)? {
        Authentication::Ok => Ok(()),
        _ => Err(UpstreamError::Protocol("no AuthenticationOk behind the proof".to_owned())),
    }
}

async fn next_authentication(server: &mut Conversation) -> Result<BytesMut, UpstreamError> {
    for _ in 0..MAX_MESSAGES {
        let (kind, body) = server.receive().await?;
        match kind {
            kind::AUTHENTICATION => return Ok(body),
            kind::ERROR => return Err(refused(&body)),
            kind::NOTICE | kind::NEGOTIATE => {}
            other => return Err(unexpected(other)),
        }
    }
    Err(UpstreamError::Protocol("notices without end".to_owned()))
}

type Settled = (Vec<(String, String)>, (u32, Vec<u8>));

/// From AuthenticationOk to ReadyForQuery.
async fn settle(server: &mut Conversation) -> Result<Settled, UpstreamError> {
    let mut parameters: Vec<(String, String)> = Vec::with_capacity(16);
    let mut cancel = None;
    for _ in 0..MAX_MESSAGES {
        let (kind, body) = server.receive().await?;
        match kind {
            kind::PARAMETER_STATUS => report(&mut parameters, &body)?,
            kind::BACKEND_KEY => {
                let (process, key) = back::backend_key_data(&body).map_err(invalid)?;
                cancel = Some((process, key.to_vec()));
            }
            kind::NOTICE => {}
            kind::ERROR => return Err(refused(&body)),
            kind::READY => {
                ready(&body)?;
                pinned(&parameters)?;
                // A pooler without cancel sends none; then there is nothing that a Ctrl-C could name.
                return Ok((parameters, cancel.unwrap_or_default()));
            }
            other => return Err(unexpected(other)),
        }
    }
    Err(UpstreamError::Protocol("no end of parameters and notices".to_owned()))
}

fn report(parameters: &mut Vec<(String, String)>, body: &[u8]) -> Result<(), UpstreamError> {
    let (name, setting) = back::parameter_status(body).map_err(invalid)?;
    match parameters.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => setting.clone_into(known),
        None => parameters.push((name.to_owned(), setting.to_owned())),
    }
    Ok(())
}

/// Everything that judges SQL relies on these two; a server that does not confirm them is not used.
fn pinned(parameters: &[(String, String)]) -> Result<(), UpstreamError> {
    for (name, wanted) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
        let found = parameters.iter().find(|(known, _)| known == name).map(|(_, setting)| setting.as_str());
        if found != Some(wanted) {
            return Err(UpstreamError::Protocol(format!("{name} is not {wanted}")));
        }
    }
    Ok(())
}

/// Asked by SHOW and not by a function: nothing in a schema can stand in its place.
async fn search_path(server: &mut Conversation) -> Result<String, UpstreamError> {
    let mut out = Vec::new();
    write::query("SHOW search_path", &mut out);
    server.send(&out).await?;
    let mut found = None;
    for _ in 0..MAX_MESSAGES {
        let (kind, body) = server.receive().await?;
        match kind {
            kind::DATA_ROW => found = Some(only_value(&body)?),
            kind::READY => {
                ready(&body)?;
                return found.ok_or_else(|| UpstreamError::Protocol("no answer to SHOW".to_owned()));
            }
            kind::ERROR => return Err(refused(&body)),
            kind::ROW_DESCRIPTION | kind::COMMAND_COMPLETE | kind::NOTICE | kind::PARAMETER_STATUS => {}
            other => return Err(unexpected(other)),
        }
    }
    Err(UpstreamError::Protocol("no end of the answer to SHOW".to_owned()))
}

/// A DataRow of one value.
fn only_value(body: &[u8]) -> Result<String, UpstreamError> {
    let bad = || UpstreamError::Protocol("the answer to SHOW is no single value".to_owned());
    let value = body.strip_prefix(&[0, 1]).ok_or_else(bad)?;
    let (length, value) = value.split_first_chunk::<4>().ok_or_else(bad)?;
    if usize::try_from(i32::from_be_bytes(*length)) != Ok(value.len()) {
        return Err(bad());
    }
    String::from_utf8(value.to_vec()).map_err(|_| bad())
}

fn ready(body: &[u8]) -> Result<(), UpstreamError> {
    match TransactionStatus::read(body).map_err(invalid)? {
        TransactionStatus::Idle => Ok(()),
        _ => Err(UpstreamError::Protocol("the session starts within a transaction".to_owned())),
    }
}

fn refused(body: &[u8]) -> UpstreamError {
    let report = match Report::parse(body) {
        Ok(report) => report,
        Err(error) => return invalid(error),
    };
    // Of a stranger's code only what looks like one goes on.
    let code: String = report.code().chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    match code.as_str() {
        "3D000" => UpstreamError::NoDatabase,
        c if c.starts_with("28") => UpstreamError::Credential { code },
        _ => UpstreamError::Refused { text: report.message().to_owned(), code },
    }
}

fn invalid(error: InvalidMessage) -> UpstreamError {
    UpstreamError::Protocol(error.to_string())
}

fn unexpected(kind: u8) -> UpstreamError {
    invalid(InvalidMessage::Unexpected(kind))
}
