//! Unix sockets of services: what the loader, the guard and the proxy each have to know of them.

use sluice_api::handover::{self, from_loader};

use super::Loader;
use crate::unix::Sockets;

impl Loader {
    /// Of another configuration, or in another mode.
    pub(super) fn tend_sockets(&mut self, enforcing: bool) {
        let earlier = std::mem::take(&mut self.sockets);
        self.sockets = Sockets::guard(&self.config, enforcing, Some(earlier));
        self.seal_sockets();
        self.give_sockets(false);
    }

    /// Something has happened beside one of them.
    pub(super) fn look_at_sockets(&mut self) {
        self.sockets.look(&self.config);
        self.seal_sockets();
        self.give_sockets(false);
    }

    /// The services' own are closed to root as well, where the configuration says so and the layer `lsm` is there.
    pub(super) fn seal_sockets(&mut self) {
        let sealed = self.sockets.sealed(&self.config);
        if let Err(error) = self.guard.seal_sockets(&sealed) {
            tracing::error!(error, "root may reach services past Sluice by their Unix sockets");
        }
    }

    /// The proxy has the listeners that stand; `anew`: it is one that has none yet.
    pub(super) fn give_sockets(&mut self, anew: bool) {
        if self.proxy.as_ref().is_none_or(|proxy| !proxy.ready) {
            return;
        }
        let Some(served) = self.sockets.news_for_proxy(anew) else { return };
        let mut sockets = Vec::new();
        let mut descriptors = Vec::new();
        for (target, path, listener) in served {
            sockets.push(handover::Socket { target, path: path.display().to_string() });
            descriptors.push(listener);
        }
        self.say(from_loader::Message::Sockets(handover::Sockets { sockets }), descriptors);
    }
}
