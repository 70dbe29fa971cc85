//! The life of the proxy, from the loader's first message to its last.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit};
use sluice_config::Config;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use super::doors::{self, UnixDoors};
use super::reload::Batches;
use super::{House, Loaded, Settings};
use crate::audit::{self, Audit};
use crate::fence::Fence;
use crate::gate::{Approvals, EndReason, Gate};
use crate::identity::Identity;
use crate::intake;
use crate::intake::link::{LoaderLink, News};
use crate::masking::MaskKey;
use crate::recorder::{Finding, Recorder};
use crate::services::postgres::{self, Postgres};
use crate::ssh::{KnownHosts, SshAuthority};
use crate::tls::Authority;
use crate::upstream::{Secrets, Upstreams};

/// The loader gives the secrets right after its first message; without them the targets stay closed.
const SECRETS_PATIENCE: Duration = Duration::from_secs(5);
/// Sessions in hand may go on for so long after [`News::Stop`]; the loader waits a little longer.
const FINISH_PATIENCE: Duration = Duration::from_secs(8);
/// Of these, what has just been accepted may take so long to be answered.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// After that, and when the loader is gone: to tell the clients and seal the recordings.
const SEAL_PATIENCE: Duration = Duration::from_secs(1);

/// Connections that are being told at one time that there is no room; more are closed without a word.
const TURNED_AWAY: u32 = 64;
/// Descriptors of a connection: the client, the target, the recording; and one to end it by, or to ask the target by.
const DESCRIPTORS_EACH: u64 = 4;
/// And of everything else, those who are turned away among it.
const OWN_DESCRIPTORS: u64 = 256;

/// What the process has before it has threads.
pub struct Start {
    /// `--config`.
    pub config_path: PathBuf,
    /// What stands there, and its policy.
    pub loaded: Loaded,
    /// The socket to the loader.
    pub loader: OwnedFd,
    /// What stands around the process.
    pub fence: Fence,
}

/// Serves until the loader says stop or is gone.
///
/// # Errors
/// In words, what kept it from serving.
pub async fn run(start: Start) -> Result<(), String> {
    let (link, endowment, mut news) =
        LoaderLink::begin(start.loader, &start.loaded.policy_fault).await.map_err(|e| chain(&e))?;
    let secrets = Arc::new(Secrets::default());
    let mut batches = Batches::default();
    let early = first_secrets(&secrets, &mut batches, &mut news).await;
    let listeners = endowment.listeners.into_iter().map(intake::listener);
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>().map_err(|e| chain(&e))?;
    let own_port =
        listeners.first().and_then(|listener| listener.local_addr().ok()).map_or(0, |at| at.port());
    let parts =
        Parts { link, secrets, fence: start.fence, ticks_per_second: endowment.ticks_per_second, own_port };
    let house = build(start.config_path, start.loaded, parts)?;

    tokio::spawn(Arc::clone(&house.audit).sync_forever());
    tokio::spawn(watch_recorder(Arc::clone(&house)));
    let admin = admin_socket(endowment.admin).map_err(|e| chain(&e))?;
    let mut doors = vec![tokio::spawn(crate::admin::serve(admin, Arc::clone(&house)))];
    let listen = house.settings.load().config.metrics.listen.clone();
    if let (Some(descriptor), Some(listen)) = (endowment.metrics, listen) {
        let serve = crate::metrics::serve(descriptor, listen, Arc::clone(&house));
        doors.push(tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "metrics.listen: nobody is answered there");
            }
        }));
    }
    for listener in listeners {
        let house = Arc::clone(&house);
        let serve = move |stream| doors::connection(Arc::clone(&house), stream);
        doors.push(tokio::spawn(intake::accept(listener, Arc::new(serve))));
    }
    tracing::info!(targets = house.settings.load().targets.len(), "serving");

    let mut unix = UnixDoors::default();
    for said in early {
        hear(&house, &mut batches, &mut unix, said).await;
    }
    // a stop of the unit, which the service manager asks for by a signal
    let mut stop = signal(SignalKind::terminate()).map_err(|e| chain(&e))?;
    let patience = loop {
        let said = tokio::select! {
            said = news.recv() => said,
            _ = stop.recv() => Some(News::Stop),
        };
        match said {
            Some(News::Stop) => break FINISH_PATIENCE,
            Some(said) => hear(&house, &mut batches, &mut unix, said).await,
            None => {
                tracing::error!("sluice-loader has gone; this proxy ends, the kernel keeps refusing");
                break Duration::ZERO;
            }
        }
    };
    doors.iter().for_each(tokio::task::JoinHandle::abort);
    drop(unix);
    finish(&house, patience).await;
    Ok(())
}

