//! The loop: signals, events of the kernel, the proxy's questions, names and files that change.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sluice_api::handover::{
    self, Credentials, Described, Destination, Destinations, Hello, Layers, from_loader, from_proxy,
};
use sluice_config::{Config, Host};

use crate::grounds::{self, Account};
use crate::kernel::{Guard, Layer, Place};
use crate::names::{Known, Resolver, now_s, wanted};
use crate::notify;
use crate::process;
use crate::proxy::{self, Heard, MAX_PACKET, Proxy};
use crate::tell::{Kept, cut};
use crate::watch::Watch;

/// Version of the conversation; both sides must name the same.
const VERSION: u32 = 1;
/// Descriptors in one packet of secrets.
const BATCH: usize = 64;
/// A proxy that ran for so long starts again at once.
const STEADY: Duration = Duration::from_secs(5);
/// Otherwise after this, doubled each time, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The proxy may finish its sessions for so long after a stop.
const FINISH: Duration = Duration::from_secs(10);
/// A proxy that has not answered the first message by then is ended.
const READY: Duration = Duration::from_secs(30);
/// Files are read again when nothing has changed for so long: an editor writes more than once.
const CALM: Duration = Duration::from_millis(300);
/// Events that are taken from the ring before others have their turn.
const EVENTS: usize = 128;
/// A probe holds for so long: it starts a process, and everybody may ask.
const FRESH: Duration = Duration::from_secs(1);

/// Everything that the loop holds.
pub(crate) struct Loader {
    path: PathBuf,
    config: Config,
    /// Read after a change, in force once the proxy has accepted it too.
    next: Option<Config>,
    account: Account,
    cgroup: PathBuf,
    guard: Guard,
    listeners: Vec<OwnedFd>,
    admin: OwnedFd,
    proxy: Option<Proxy>,
    start_at: Option<Instant>,
    pause: Duration,
    known: Known,
    resolver: Resolver,
    wake: File,
    watch: Option<Watch>,
    kept: Kept,
    probed: Option<(Instant, Vec<Layer>)>,
    signals: SignalFd,
    /// When the proxy has to be gone.
    stopping: Option<Instant>,
}

