//! The start: the guard stands before anything else does, and nothing is served that it does not hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::signalfd::SignalFd;
use sluice_config::{Config, MetricsListen, Target};

use super::integrity::{Found, Rounds};
use super::places::{guarded_ports, places, target_of};
use super::{Loader, fault, talk};
use crate::door::Door;
use crate::failure::Served;
use crate::grounds;
use crate::kernel::Guard;
use crate::lsm::Wish;
use crate::mode;
use crate::names::{Known, Resolver, now_s, wanted};
use crate::notify;
use crate::process;
use crate::proxy;
use crate::tell::Kept;
use crate::unix::Sockets;
use crate::watch::Watch;

/// The socket of `sluice`.
const SOCKET: &str = "sluice.sock";
/// systemd has let go of a listener by then.
const LET_GO: Duration = Duration::from_secs(1);

impl Loader {
    /// Guards the host; the proxy is not started yet.
    pub(crate) fn arm(
        path: &Path,
        served: &Served,
        unit: Option<&str>,
        signals: SignalFd,
    ) -> Result<Self, String> {
        let config = served.config.clone();
        let account = grounds::account(&config)?;
        grounds::directories(&config, account)?;
        let guarded = grounds::cgroup(&config)?;
        let found = Found::look(&config);
        let object = proxy::beside("sluice-ebpf.o");
        let mut guard =
            Guard::load(&object, &guarded, &config.guard.pins).map_err(fault("the guard does not stand"))?;
        guard.dismiss().map_err(fault("the guard"))?;
        let mut known = Known::read(&config);
        let standing = mode::read(&config.agent.state_dir, config.guard.mode, now_s());
        // before the programs stand: a host that observes is not closed for a moment, and the other way round
        guard.set_mode(standing.mode).map_err(fault("the guard"))?;
        let before = places(&config, &known);
        if !before.is_empty() {
            guard.protect(&before).map_err(fault("the guard"))?;
        }
        guard.guard_ports(&guarded_ports(&config)).map_err(fault("the guard"))?;
        guard.register_binder().map_err(fault("the guard"))?;
        guard.unregistered(config.guard.unregistered, &config.guard.ports).map_err(fault("the guard"))?;
        guard.attach().map_err(fault("the guard does not stand"))?;
        guard.defend(Wish::of(&config.guard));
        let port = port(&config)?;
        // before the bind: a listener is the proxy's own because the bind program has seen it
        guard.listen_at(port).map_err(fault("the guard"))?;
        // what was kept carries the marks of the maps that it was made under: with other maps it is nobody's listener
        let mut kept = notify::Kept::take();
        if !guard.goes_on() {
            kept.forget();
        }
        let listeners = listen(port, kept)?;
        guard.listen_at(port).map_err(fault("the guard"))?;
        guard.seat(&listeners).map_err(fault("the guard"))?;
        let admin = admin(&config)?;
        let metrics = metrics(&config)
            .inspect_err(|error| tracing::error!("metrics.listen: {error}; nobody is answered there"))
            .unwrap_or_default();
        let (wake, woken) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(fault("pipe"))?;
        let names = wanted(&config);
        let resolver =
            Resolver::start(names, config.guard.refresh, woken.into()).map_err(fault("the resolver"))?;
        // the first round before anybody is served: a host without its addresses is not guarded
        if let Ok(found) = resolver.rounds.recv_timeout(Duration::from_secs(10)) {
            known.update(&found, &config, now_s());
            known.keep(&config);
        }
        guard.protect(&places(&config, &known)).map_err(fault("the guard"))?;
        let mut tries = Kept::default();
        for event in guard.end_older() {
            tries.push(&event, &target_of(&config, &known, &event));
        }
        let watch = Watch::start(path, &config.policy.dir)
            .inspect_err(|error| tracing::warn!(%error, "changed files are not noticed; send SIGHUP"))
            .ok();
        let own = process::cgroup_of(std::process::id()).ok_or("this process is in no cgroup v2")?;
        let door = unit.map(|unit| Door::open(&config.agent.run_dir, unit, &own, account)).transpose()?;
        let mut loader = Self {
            path: path.to_owned(),
            cgroup: own.join("proxy"),
            next: None,
            offered: None,
            proxy: None,
            start_at: door.is_none().then(Instant::now),
            door,
            pause: talk::PAUSE,
            wake: wake.into(),
            sockets: Sockets::guard(&config, standing.mode == mode::Mode::Enforce, None),
            kept: tries,
            probed: None,
            rounds: Rounds::new(),
            mode_over: super::modes::over(&standing),
            standing,
            degraded: served.degraded.clone(),
            unprotected: String::new(),
            served: served.path.clone(),
            state: served.state.clone(),
            stopping: None,
            config,
            account,
            guard,
            listeners,
            admin,
            metrics,
            known,
            resolver,
            watch,
            signals,
        };
        loader.seal_sockets();
        loader.require()?;
        loader.gap(&found);
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
            .filter(|layer| layer.state == "absent")
            .filter(|layer| {
                let required = &self.config.guard.require;
                required.iter().any(|required| required.name() == layer.name)
                    || (layer.name == "lookup" && self.config.targets.iter().any(Target::is_ingress))
            })
            .map(|layer| format!("{} ({})", layer.name, layer.proof))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "guard.require, or a target with mode = \"ingress\", demands layers that are not enforced here: {}. This host is not \
             served; what the other layers hold stays closed. Do without them, or make them available",
            missing.join("; ")
        ))
    }
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

/// The proxy's listeners, on a port that nobody else may bind: those of the loader before this one, or new ones.
fn listen(port: u16, mut kept: notify::Kept) -> Result<Vec<OwnedFd>, String> {
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let wanted = addresses.map(|address| SocketAddr::new(address, port));
    let found = wanted.map(|address| kept.listener(name(address), address));
    kept.forget();
    let mut listeners = Vec::new();
    for (address, found) in wanted.into_iter().zip(found) {
        let listener = match found {
            Some(listener) => listener,
            None => match bind(address) {
                Ok(listener) => OwnedFd::from(listener),
                // a kernel without IPv6 has nobody who connects by it
                Err(e) if address.is_ipv6() && absent(&e) => continue,
                Err(e) => {
                    let hint = match e.kind() {
                        io::ErrorKind::PermissionDenied => {
                            "the program at the hook refuses it: another loader's stands there, or the kernel gives \
                             no socket storage"
                        }
                        _ => "another process listens there, end it first",
                    };
                    return Err(format!("{address} (guard.port): {e}; {hint}"));
                }
            },
        };
        notify::keep(name(address), listener.as_fd());
        listeners.push(listener);
    }
    Ok(listeners)
}

fn name(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// What was let go of a moment ago may still be systemd's.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && began.elapsed() < LET_GO => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
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

/// The listener of `metrics.listen`. A host is guarded also where monitoring is not answered.
fn metrics(config: &Config) -> Result<Option<OwnedFd>, String> {
    match &config.metrics.listen {
        None => Ok(None),
        Some(MetricsListen::Tcp(address)) => {
            let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
            Ok(Some(listener.into()))
        }
        Some(MetricsListen::Unix(path)) => {
            let at = |error: io::Error| format!("{}: {error}", path.display());
            // what another loader has left; anything else than a socket stays
            match fs::symlink_metadata(path) {
                Ok(there) if there.file_type().is_socket() => fs::remove_file(path).map_err(at)?,
                _ => {}
            }
            let listener = UnixListener::bind(path).map_err(at)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(at)?;
            Ok(Some(listener.into()))
        }
    }
}