async fn hear(house: &Arc<House>, batches: &mut Batches, unix: &mut UnixDoors, said: News) {
    match said {
        News::Events(events) => house.kernel_events(&events).await,
        News::Executions(executions) => house.executions(executions).await,
        News::Run(run) => house.program_waits(run).await,
        News::Settled(settled) => house.link.settled(settled),
        News::Credentials { secrets, more } => {
            batches.take(&house.secrets, secrets, more);
        }
        News::Sockets(sockets) => unix.replace(house, sockets),
        News::Reload => {
            let outcome = house.reload();
            if let Err(error) = &outcome {
                tracing::error!("the new configuration is not in force:\n{error}");
            }
            house.link.reloaded(outcome).await;
        }
        News::Stop => {}
    }
}

/// Everything up to the last batch of secrets; what else came meanwhile is given back.
async fn first_secrets(
    secrets: &Secrets,
    batches: &mut Batches,
    news: &mut mpsc::Receiver<News>,
) -> Vec<News> {
    let mut others = Vec::new();
    let wait = async {
        while let Some(said) = news.recv().await {
            match said {
                News::Credentials { secrets: batch, more } => {
                    if batches.take(secrets, batch, more) {
                        return;
                    }
                }
                other => others.push(other),
            }
        }
    };
    if tokio::time::timeout(SECRETS_PATIENCE, wait).await.is_err() {
        tracing::error!("sluice-loader gave no secrets in time; targets that need one stay closed");
    }
    others
}

struct Parts {
    link: Arc<LoaderLink>,
    secrets: Arc<Secrets>,
    fence: Fence,
    ticks_per_second: u64,
    own_port: u16,
}

fn build(config_path: PathBuf, loaded: Loaded, parts: Parts) -> Result<Arc<House>, String> {
    let Loaded { config, policy, policy_fault } = loaded;
    let state = config.agent.state_dir.clone();
    let audit = Audit::start(&config.agent.log_dir).map_err(|e| chain(&e))?;
    let recorder = Recorder::start(&state, &config.recording).map_err(|e| chain(&e))?;
    for finding in recorder.findings() {
        let (what, session) = finding_words(finding);
        audit.record_now(&audit::recording_found(what, &session)).map_err(|e| chain(&e))?;
    }
    let ssh_authority = SshAuthority::open(&state.join("ca")).map_err(|e| chain(&e))?;
    let known_hosts = KnownHosts::open(&state.join("ssh")).map_err(|e| chain(&e))?;
    let names: Vec<_> =
        config.targets.iter().filter(|t| t.postgres().is_some()).map(postgres::names).collect();
    let authority = Authority::open(&state.join("ca"), &names).map_err(|e| chain(&e))?;
    let secret = parts.secrets.get("identity/client_secret");
    let identity = Identity::new(&config.identity, secret).map_err(|e| chain(&e))?;
    let permits =
        |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS)));
    let connections = most_connections(&config);
    if connections < config.limits.connections {
        tracing::warn!(
            connections,
            "limits.connections is more than the descriptors of this process allow: raise LimitNOFILE of the loader"
        );
    }
    let house = House {
        connections: permits(connections),
        unauthenticated: permits(config.limits.unauthenticated.min(connections)),
        turned_away: permits(TURNED_AWAY),
        mask_key: mask_key(&state.join("keys/mask.key"))?,
        gate: Gate::with_approvals(
            policy,
            Arc::clone(&audit),
            Approvals::kept_in(state.join("keys/grants.json")),
        ),
        upstreams: Arc::new(Upstreams::new(Arc::clone(&parts.secrets))),
        settings: ArcSwap::from_pointee(Settings { policy_fault, ..Settings::new(config) }),
        identity: ArcSwap::from_pointee(identity),
        bindings: Arc::default(),
        authority: Arc::new(authority),
        ssh_authority: Arc::new(ssh_authority),
        known_hosts: Arc::new(known_hosts),
        postgres: Postgres::new(),
        lineages: Arc::default(),
        secrets: parts.secrets,
        link: parts.link,
        fence: parts.fence,
        ticks_per_second: parts.ticks_per_second,
        own_port: parts.own_port,
        config_path,
        recorder,
        audit,
    };
    house.configure_targets(&house.settings.load());
    Ok(Arc::new(house))
}

