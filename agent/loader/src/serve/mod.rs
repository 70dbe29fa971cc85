//! The loop: signals, events of the kernel, the proxy's questions, names and files that change.

mod arm;
mod follow;
mod integrity;
mod modes;
mod places;
mod reload;
mod sockets;
mod talk;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sluice_api::handover::{self, from_loader};
use sluice_config::Config;

use crate::door::Door;
use crate::failure::Texts;
use crate::grounds::Account;
use crate::kernel::{Event, Guard, Layer};
use crate::mode::Standing;
use crate::names::{Known, Resolver, now_s};
use crate::notify;
use crate::proxy::{MAX_PACKET, Proxy};
use crate::tell::Kept;
use crate::unix::Sockets;
use crate::watch::Watch;

use integrity::Rounds;
pub(crate) use places::places;
use places::{guarded_ports, target_of};

/// The proxy may finish its sessions for so long after a stop.
const FINISH: Duration = Duration::from_secs(10);
/// Files are read again when nothing has changed for so long: an editor writes more than once.
const CALM: Duration = Duration::from_millis(300);
/// Events that are taken from the ring before others have their turn.
const EVENTS: usize = 128;
/// A probe holds for so long: it starts a process, and everybody may ask.
const FRESH: Duration = Duration::from_secs(1);

/// Everything that the loop holds.
pub(crate) struct Loader {
    path: PathBuf,
    /// What the proxy reads: the same, or the last good copy.
    served: PathBuf,
    /// Under which that copy is kept.
    state: PathBuf,
    config: Config,
    /// Read after a change, in force once the proxy has accepted it too.
    next: Option<Config>,
    /// The policy as it was before the proxy was to read it.
    offered: Option<Texts>,
    account: Account,
    cgroup: PathBuf,
    guard: Guard,
    listeners: Vec<OwnedFd>,
    admin: OwnedFd,
    metrics: Option<OwnedFd>,
    proxy: Option<Proxy>,
    /// Where the service manager's proxy comes in; without one, this process starts the proxy itself.
    door: Option<Door>,
    start_at: Option<Instant>,
    pause: Duration,
    known: Known,
    resolver: Resolver,
    wake: File,
    watch: Option<Watch>,
    sockets: Sockets,
    kept: Kept,
    probed: Option<(Instant, Vec<Layer>)>,
    /// Whether it enforces.
    standing: Standing,
    /// When its time is over.
    mode_over: Option<Instant>,
    /// What is served with less than it should be.
    degraded: String,
    /// Why not everything that the targets name is protected; empty: it is.
    unprotected: String,
    /// When the guard was looked at, what was found, what was proven.
    rounds: Rounds,
    signals: SignalFd,
    /// When the proxy has to be gone.
    stopping: Option<Instant>,
}

