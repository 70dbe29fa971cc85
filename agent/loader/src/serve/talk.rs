//! The proxy: started, spoken to, and started again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sluice_api::handover::{self, Described, Hello, Layers, from_loader, from_proxy};

use super::Loader;
use crate::failure;
use crate::process;
use crate::proxy::{self, Heard, Proxy};
use crate::tell::cut;

/// Version of the conversation; both sides must name the same.
const VERSION: u32 = 1;
/// A proxy that ran for so long starts again at once.
const STEADY: Duration = Duration::from_secs(5);
/// Otherwise after this, doubled each time, up to [`MAX_PAUSE`].
pub(super) const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// A proxy that has not answered the first message by then is ended.
const READY: Duration = Duration::from_secs(30);

/// One line that the kernel has to say.
pub(super) fn words_of(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

impl Loader {
    pub(super) fn start(&mut self) {
        self.start_at = None;
        self.offered = failure::policy(&self.config);
        let program = proxy::program(self.config.agent.proxy.as_deref());
        match Proxy::start(&program, &self.served, self.account, &self.cgroup, &mut self.guard) {
            Ok(proxy) => self.greet(proxy),
            Err(error) => {
                tracing::error!("sluiced does not start: {error}");
                self.again();
            }
        }
    }

    /// The service manager has started a proxy.
    pub(super) fn welcome(&mut self) {
        let Some(door) = &self.door else { return };
        let program = proxy::program(self.config.agent.proxy.as_deref());
        let born = |pid, start| self.guard.is_of_manager(pid, start);
        let cgroup = door.cgroup.clone();
        // before the proxy reads it: it does so once it knows the configuration
        self.offered = failure::policy(&self.config);
        let come = match door.next(&program, born) {
            Some(Ok(guest)) => Proxy::welcome(guest, &cgroup, &mut self.guard),
            Some(Err(why)) => Err(why),
            None => return,
        };
        match come {
            // a stop waits for nobody new
            Ok(mut proxy) if self.stopping.is_some() => proxy.kill(),
            Ok(proxy) => self.greet(proxy),
            Err(why) => tracing::error!("somebody who is not sluiced was sent away: {why}"),
        }
    }

    fn greet(&mut self, mut proxy: Proxy) {
        let hello = self.hello();
        let given: io::Result<Vec<OwnedFd>> = self
            .listeners
            .iter()
            .chain([&self.admin])
            .chain(&self.metrics)
            .map(|fd| fd.try_clone())
            .collect();
        let greeted = given.is_ok_and(|given| proxy.send(from_loader::Message::Hello(hello), given));
        if !greeted {
            proxy.kill();
        }
        self.proxy = Some(proxy);
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            abi_version: sluice_abi::ABI_VERSION,
            listeners: vec!["ipv4".to_owned(), "ipv6".to_owned()][..self.listeners.len()].to_vec(),
            loader_version: env!("CARGO_PKG_VERSION").to_owned(),
            ticks_per_second: u32::try_from(process::ticks_per_second()).unwrap_or(100),
            metrics: self.metrics.is_some(),
            config: self.served.display().to_string(),
        }
    }

    /// Another proxy is to start, the later the more often it has failed.
    fn again(&mut self) {
        self.start_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    pub(super) fn hear(&mut self, buffer: &mut [u8]) {
        loop {
            let Some(proxy) = &mut self.proxy else { return };
            if !proxy.flush() {
                proxy.kill();
                return;
            }
            match proxy.hear(buffer) {
                Heard::Message(message) => self.answer(message),
                Heard::Nothing => return,
                Heard::Gone => {
                    // it ends, or it has closed its socket and is of no use any more
                    proxy.leave();
                    return;
                }
                Heard::Nonsense(what) => {
                    tracing::error!(what, "sluiced said what no proxy says, and is ended");
                    proxy.kill();
                    return;
                }
            }
        }
    }

    fn answer(&mut self, message: from_proxy::Message) {
        match message {
            from_proxy::Message::Ready(ready) => self.ready(&ready),
            from_proxy::Message::Describe(asked) => {
                let lineage = cut(process::lineage(asked.pid, asked.start_ns));
                let described = Described { request: asked.request, lineage };
                self.say(from_loader::Message::Described(described), Vec::new());
            }
            from_proxy::Message::EventsSeen(seen) => {
                self.kept.seen(seen.up_to);
                self.tell_events();
            }
            from_proxy::Message::ProbeLayers(asked) => {
                let layers = self.report(asked.request);
                self.say(from_loader::Message::Layers(layers), Vec::new());
            }
            from_proxy::Message::Reloaded(answer) => self.reloaded(&answer),
            from_proxy::Message::Follow(asked) => self.follow(&asked),
            from_proxy::Message::ExecutionsSeen(seen) => {
                self.guard.lineage().queue().seen(seen.up_to);
                self.tell_executions();
            }
            from_proxy::Message::Settle(asked) => self.settle(&asked),
            from_proxy::Message::SetMode(asked) => self.mode_wanted(asked),
            from_proxy::Message::Decided(decided) => {
                if let Some(hold) = self.guard.lineage().hold() {
                    hold.decided(decided.request, decided.allowed);
                }
            }
        }
    }

    fn ready(&mut self, said: &handover::Ready) {
        let Some(proxy) = &mut self.proxy else { return };
        let version = said.version;
        if version != VERSION {
            tracing::error!(version, "sluiced is of another release; install both of the same");
            proxy.kill();
            return;
        }
        proxy.ready = true;
        let offered = self.offered.take();
        if said.policy_fault.is_empty() {
            failure::keep_policy(&self.config, offered);
        } else {
            tracing::error!("{}", said.policy_fault.escape_debug());
        }
        self.kept.start_over();
        self.guard.lineage().queue().start_over();
        self.credentials();
        self.tell_destinations();
        self.give_sockets(true);
        self.tell_events();
        self.tell_executions();
    }

    fn report(&mut self, request: u64) -> Layers {
        let layers = self.layers();
        let layers = layers.into_iter().map(|layer| handover::Layer {
            name: layer.name.to_owned(),
            state: layer.state.to_owned(),
            proof: layer.proof,
            proven_us: self.rounds.proven_us(layer.name),
        });
        let dropped = self.guard.dropped() + self.kept.lost() + self.guard.lineage().queue().lost();
        Layers {
            request,
            layers: layers.collect(),
            events_dropped: dropped,
            cgroup: self.guard.cgroup().display().to_string(),
            armed_for_s: self.guard.armed_for().as_secs(),
            incidents: self.rounds.incidents(),
            standing: self.guard.standing(),
            mode: Some(self.mode_message()),
            degraded: [self.degraded.as_str(), &self.unprotected]
                .into_iter()
                .filter(|words| !words.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
            programs: self.programs(),
            boot_id: words_of("/proc/sys/kernel/random/boot_id"),
            kernel: words_of("/proc/sys/kernel/osrelease"),
            host: words_of("/proc/sys/kernel/hostname"),
        }
    }

    fn programs(&self) -> Vec<handover::Program> {
        let programs = self.guard.programs().into_iter();
        programs.map(|(name, tag)| handover::Program { name: name.to_owned(), tag }).collect()
    }

    /// Looks after the proxy: has it ended, does it hang, has its time come?
    pub(super) fn tend(&mut self) {
        let Some(proxy) = &mut self.proxy else { return };
        if !proxy.ready && proxy.since.elapsed() > READY {
            tracing::error!("sluiced does not answer, and is ended");
            proxy.kill();
        }
        if self.stopping.is_some_and(|at| at <= Instant::now()) {
            proxy.kill();
        }
        let Some(how) = proxy.ended() else { return };
        let (pid, steady) = (proxy.pid(), proxy.since.elapsed() > STEADY);
        self.proxy = None;
        // whoever could say yes to them has gone
        if let Some(hold) = self.guard.lineage().hold() {
            hold.refuse(None);
        }
        if let Err(error) = self.guard.dismiss() {
            tracing::error!(%error, "the guard");
        }
        if self.stopping.is_some() {
            return;
        }
        if self.door.is_some() {
            tracing::error!(
                pid,
                how,
                "sluiced has ended; nothing passes until its unit has started the next"
            );
            return;
        }
        tracing::error!(pid, how, "sluiced has ended; it is started again, nothing passes meanwhile");
        if steady {
            self.pause = PAUSE;
            self.start_at = Some(Instant::now());
        } else {
            self.again();
        }
    }
}
