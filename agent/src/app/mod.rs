//! The only place that wires rooms together: [`House`] is what a session may need, [`run`] is the life of the proxy.

mod doors;
mod reload;
mod run;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_config::{Config, Host, Target};
use sluice_policy::{Policy, Source};
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::fence::Fence;
use crate::gate::Gate;
use crate::identity::{Bindings, Identity};
use crate::intake::Inbound;
use crate::intake::link::LoaderLink;
use crate::lineage::Lineages;
use crate::masking::MaskKey;
use crate::recorder::Recorder;
use crate::services::postgres::Postgres;
use crate::ssh::{KnownHosts, SshAuthority};
use crate::tls::Authority;
use crate::upstream::{Secrets, Upstreams};

pub use run::{Start, run};

/// The configuration in force, with each target shared by the sessions that it serves.
pub struct Settings {
    /// As it stands in the file.
    pub config: Config,
    /// Its targets.
    pub targets: Vec<Arc<Target>>,
    /// Why the last good copy of the policy serves; empty: what stands in its files does.
    pub policy_fault: String,
}

impl Settings {
    /// Of a checked configuration.
    pub fn new(config: Config) -> Self {
        let targets = config.targets.iter().cloned().map(Arc::new).collect();
        Self { config, targets, policy_fault: String::new() }
    }

    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.iter().find(|target| target.name == name)
    }
}

/// Everything that a session may need. One a process.
pub struct House {
    /// Replaced as a whole by a reload.
    pub settings: ArcSwap<Settings>,
    /// The file it came from.
    pub config_path: PathBuf,
    /// Proves who is asking; replaced when the provider's section changes.
    pub identity: ArcSwap<Identity>,
    /// Who has logged in where.
    pub bindings: Arc<Bindings>,
    /// Judges every operation.
    pub gate: Arc<Gate>,
    /// Keeps what passed.
    pub recorder: Arc<Recorder>,
    /// Keeps what happened.
    pub audit: Arc<Audit>,
    /// Passwords at targets, from the loader's descriptors.
    pub secrets: Arc<Secrets>,
    /// The way to targets.
    pub upstreams: Arc<Upstreams>,
    /// Certificates for the client's leg.
    pub authority: Arc<Authority>,
    /// Host certificates for clients, user certificates for targets, of SSH.
    pub ssh_authority: Arc<SshAuthority>,
    /// Host keys of SSH targets that no configuration names.
    pub known_hosts: Arc<KnownHosts>,
    /// What the sessions with PostgreSQL share.
    pub postgres: Arc<Postgres>,
    /// What sessions execute, on its way into their recordings.
    pub lineages: Arc<Lineages>,
    /// What only root can know.
    pub link: Arc<LoaderLink>,
    /// Key of the joinable mask.
    pub mask_key: MaskKey,
    /// Connections at one time.
    pub connections: Arc<Semaphore>,
    /// Connections that have not logged in.
    pub unauthenticated: Arc<Semaphore>,
    /// Connections beyond, which are told that there is no room for them.
    pub turned_away: Arc<Semaphore>,
    /// What stands around this process.
    pub fence: Fence,
    /// Clock ticks per second, to compare start times of the kernel with those of /proc.
    pub ticks_per_second: u64,
    /// The port of the listeners: what is accepted at another one came to a guarded port of this host.
    pub own_port: u16,
}

impl House {
    /// The target that a connection wants.
    pub fn target_of(&self, inbound: &Inbound) -> Option<Arc<Target>> {
        if !inbound.ingress {
            return self.target_at(inbound.destination);
        }
        let settings = self.settings.load();
        let port = inbound.destination.port();
        let target =
            settings.targets.iter().find(|target| target.is_ingress() && target.ports.contains(&port));
        target.cloned()
    }

    /// The target behind an address that a connect was led away from: by its configured networks, or by what the loader resolved its names to.
    pub fn target_at(&self, destination: SocketAddr) -> Option<Arc<Target>> {
        let settings = self.settings.load();
        let by_network = settings.targets.iter().find(|target| {
            !target.is_ingress()
                && target.ports.contains(&destination.port())
                && target.hosts.iter().any(|h| matches!(h, Host::Network(n) if n.contains(&destination.ip())))
        });
        if let Some(target) = by_network {
            return Some(Arc::clone(target));
        }
        let name = self.link.destinations().iter().find_map(|entry| {
            let network: ipnet::IpNet = entry.network.parse().ok()?;
            let port = entry.port == 0 || entry.port == u32::from(destination.port());
            (port && network.contains(&destination.ip())).then(|| entry.target.clone())
        })?;
        settings.target(&name).cloned()
    }
}

/// Configuration and policy from their files.
///
/// # Errors
/// Every fault that was found, one below the other, each with file and line.
pub fn load(path: &Path) -> Result<(Config, Policy), String> {
    let join = |list: Vec<String>| list.join("\n");
    let config = Config::load(path).map_err(|d| join(d.iter().map(ToString::to_string).collect()))?;
    let policy = policy(&config)?;
    Ok((config, policy))
}

/// What a proxy starts with.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its policy, or the last good copy of it.
    pub policy: Policy,
    /// Why it is the copy; empty: it is not.
    pub policy_fault: String,
}

/// The same at a start, where a policy that is none is served by the last one that was: the loader keeps that, and root
/// alone can write it.
///
/// # Errors
/// As [`load`], where there is no such copy either.
pub fn start(path: &Path) -> Result<Loaded, String> {
    let join = |list: Vec<String>| list.join("\n");
    let config = Config::load(path).map_err(|d| join(d.iter().map(ToString::to_string).collect()))?;
    let wrong = match policy(&config) {
        Ok(policy) => return Ok(Loaded { config, policy, policy_fault: String::new() }),
        Err(wrong) => wrong,
    };
    let copy = sluice_config::good_policy(&config.agent.state_dir);
    match policy_in(&copy) {
        Ok(policy) => {
            let policy_fault = format!("{wrong}\nthe last good copy serves ({})", copy.display());
            tracing::error!("{policy_fault}");
            Ok(Loaded { config, policy, policy_fault })
        }
        Err(_) => Err(wrong),
    }
}

/// The policy of a configuration.
///
/// # Errors
/// As [`load`].
pub fn policy(config: &Config) -> Result<Policy, String> {
    policy_in(&config.policy.dir)
}

fn policy_in(dir: &Path) -> Result<Policy, String> {
    let join = |list: Vec<String>| list.join("\n");
    let texts =
        sluice_config::policy_sources(dir).map_err(|d| join(d.iter().map(ToString::to_string).collect()))?;
    let sources: Vec<_> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    Policy::load(&sources).map_err(|d| join(d.iter().map(ToString::to_string).collect()))
}