fn fault<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Signals that the loop hears; to be called before the first thread.
pub(crate) fn signals() -> Result<SignalFd, String> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().map_err(fault("blocking signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fault("signalfd"))
}

impl Loader {
    fn layers(&mut self) -> Vec<Layer> {
        if let Some((at, layers)) = &self.probed
            && at.elapsed() < FRESH
        {
            return layers.clone();
        }
        let mut layers = self.guard.probe();
        layers.extend(self.sockets.layer());
        self.as_it_stands(&mut layers);
        self.probed = Some((Instant::now(), layers.clone()));
        self.proven(&layers);
        layers
    }

    /// Runs until SIGTERM or SIGINT.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        tracing::info!(cgroup = %self.guard.cgroup().display(), "guarding");
        let mut buffer = vec![0; MAX_PACKET + 1];
        loop {
            if self.start_at.is_some_and(|at| at <= Instant::now()) && self.stopping.is_none() {
                self.start();
            }
            let ready = self.wait()?;
            notify::alive();
            if ready.signals {
                self.signalled();
            }
            if ready.events {
                self.kernel_events();
            }
            if ready.mounts
                && let Some(hold) = self.guard.lineage().hold()
            {
                hold.look_at_mounts();
            }
            if ready.waiting {
                self.ask_for_programs();
            }
            if ready.lineage {
                self.executions();
            }
            if ready.devices {
                self.guard.look_at_devices();
            }
            if ready.sockets {
                self.look_at_sockets();
            }
            if ready.names {
                self.resolved();
            }
            if ready.files
                && let Some(watch) = &mut self.watch
            {
                watch.noticed();
            }
            if self.watch.as_mut().is_some_and(|watch| watch.calm_for(CALM)) {
                self.reread();
            }
            if ready.door {
                self.welcome();
            }
            if ready.proxy {
                self.hear(&mut buffer);
            }
            self.tend();
            self.look_after();
            if self.stopping.is_some() && self.proxy.is_none() {
                tracing::info!("stopped; what is protected stays closed until sluice-loader starts again");
                return Ok(());
            }
        }
    }

    fn wait(&mut self) -> Result<Ready, String> {
        let timeout = self.timeout();
        let events = self.guard.events();
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(events, PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.guard.lineage_news(), PollFlags::POLLIN),
        ];
        let waiting = self.guard.waiting().map(|waiting| {
            fds.push(PollFd::new(waiting, PollFlags::POLLIN));
            fds.len() - 1
        });
        let files = self.watch.as_ref().map(|watch| {
            fds.push(PollFd::new(watch.descriptor(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let proxy = self.proxy.as_ref().map(|proxy| {
            let (socket, writes) = proxy.socket();
            let flags = if writes { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
            fds.push(PollFd::new(socket, flags));
            fds.len() - 1
        });
        // whoever comes while there is a proxy waits until it has ended
        let door = self.door.as_ref().filter(|_| self.proxy.is_none()).map(|door| {
            fds.push(PollFd::new(door.socket(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let sockets = self.sockets.news().map(|news| {
            fds.push(PollFd::new(news, PollFlags::POLLIN));
            fds.len() - 1
        });
        let devices = self.guard.device_news().map(|news| {
            fds.push(PollFd::new(news, PollFlags::POLLIN));
            fds.len() - 1
        });
        let first_mounts = fds.len();
        fds.extend(self.guard.mounted().map(|table| PollFd::new(table, PollFlags::POLLPRI)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        let any = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok(Ready {
            signals: any(0),
            events: any(1),
            names: any(2),
            lineage: any(3),
            waiting: waiting.is_some_and(any),
            files: files.is_some_and(any),
            proxy: proxy.is_some_and(any),
            door: door.is_some_and(any),
            devices: devices.is_some_and(any),
            mounts: (first_mounts..fds.len()).any(any),
            sockets: sockets.is_some_and(any),
        })
    }

    fn timeout(&self) -> PollTimeout {
        let mut at = self.rounds.next();
        at = at.min(self.start_at.unwrap_or(at)).min(self.stopping.unwrap_or(at));
        if let Some(noticed) = self.watch.as_ref().and_then(Watch::since) {
            at = at.min(noticed + CALM);
        }
        let left = at.saturating_duration_since(Instant::now()).as_millis();
        // rounded up: a timeout of 0 would spin until the moment has come
        PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX)
    }

    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()) {
                Some(Signal::SIGHUP) => self.reread(),
                Some(Signal::SIGTERM | Signal::SIGINT) => self.stop(),
                // SIGCHLD: `tend` looks at the proxy
                _ => {}
            }
        }
    }

    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        notify::stopping();
        self.alive();
        self.stopping = Some(Instant::now() + FINISH);
        if let Some(proxy) = &mut self.proxy
            && !proxy.send(from_loader::Message::Stop(handover::Stop {}), Vec::new())
        {
            proxy.kill();
        }
    }

    fn kernel_events(&mut self) {
        // no more than these at a time: whoever floods the ring must not keep the proxy waiting
        let mut events: Vec<Event> = std::iter::from_fn(|| self.guard.next_event()).take(EVENTS).collect();
        self.guard.end_spoken(&mut events);
        self.keep(&events);
    }

    fn keep(&mut self, events: &[Event]) {
        for event in events {
            let target = target_of(&self.config, &self.known, event);
            self.kept.push(event, &target);
        }
        self.tell_events();
    }

    fn tell_events(&mut self) {
        let Some(proxy) = self.proxy.as_mut().filter(|proxy| proxy.ready) else { return };
        while let Some(batch) = self.kept.batch() {
            if !proxy.send(from_loader::Message::Events(batch), Vec::new()) {
                proxy.kill();
                return;
            }
        }
    }

    fn resolved(&mut self) {
        let mut byte = [0; 64];
        // one byte a round; it is readable
        let _ = self.wake.read(&mut byte);
        let mut changed = false;
        while let Ok(found) = self.resolver.rounds.try_recv() {
            changed |= self.known.update(&found, &self.config, now_s());
        }
        if changed {
            self.known.keep(&self.config);
            self.protect();
        }
    }

    fn protect(&mut self) {
        let places = places(&self.config, &self.known);
        let outcome = self.guard.protect(&places);
        self.protection(outcome.err().map(|error| error.to_string()));
        if let Err(error) = self.guard.guard_ports(&guarded_ports(&self.config)) {
            tracing::error!(%error, "the table of guarded ports could not be changed");
        }
        let guard = &self.config.guard;
        if let Err(error) = self.guard.unregistered(guard.unregistered, &guard.ports) {
            tracing::error!(%error, "the table of well-known ports could not be changed");
        }
        let ended = self.guard.end_older();
        self.keep(&ended);
        self.tell_destinations();
    }

    fn say(&mut self, message: from_loader::Message, descriptors: Vec<OwnedFd>) {
        if let Some(proxy) = self.proxy.as_mut().filter(|proxy| proxy.ready)
            && !proxy.send(message, descriptors)
        {
            tracing::error!("sluiced does not read what it is told, and is ended");
            proxy.kill();
        }
    }
}

/// What poll found.
struct Ready {
    signals: bool,
    events: bool,
    names: bool,
    lineage: bool,
    waiting: bool,
    files: bool,
    proxy: bool,
    door: bool,
    devices: bool,
    mounts: bool,
    sockets: bool,
}