/// The socket of `sluice`.
pub(crate) const SOCKET: &str = "sluice.sock";

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
    /// Guards the host; the proxy is not started yet.
    pub(crate) fn arm(path: &Path, config: Config, signals: SignalFd) -> Result<Self, String> {
        let account = grounds::account(&config)?;
        grounds::directories(&config, account)?;
        let guarded = grounds::cgroup(&config)?;
        let object = proxy::beside("sluice-ebpf.o");
        let mut guard =
            Guard::load(&object, &guarded, &config.guard.pins).map_err(fault("the guard does not stand"))?;
        guard.dismiss().map_err(fault("the guard"))?;
        let mut known = Known::read(&config);
        let places = places(&config, &known);
        if !places.is_empty() {
            guard.protect(&places).map_err(fault("the guard"))?;
        }
        guard.register_binder().map_err(fault("the guard"))?;
        guard.attach().map_err(fault("the guard does not stand"))?;
        let port = port(&config)?;
        // before the bind: a listener is the proxy's own because the bind program has seen it
        guard.listen_at(port).map_err(fault("the guard"))?;
        let listeners = listen(port)?;
        guard.listened().map_err(fault("the guard"))?;
        let admin = admin(&config)?;
        let (wake, woken) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(fault("pipe"))?;
        let names = wanted(&config);
        let resolver =
            Resolver::start(names, config.guard.refresh, woken.into()).map_err(fault("the resolver"))?;
        // the first round before anybody is served: a host without its addresses is not guarded
        if let Ok(found) = resolver.rounds.recv_timeout(Duration::from_secs(10)) {
            known.update(&found, &config, now_s());
            known.keep(&config);
        }
        guard.protect(&self::places(&config, &known)).map_err(fault("the guard"))?;
        let watch = Watch::start(path, &config.policy.dir)
            .inspect_err(|error| tracing::warn!(%error, "changed files are not noticed; send SIGHUP"))
            .ok();
        let own = own_cgroup().ok_or("this process is in no cgroup v2")?;
        let mut loader = Self {
            path: path.to_owned(),
            cgroup: own.join("proxy"),
            next: None,
            proxy: None,
            start_at: Some(Instant::now()),
            pause: PAUSE,
            wake: wake.into(),
            kept: Kept::default(),
            probed: None,
            stopping: None,
            config,
            account,
            guard,
            listeners,
            admin,
            known,
            resolver,
            watch,
            signals,
        };
        loader.require()?;
        Ok(loader)
    }

    /// The floor of `guard.require`, by a live probe.
    fn require(&mut self) -> Result<(), String> {
        let layers = self.layers();
        for layer in &layers {
            tracing::info!(layer = layer.name, state = layer.state, proof = layer.proof, "probed");
        }
        let missing: Vec<String> = layers
            .iter()
            .filter(|layer| layer.state != "enforced")
            .filter(|layer| self.config.guard.require.iter().any(|required| required.name() == layer.name))
            .map(|layer| format!("{} ({})", layer.name, layer.proof))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "guard.require demands layers that are not enforced here: {}. This host is not served; what the other \
             layers hold stays closed. Take them out of guard.require, or make them available",
            missing.join("; ")
        ))
    }

    fn layers(&mut self) -> Vec<Layer> {
        if let Some((at, layers)) = &self.probed
            && at.elapsed() < FRESH
        {
            return layers.clone();
        }
        let layers = self.guard.probe();
        self.probed = Some((Instant::now(), layers.clone()));
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
            if ready.devices {
                self.guard.look_at_devices();
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
            if ready.proxy {
                self.hear(&mut buffer);
            }
            self.tend();
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
        ];
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
        let devices = self.guard.device_news().map(|news| {
            fds.push(PollFd::new(news, PollFlags::POLLIN));
            fds.len() - 1
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
        let any = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok(Ready {
            signals: any(0),
            events: any(1),
            names: any(2),
            files: files.is_some_and(any),
            proxy: proxy.is_some_and(any),
            devices: devices.is_some_and(any),
        })
    }

    fn timeout(&self) -> PollTimeout {
        let mut at = Instant::now() + Duration::from_secs(5);
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
        self.stopping = Some(Instant::now() + FINISH);
        if let Some(proxy) = &mut self.proxy
            && !proxy.send(from_loader::Message::Stop(handover::Stop {}), Vec::new())
        {
            proxy.kill();
        }
    }

    fn kernel_events(&mut self) {
        // no more than these at a time: whoever floods the ring must not keep the proxy waiting
        for _ in 0..EVENTS {
            let Some(event) = self.guard.next_event() else { break };
            let target = target_of(&self.config, &self.known, &event);
            self.kept.push(&event, &target);
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
        if let Err(error) = self.guard.protect(&places) {
            tracing::error!(%error, "the table of protected places could not be changed");
        }
        let list = destinations(&self.config, &self.known);
        self.say(from_loader::Message::Destinations(Destinations { destinations: list }), Vec::new());
    }

    fn say(&mut self, message: from_loader::Message, descriptors: Vec<OwnedFd>) {
        if let Some(proxy) = self.proxy.as_mut().filter(|proxy| proxy.ready)
            && !proxy.send(message, descriptors)
        {
            tracing::error!("sluiced does not read what it is told, and is ended");
            proxy.kill();
        }
    }

    /// SIGHUP, or files have changed.
    fn reread(&mut self) {
        match Config::load(&self.path) {
            Err(diagnostics) => {
                let text: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                tracing::error!("the new configuration is not in force:\n{}", text.join("\n"));
                // the proxy finds the same and puts it on record
                self.next = None;
            }
            Ok(config) => {
                if (&config.agent, &config.guard.cgroup, &config.guard.pins, config.guard.port)
                    != (
                        &self.config.agent,
                        &self.config.guard.cgroup,
                        &self.config.guard.pins,
                        self.config.guard.port,
                    )
                {
                    tracing::error!(
                        "{}: [agent], guard.cgroup, guard.pins and guard.port take effect by a restart of \
                         sluice-loader alone; nothing of the new configuration is in force",
                        self.path.display()
                    );
                    return;
                }
                self.next = Some(config);
            }
        }
        self.say(from_loader::Message::Reload(handover::Reload {}), Vec::new());
    }

    /// The proxy has taken the configuration that it was told to read.
    fn reloaded(&mut self, answer: &handover::Reloaded) {
        let Some(config) = self.next.take() else { return };
        if !answer.accepted {
            tracing::error!(
                "sluiced did not accept the new configuration; the old one stays:\n{}",
                answer.error
            );
            return;
        }
        self.resolver.order(wanted(&config), config.guard.refresh);
        self.config = config;
        if let Ok(watch) = Watch::start(&self.path, &self.config.policy.dir) {
            self.watch = Some(watch);
        }
        self.protect();
        self.credentials();
        tracing::info!("the new configuration is in force");
    }

    fn credentials(&mut self) {
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

    fn start(&mut self) {
        self.start_at = None;
        let program = proxy::program(self.config.agent.proxy.as_deref());
        match Proxy::start(&program, &self.path, self.account, &self.cgroup, &mut self.guard) {
            Ok(mut proxy) => {
                let hello = self.hello();
                let given: io::Result<Vec<OwnedFd>> =
                    self.listeners.iter().chain([&self.admin]).map(|fd| fd.try_clone()).collect();
                let greeted = given.is_ok_and(|given| proxy.send(from_loader::Message::Hello(hello), given));
                if !greeted {
                    proxy.kill();
                }
                self.proxy = Some(proxy);
            }
            Err(error) => {
                tracing::error!("sluiced does not start: {error}");
                self.again();
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            abi_version: sluice_abi::ABI_VERSION,
            listeners: vec!["ipv4".to_owned(), "ipv6".to_owned()][..self.listeners.len()].to_vec(),
            loader_version: env!("CARGO_PKG_VERSION").to_owned(),
            ticks_per_second: u32::try_from(process::ticks_per_second()).unwrap_or(100),
        }
    }

    /// Another proxy is to start, the later the more often it has failed.
    fn again(&mut self) {
        self.start_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    fn hear(&mut self, buffer: &mut [u8]) {
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
            from_proxy::Message::Ready(ready) => self.ready(ready.version),
            from_proxy::Message::Describe(asked) => {
                let lineage = cut(process::lineage(asked.pid, asked.start_ns));
                let described = Described { request: asked.request, lineage };
                self.say(from_loader::Message::Described(described), Vec::new());
            }
            from_proxy::Message::EventsSeen(seen) => self.kept.seen(seen.up_to),
            from_proxy::Message::ProbeLayers(asked) => {
                let layers = self.report(asked.request);
                self.say(from_loader::Message::Layers(layers), Vec::new());
            }
            from_proxy::Message::Reloaded(answer) => self.reloaded(&answer),
        }
    }

    fn ready(&mut self, version: u32) {
        let Some(proxy) = &mut self.proxy else { return };
        if version != VERSION {
            tracing::error!(version, "sluiced is of another release; install both of the same");
            proxy.kill();
            return;
        }
        proxy.ready = true;
        self.kept.start_over();
        self.credentials();
        let list = destinations(&self.config, &self.known);
        self.say(from_loader::Message::Destinations(Destinations { destinations: list }), Vec::new());
        self.tell_events();
    }

    fn report(&mut self, request: u64) -> Layers {
        let layers = self.layers().into_iter().map(|layer| handover::Layer {
            name: layer.name.to_owned(),
            state: layer.state.to_owned(),
            proof: layer.proof,
        });
        Layers {
            request,
            layers: layers.collect(),
            destinations: destinations(&self.config, &self.known),
            events_dropped: self.guard.dropped() + self.kept.lost(),
            cgroup: self.guard.cgroup().display().to_string(),
            armed_for_s: self.guard.armed_for().as_secs(),
        }
    }

    /// Looks after the proxy: has it ended, does it hang, has its time come?
    fn tend(&mut self) {
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
        if let Err(error) = self.guard.dismiss() {
            tracing::error!(%error, "the guard");
        }
        if self.stopping.is_some() {
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

/// What poll found.
struct Ready {
    signals: bool,
    events: bool,
    names: bool,
    files: bool,
    proxy: bool,
    devices: bool,
}

/// What is protected: every host of every target, at its ports.
fn places(config: &Config, known: &Known) -> Vec<Place> {
    let mut places = Vec::new();
    each(config, known, |index, network, port, _| {
        places.push(Place { network, port, target: u32::try_from(index).unwrap_or(u32::MAX) });
    });
    places
}

fn destinations(config: &Config, known: &Known) -> Vec<Destination> {
    let mut list = Vec::new();
    each(config, known, |index, network, port, name| {
        let target = config.targets.get(index).map(|target| target.name.clone()).unwrap_or_default();
        list.push(Destination {
            target,
            network: network.to_string(),
            port: u32::from(port),
            name: name.to_owned(),
        });
    });
    list
}

fn each(config: &Config, known: &Known, mut take: impl FnMut(usize, IpNet, u16, &str)) {
    for (index, target) in config.targets.iter().enumerate() {
        for port in &target.ports {
            for host in &target.hosts {
                match host {
                    Host::Network(network) => take(index, *network, *port, ""),
                    Host::Name(name) => known.of(name).for_each(|a| take(index, IpNet::from(a), *port, name)),
                }
            }
        }
    }
}

fn target_of(config: &Config, known: &Known, event: &crate::kernel::Event) -> String {
    let mut found = "";
    each(config, known, |index, network, port, _| {
        if network.contains(&event.address) && port == event.port {
            found = config.targets.get(index).map_or("", |target| target.name.as_str());
        }
    });
    found.to_owned()
}

/// `guard.port`, or the one that was chosen at the first start.
fn port(config: &Config) -> Result<u16, String> {
    if config.guard.port != 0 {
        return Ok(config.guard.port);
    }
    if let Some(port) = grounds::kept(config, "port").and_then(|text| text.trim().parse().ok()) {
        return Ok(port);
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let port = free.map_err(fault("choosing guard.port"))?.port();
    grounds::keep(config, "port", &port.to_string()).map_err(fault("keeping guard.port"))?;
    Ok(port)
}

/// The proxy's listeners, on a port that nobody else may bind.
fn listen(port: u16) -> Result<Vec<OwnedFd>, String> {
    let four = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| {
        format!("127.0.0.1:{port} (guard.port): {e}; another process listens there, end it first")
    })?;
    let mut listeners = vec![OwnedFd::from(four)];
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(six) => listeners.push(six.into()),
        // a kernel without IPv6 has nobody who connects by it
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {}
        Err(e) => return Err(format!("[::1]:{port} (guard.port): {e}")),
    }
    Ok(listeners)
}

fn admin(config: &Config) -> Result<OwnedFd, String> {
    let path = config.agent.run_dir.join(SOCKET);
    let at = |error: io::Error| format!("{}: {error}", path.display());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(at)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map_err(at)?;
    Ok(listener.into())
}

/// Directory of the cgroup that this process is in.
fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = grounds::cgroup_mount(&mounts)?;
    Some(root.join(own.trim_start_matches('/')))
}