/// `limits.connections`, or as many as there are descriptors for: whoever can't be served is to be told so, which takes
/// descriptors as well.
pub(super) fn most_connections(config: &Config) -> u32 {
    let descriptors = getrlimit(Resource::Nofile).current;
    most_by(descriptors).min(config.limits.connections)
}

fn most_by(descriptors: Option<u64>) -> u32 {
    let most = |all: u64| (all.saturating_sub(OWN_DESCRIPTORS) / DESCRIPTORS_EACH).max(1);
    descriptors.map_or(u32::MAX, |all| u32::try_from(most(all)).unwrap_or(u32::MAX))
}

fn finding_words(finding: &Finding) -> (&'static str, String) {
    match finding {
        Finding::Recovered(id, _) => ("recovered", id.to_string()),
        Finding::Broken(id, _) => ("broken", id.to_string()),
        Finding::Missing(id) => ("missing", id.to_string()),
    }
}

/// 32 random bytes of this host, made at the first start: masks of equal values stay equal after a restart.
fn mask_key(path: &Path) -> Result<MaskKey, String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let fault = |e: std::io::Error| format!("{}: {e}", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = vec![0; 32];
            let random = ring::rand::SystemRandom::new();
            ring::rand::SecureRandom::fill(&random, &mut bytes)
                .map_err(|_| "no random bytes from the kernel".to_owned())?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let file = file.as_mut().map_err(|e| format!("{}: {e}", path.display()))?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(fault)?;
            bytes
        }
        Err(e) => return Err(fault(e)),
    };
    let key: [u8; 32] = bytes.try_into().map_err(|_| {
        format!(
            "{}: not 32 bytes long; put back the right one, or remove it to have a new one",
            path.display()
        )
    })?;
    Ok(MaskKey::new(&key))
}

fn admin_socket(descriptor: OwnedFd) -> std::io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// A recorder that fails, or works again, is an event.
async fn watch_recorder(house: Arc<House>) {
    let mut health = house.recorder.watch();
    while health.changed().await.is_ok() {
        let state = health.borrow_and_update().clone();
        let Some(error) = state else { continue };
        if let Err(error) = house.audit.record_now(&audit::recorder_failed("", &error)) {
            tracing::error!(%error, "audit");
        }
    }
}

async fn finish(house: &House, patience: Duration) {
    // what was accepted a moment ago is no session yet, and is to have its answer
    let all = usize::try_from(most_connections(&house.settings.load().config)).unwrap_or(usize::MAX);
    let answered = async {
        while house.connections.available_permits() < all {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(ANSWER_PATIENCE.min(patience), answered).await;
    let gone = async {
        while house.gate.open_sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(patience, gone).await.is_ok() {
        return;
    }
    let ended = house.gate.end_sessions(&EndReason::Shutdown, |_, _| true);
    tracing::warn!(sessions = ended, "ending the sessions that are left");
    let sealed = async {
        while house.gate.open_sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(SEAL_PATIENCE, sealed).await.is_err() {
        tracing::error!("some recordings will be closed at the next start");
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::most_by;

    #[test]
    fn there_are_no_more_connections_than_descriptors_for_them() {
        assert_eq!(most_by(None), u32::MAX);
        assert_eq!(most_by(Some(1024)), 192);
        assert_eq!(most_by(Some(20_000)), 4936);
        assert_eq!(most_by(Some(64)), 1);
        assert_eq!(most_by(Some(u64::MAX)), u32::MAX);
    }
}
