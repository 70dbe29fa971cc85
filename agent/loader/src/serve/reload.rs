//! A configuration that has changed: in force here once the proxy has accepted it too.

use sluice_api::handover::{self, Credentials, from_loader};
use sluice_config::{Config, Target};

use super::Loader;
use crate::failure;
use crate::grounds;
use crate::lsm::Wish;
use crate::mode::Mode;
use crate::names::wanted;
use crate::proxy;
use crate::watch::Watch;

/// Descriptors in one packet of secrets.
const BATCH: usize = 64;

impl Loader {
    /// SIGHUP, or files have changed.
    pub(super) fn reread(&mut self) {
        match Config::load(&self.path) {
            Err(diagnostics) => {
                let text: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                tracing::error!("the new configuration is not in force:\n{}", text.join("\n"));
                // the proxy finds the same and puts it on record
                self.next = None;
            }
            // the proxy, too, reads another file than the copy only from its start on
            Ok(_) if !self.degraded.is_empty() => {
                tracing::warn!("the configuration can be read again: sluice-loader starts anew with it");
                self.stop();
                return;
            }
            Ok(config) => {
                if (
                    &config.agent,
                    &config.metrics,
                    &config.guard.cgroup,
                    &config.guard.pins,
                    config.guard.port,
                ) != (
                    &self.config.agent,
                    &self.config.metrics,
                    &self.config.guard.cgroup,
                    &self.config.guard.pins,
                    self.config.guard.port,
                ) {
                    tracing::error!(
                        "{}: [agent], [metrics], guard.cgroup, guard.pins and guard.port take effect by a restart of \
                         sluice-loader alone; nothing of the new configuration is in force",
                        self.path.display()
                    );
                    return;
                }
                if let Some(reason) = self.guard.no_lookup()
                    && config.targets.iter().any(Target::is_ingress)
                {
                    tracing::error!(
                        "{}: a target has mode = \"ingress\", which this host can't hold ({reason}); nothing of the new \
                         configuration is in force",
                        self.path.display()
                    );
                    return;
                }
                self.offered = failure::policy(&config);
                self.next = Some(config);
            }
        }
        self.say(from_loader::Message::Reload(handover::Reload {}), Vec::new());
    }

    /// The proxy has taken the configuration that it was told to read.
    pub(super) fn reloaded(&mut self, answer: &handover::Reloaded) {
        let Some(config) = self.next.take() else { return };
        if !answer.accepted {
            tracing::error!(
                "sluiced did not accept the new configuration; the old one stays:\n{}",
                answer.error
            );
            return;
        }
        self.resolver.order(wanted(&config), config.guard.refresh);
        self.guard.wish(Wish::of(&config.guard));
        self.config = config;
        failure::keep(&self.path, &self.config, &self.state);
        failure::keep_policy(&self.config, self.offered.take());
        self.tend_sockets(self.standing.mode == Mode::Enforce);
        if let Ok(watch) = Watch::start(&self.path, &self.config.policy.dir) {
            self.watch = Some(watch);
        }
        self.protect();
        self.credentials();
        tracing::info!("the new configuration is in force");
    }

    pub(super) fn credentials(&mut self) {
        let mut secrets = grounds::secrets(&self.config);
        loop {
            let rest = secrets.split_off(secrets.len().min(BATCH));
            let (names, files) = secrets.into_iter().unzip();
            let more = !rest.is_empty();
            let message = from_loader::Message::Credentials(Credentials { names, more });
            self.say(message, proxy::descriptors(files));
            if !more {
                return;
            }
            secrets = rest;
        }
    }
}
