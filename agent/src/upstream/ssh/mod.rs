//! Opens a session with an SSH server: its host key, our credential.
mod error;
mod follow;
mod host;
mod leg;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use russh::{Limits, SshId};
use sluice_config::{SshProof, Target};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use error::SshError;
pub use follow::{Ends, Follow};
pub use leg::{Incoming, IncomingKind, Leg};

use self::host::Expected;
use super::{CONNECT_PATIENCE, SESSION_PATIENCE, Secret, Secrets, Upstreams};
use crate::gate::ConnectPermit;
use crate::ssh::{Ahead, AtFull, Flows, KnownHosts, SshAuthority, WINDOW_REMOTE};

/// What both peers see as our software.
pub(crate) const IDENTIFICATION: &str = "SSH-2.0-Sluice";
/// Channels that the target wants to open and that nobody has looked at.
const MAX_INCOMING: usize = 16;
/// A target that says nothing is asked, and given up after the third time.
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const ALIVE_TRIES: usize = 3;
/// Messages of one channel that wait; bytes are bounded by [`Flows`].
pub(crate) const CHANNEL_MESSAGES: usize = 1 << 16;
/// Bytes after which keys are exchanged anew, below russh's own limit; and a time.
const REKEY_BYTES: usize = 1 << 29;
const REKEY_AFTER: Duration = Duration::from_secs(3600);

/// For whom a session is opened: what stands in the certificate.
pub struct Identity<'a> {
    /// Who the person is.
    pub subject: &'a str,
    /// Of which session.
    pub session: &'a str,
    /// The kernel is to know it too.
    pub follow: Follow<'a>,
}

/// A session with a target that has taken us for the account.
pub struct Opened {
    /// Opens channels.
    pub handle: Handle<Leg>,
    /// Channels that the target opens.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Counts what its channels bring.
    pub flows: Arc<Flows>,
    /// What the kernel can tell of what will run there; `None` where nobody wants to know.
    pub lineage: Option<sluice_api::record::Lineage>,
}

/// When keys are exchanged anew, on both legs.
pub(crate) fn limits() -> Limits {
    Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_AFTER)
}

impl Upstreams {
    /// Dials the permit's target at the permit's address and proves to be the permit's account.
    ///
    /// # Errors
    /// [`SshError`]: each of its own, safe to show. Not cancel safe: dropping the future closes the connection.
    pub async fn open_ssh(
        &self,
        permit: ConnectPermit,
        who: Identity<'_>,
        authority: &SshAuthority,
        known: &Arc<KnownHosts>,
    ) -> Result<Opened, SshError> {
        let target = permit.target();
        let proof = match &target.ssh().ok_or(SshError::Unconfigured)?.proof {
            SshProof::Certificate => {
                let issued = authority.user_certificate(who.subject, who.session, permit.account());
                let (key, certificate) = issued.map_err(SshError::Issue)?;
                Proof::Certificate(key, Box::new(certificate))
            }
            SshProof::Key(_) => {
                let secret = self.secrets.target_key(&target.name).ok_or(SshError::NoSecret)?;
                Proof::Key(private_key(&secret)?)
            }
            SshProof::Password(_) => {
                Proof::Password(self.secrets.target_password(&target.name).ok_or(SshError::NoSecret)?)
            }
        };
        let own = host_keys(target, &self.secrets)?;
        let expected = Expected::new(target, permit.address(), Arc::clone(known), &own)?;
        let place = Place { address: permit.address(), account: permit.account() };
        open(place, proof, expected, Some(&who.follow)).await
    }
}

enum Proof {
    Certificate(Arc<PrivateKey>, Box<russh::keys::Certificate>),
    Key(Arc<PrivateKey>),
    Password(Arc<Secret>),
}

/// The private host keys of a service of this host (`target.client.host_key_files`); none: it has none configured.
///
/// # Errors
/// [`SshError`] where one of them is not there or is no key: clients would see another key than before.
pub fn host_keys(target: &Target, secrets: &Secrets) -> Result<Vec<PrivateKey>, SshError> {
    let count = target.ssh().map_or(0, |ssh| ssh.host_key_files.len());
    let read = |index| {
        let secret =
            secrets.get(&format!("target/{}/hostkey/{index}", target.name)).ok_or(SshError::NoSecret)?;
        private_key(&secret).map(Arc::unwrap_or_clone)
    };
    (0..count).map(read).collect()
}

fn private_key(secret: &Secret) -> Result<Arc<PrivateKey>, SshError> {
    let key =
        PrivateKey::from_openssh(secret.expose()).map_err(|error| SshError::BadKey(error.to_string()))?;
    if key.is_encrypted() {
        return Err(SshError::BadKey("it is locked by a passphrase".to_owned()));
    }
    Ok(Arc::new(key))
}

