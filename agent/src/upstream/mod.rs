//! The way to a target: the address and the credential come from the gate's permit alone.
//!
//! Enters: a [`ConnectPermit`] and what the client asked for. Leaves: an authenticated session with the target,
//! or an [`UpstreamError`] that may be shown to the user. Must hold: no target is dialled without a permit; the
//! secret leaves this room only as a proof; TLS is what the configuration says and never less.
//!
//! [`ConnectPermit`]: crate::gate::ConnectPermit
mod error;
pub mod postgres;
mod secret;
pub mod ssh;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use sluice_config::Target;

pub use error::UpstreamError;
pub use secret::{Secret, Secrets};
pub use tls::TargetTlsError;

use tls::TargetTls;

/// How long a target may take to accept the connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take from then until the session stands; a PostgreSQL server gives clients a minute.
const SESSION_PATIENCE: Duration = Duration::from_secs(30);

/// The targets' secrets and TLS settings, made once per configuration.
pub struct Upstreams {
    secrets: Arc<Secrets>,
    tls: RwLock<HashMap<String, Arc<TargetTls>>>,
}

impl Upstreams {
    /// With no target yet: see [`Self::configure`].
    pub fn new(secrets: Arc<Secrets>) -> Self {
        Self { secrets, tls: RwLock::default() }
    }

    /// Reads the targets' CA files and builds their TLS settings, at the start and at each reload.
    ///
    /// # Errors
    /// One entry for each target that has none now. Those without error are in force; a target that is broken is
    /// closed, also when earlier settings of it were good: they were another configuration's.
    pub fn configure(&self, targets: &[Arc<Target>]) -> Result<(), Vec<TargetTlsError>> {
        let mut errors = Vec::new();
        let mut built = HashMap::with_capacity(targets.len());
        let databases = targets.iter().filter_map(|t| t.postgres().map(|postgres| (t, postgres)));
        for (target, postgres) in databases {
            match TargetTls::new(target, &postgres.upstream) {
                Ok(tls) => drop(built.insert(target.name.clone(), Arc::new(tls))),
                Err(error) => errors.push(error),
            }
        }
        *self.tls.write() = built;
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The secrets, for whoever takes them from the loader.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    fn tls(&self, target: &str) -> Result<Arc<TargetTls>, UpstreamError> {
        self.tls.read().get(target).cloned().ok_or(UpstreamError::Unconfigured)
    }
}
