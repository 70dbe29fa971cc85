//! What the loader says while the proxy runs: other settings, secrets, tries that the kernel saw, the end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sluice_policy::{Context, Decision};

use super::{House, Settings, load};
use crate::audit::{self, Would};
use crate::identity::{BoundLogin, Identity};
use crate::services::postgres;
use crate::upstream::Secrets;

/// Secrets come in batches; what is not in the last ones is gone.
#[derive(Default)]
pub(super) struct Batches {
    names: Vec<String>,
}

impl Batches {
    /// Takes one batch; whether it was the last.
    pub(super) fn take(&mut self, secrets: &Secrets, batch: Vec<(String, OwnedFd)>, more: bool) -> bool {
        for (name, descriptor) in batch {
            if let Err(error) = secrets.load(&name, descriptor) {
                tracing::error!(%error, secret = name, "a secret could not be read; its target stays closed");
            }
            self.names.push(name);
        }
        if !more {
            secrets.keep_only(&std::mem::take(&mut self.names));
        }
        !more
    }
}

impl House {
    /// Reads configuration and policy again; both take effect, or neither does.
    ///
    /// # Errors
    /// What is wrong, with file and line; the old ones stay.
    pub fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload();
        let event = match &outcome {
            Ok(digest) => audit::reloaded(&self.config_path, digest),
            Err(error) => audit::reload_rejected(&self.config_path, error),
        };
        self.audit.record_now(&event).map_err(|e| e.to_string())?;
        outcome.map(drop)
    }

    fn try_reload(&self) -> Result<String, String> {
        let (config, policy) = load(&self.config_path)?;
        let old = self.settings.load();
        let limits = |c: &sluice_config::Config| (c.limits.connections, c.limits.unauthenticated);
        if config.agent != old.config.agent
            || config.metrics != old.config.metrics
            || limits(&config) != limits(&old.config)
        {
            return Err(format!(
                "{}: [agent], [metrics], limits.connections and limits.unauthenticated take effect by a restart of \
                 sluice-loader alone; nothing of the new configuration is in force",
                self.config_path.display()
            ));
        }
        let names: Vec<_> =
            config.targets.iter().filter(|t| t.postgres().is_some()).map(postgres::names).collect();
        self.authority.cover(&names).map_err(|e| super::run::chain(&e))?;
        if config.identity != old.config.identity {
            let secret = self.secrets.get("identity/client_secret");
            let identity = Identity::new(&config.identity, secret).map_err(|e| super::run::chain(&e))?;
            self.identity.store(Arc::new(identity));
        }
        let digest = policy.digest().to_owned();
        self.recorder.set(&config.recording);
        self.ssh_authority.forget();
        let settings = Arc::new(Settings::new(config));
        self.configure_targets(&settings);
        self.settings.store(settings);
        self.gate.replace(policy);
        Ok(digest)
    }

    /// TLS towards the targets; one that has no good settings is closed and said so.
    pub(super) fn configure_targets(&self, settings: &Settings) {
        for error in self.upstreams.configure(&settings.targets).err().unwrap_or_default() {
            tracing::error!(error = super::run::chain(&error), "a target is closed");
        }
    }

    /// Tries that the kernel saw go on record; only then the loader forgets them.
    pub(super) async fn kernel_events(&self, events: &sluice_api::handover::Events) {
        for seen in &events.events {
            let login = seen.verdict.starts_with("would-").then(|| self.bindings.find(&seen.lineage));
            let would = login.as_ref().map(|login| Would {
                who: login.as_deref().map(|login| &**login.principal()),
                verdict: self.would(seen, login.as_deref()),
            });
            while let Err(error) = self.audit.record_now(&audit::kernel(seen, would.as_ref())) {
                tracing::error!(%error, "an event of the kernel waits");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let count = events.events.len() as u64;
        if count > 0 {
            self.link.events_seen(events.first + count - 1).await;
        }
    }

    /// What would have been said to a try that was let pass.
    fn would(&self, seen: &sluice_api::handover::KernelEvent, login: Option<&BoundLogin>) -> String {
        if seen.verdict != "would-redirect" {
            return "refuse: only Sluice itself goes this way".to_owned();
        }
        let Some(target) = self.settings.load().target(&seen.target).cloned() else {
            return "refuse: no target is configured there".to_owned();
        };
        let Some(login) = login else { return "ask for a login".to_owned() };
        let process = seen.lineage.first();
        let context = Context {
            source: String::new(),
            uid: process.map_or(u32::MAX, |p| p.uid),
            tty: process.map(|p| p.tty.clone()).unwrap_or_default(),
            exe: process.map(|p| p.exe.clone()).unwrap_or_default(),
            authenticated_by: login.login.how.to_owned(),
            now_s: crate::gate::now_us() / 1_000_000,
            application: String::new(),
        };
        match self.gate.may_connect(login.principal(), &target, &context) {
            Decision::Permit(permission) => format!("permit ({})", permission.rules.join(", ")),
            Decision::Refuse(refusal) => format!("refuse ({})", refusal.rules.join(", ")),
        }
    }

    /// A program waits: its session asks the gate.
    pub(super) async fn program_waits(&self, run: sluice_api::handover::Run) {
        let request = run.request;
        if !self.lineages.ask(run).await {
            self.link.decided(request, false).await;
        }
    }

    /// What sessions execute goes into their recordings, else on record as an event; only then the loader forgets it.
    pub(super) async fn executions(&self, news: sluice_api::handover::Executions) {
        let (first, count) = (news.first, news.executions.len() as u64);
        for execution in news.executions {
            let Err(nobodys) = self.lineages.deliver(execution).await else { continue };
            let who = self.lineages.person(&nobodys.session);
            while let Err(error) = self.audit.record_now(&audit::executed(&nobodys, who.as_ref())) {
                tracing::error!(%error, "an execution waits");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if count > 0 {
            self.link.executions_seen(first + count - 1).await;
        }
    }
}