/// Where to, and as whom.
struct Place<'a> {
    address: SocketAddr,
    account: &'a str,
}

async fn open(
    Place { address, account }: Place<'_>,
    proof: Proof,
    expected: Expected,
    follow: Option<&Follow<'_>>,
) -> Result<Opened, SshError> {
    let config = Arc::new(config(&expected));
    let connect = TcpStream::connect(address);
    let socket = timeout(CONNECT_PATIENCE, connect).await.map_err(|_| SshError::Late)?;
    let socket = socket.map_err(SshError::Unreachable)?;
    socket.set_nodelay(true).map_err(SshError::Unreachable)?;
    let ends = Ends::of(&socket).map_err(SshError::Unreachable)?;
    let flows = Flows::new(WINDOW_REMOTE, AtFull::Wait);
    let (sender, incoming) = mpsc::channel(MAX_INCOMING);
    let leg = Leg { expected, flows: Arc::clone(&flows), incoming: sender };
    let establish = async {
        let mut handle = client::connect_stream(config, Ahead::new(socket, BytesMut::new()), leg).await?;
        let lineage = match follow {
            Some(follow) => follow.begin(ends).await?,
            None => None,
        };
        authenticate(&mut handle, account, proof).await?;
        Ok::<_, SshError>((handle, lineage))
    };
    let (handle, lineage) = timeout(SESSION_PATIENCE, establish).await.map_err(|_| SshError::Late)??;
    Ok(Opened { handle, incoming, flows, lineage })
}

fn config(expected: &Expected) -> client::Config {
    client::Config {
        client_id: SshId::Standard(IDENTIFICATION.into()),
        limits: limits(),
        window_size: WINDOW_REMOTE,
        channel_buffer_size: CHANNEL_MESSAGES,
        preferred: crate::ssh::client(&expected.kinds(), expected.wants_certificates()),
        keepalive_interval: Some(ALIVE_INTERVAL),
        keepalive_max: ALIVE_TRIES,
        nodelay: true,
        ..client::Config::default()
    }
}

async fn authenticate(handle: &mut Handle<Leg>, account: &str, proof: Proof) -> Result<(), SshError> {
    let outcome = match proof {
        Proof::Certificate(key, certificate) => {
            handle.authenticate_openssh_cert(account, key, *certificate).await?
        }
        Proof::Key(key) => {
            let hash = if key.algorithm().is_rsa() { rsa_hash(handle).await? } else { None };
            handle.authenticate_publickey(account, PrivateKeyWithHashAlg::new(key, hash)).await?
        }
        Proof::Password(secret) => return by_password(handle, account, &secret).await,
    };
    match outcome {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { remaining_methods, .. } => Err(refused(&remaining_methods)),
    }
}

/// SHA-2, whatever the target has to say about SHA-1.
async fn rsa_hash(handle: &Handle<Leg>) -> Result<Option<russh::keys::HashAlg>, SshError> {
    let best = handle.best_supported_rsa_hash().await?.flatten();
    Ok(Some(best.unwrap_or(russh::keys::HashAlg::Sha512)))
}

/// `password`, and where a target takes it as the one answer of keyboard-interactive (PAM), that way.
async fn by_password(handle: &mut Handle<Leg>, account: &str, secret: &Secret) -> Result<(), SshError> {
    let unreadable = |_| SshError::BadKey("the password is not UTF-8".to_owned());
    let password = std::str::from_utf8(secret.expose()).map_err(unreadable)?;
    let methods = match handle.authenticate_password(account, password).await? {
        AuthResult::Success => return Ok(()),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !methods.contains(&russh::MethodKind::KeyboardInteractive) {
        return Err(refused(&methods));
    }
    let mut answer = handle.authenticate_keyboard_interactive_start(account, None).await?;
    // one question, and perhaps an empty one behind it
    let mut asked = false;
    for _ in 0..4 {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(()),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                return Err(refused(&remaining_methods));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // a question that shows its answer does not ask for a password
        let responses = match prompts.as_slice() {
            [] => Vec::new(),
            [one] if !one.echo && !asked => {
                asked = true;
                vec![password.to_owned()]
            }
            _ => break,
        };
        answer = handle.authenticate_keyboard_interactive_respond(responses).await?;
    }
    Err(SshError::Credential { offers: "answers that Sluice does not have".to_owned() })
}

fn refused(methods: &russh::MethodSet) -> SshError {
    let offers = methods.iter().map(<&str>::from).collect::<Vec<_>>().join(", ");
    SshError::Credential { offers }
}
